"""What the weights of a network know beside its configuration. Does not import torch."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

_KEYS = ("class_names", "image_size", "channels", "mean", "std", "variant", "recipe", "commit")


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input: a square of ``image_size`` pixels, scaled to 0..1, normalized.

    ``mean`` and ``std`` are per channel. One number each means that images are made gray and given
    to the network as three equal channels.

    Raises:
        ValueError: every wrong field, all in one error.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        problems = []
        if self.image_size < 1:
            problems.append(f"image_size: wanted 1 or more, got {self.image_size}")
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            counts = f"{len(self.mean)} and {len(self.std)}"
            problems.append(f"mean and std: wanted 1 or 3 numbers each, got {counts}")
        if not all(map(math.isfinite, self.mean)) or not all(0 < s < math.inf for s in self.std):
            problems.append(f"wanted a finite mean and a positive std, got {self.mean}, {self.std}")
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


def to_metadata(description: Description) -> dict[str, str]:
    """What is known, by name, each as JSON, for the metadata of a file."""
    d, values = description, dict[str, Any]()
    if d.preprocessing is not None:
        values = vars(d.preprocessing) | {"channels": len(d.preprocessing.mean)}
    values |= {key: getattr(d, key) for key in ("class_names", "variant", "recipe", "commit")}
    return {key: json.dumps(values[key]) for key in _KEYS if values.get(key)}


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
