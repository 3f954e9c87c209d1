"""What the weights of a network know beside its configuration. Does not import torch."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

import msgspec

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input.

    The center square, of ``crop`` times the shorter side, is resized to ``image_size`` pixels by
    ``interpolation`` as pillow does it, scaled to 0..1, and normalized by ``mean`` and ``std`` per
    channel. One number each means that images are made gray, and given to the network as three
    equal channels.

    Raises:
        ValueError: every wrong field, all in one error.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float = 1.0
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        problems = []
        if self.image_size < 1:
            problems.append(f"image_size: wanted 1 or more, got {self.image_size}")
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            counts = f"{len(self.mean)} and {len(self.std)}"
            problems.append(f"mean and std: wanted 1 or 3 numbers each, got {counts}")
        if not all(map(math.isfinite, self.mean)) or not all(0 < s < math.inf for s in self.std):
            problems.append(f"wanted a finite mean and a positive std, got {self.mean}, {self.std}")
        if not 0 < self.crop <= 1:
            problems.append(f"crop: wanted a share of the shorter side, got {self.crop}")
        if problems:
            raise ValueError("not a preprocessing: " + "; ".join(problems))


@dataclass(frozen=True)
class Description:
    """What a network was trained for, and by what; everything may be unknown.

    ``variant`` is the name of its numbers, such as 64-16-4-18, ``recipe`` the digest of the
    training's settings, and ``commit`` that of the code that trained it.
    """

    class_names: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    variant: str = ""
    recipe: str = ""
    commit: str = ""


UNKNOWN = Description()


def description_of(model: object) -> Description:
    """What a network of any family knows; nothing if it holds no description."""
    description = getattr(model, "description", None)
    return description if isinstance(description, Description) else UNKNOWN


def to_metadata(description: Description) -> dict[str, str]:
    """What is known, by name, each as JSON, for the metadata of a file."""
    values = {**vars(description)}
    preprocessing = values.pop("preprocessing")
    if preprocessing is not None:
        values |= vars(preprocessing) | {"channels": len(preprocessing.mean)}
    return {key: json.dumps(value) for key, value in values.items() if value}


def from_metadata(metadata: Mapping[str, str]) -> Description:
    """The description in the metadata of a file; nothing is known of files without one.

    Raises:
        ValueError: an entry is not what `to_metadata` writes.
    """
    try:
        values = {key: json.loads(metadata[key]) for key in _KEYS if key in metadata}
        preprocessing = None
        if "image_size" in values:
            preprocessing = msgspec.convert(values, Preprocessing)
        return msgspec.convert(values | {"preprocessing": preprocessing}, Description)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a description of a network: {error}") from error


_KEYS = [field.name for kind in (Preprocessing, Description) for field in fields(kind)]
