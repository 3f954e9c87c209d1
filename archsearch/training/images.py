"""Data sets in memory, and what is common to their readers. Does not import torch."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archsearch.core.visible import visible

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

DATA_FOLDER_VARIABLE = "ARCHSEARCH_DATA"
"""Environment variable with the folder that is searched for `cifar10`; ./data without it."""

MIN_CROP_AREA = 0.08
"""Smallest share of the area that a random resized crop takes, as is usual on ImageNet."""

EVAL_CROP = 0.875
"""Share of the shorter side that the center crop of a photograph keeps (224 of 256)."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Per channel of pixels scaled to 0..1, the values in general use."""

MAX_PROBLEMS = 10
"""Problems that one message lists; it counts the rest."""


class DataError(ValueError):
    """Raised for data that cannot be trained on; the message names the file or folder."""


@dataclass(frozen=True)
class Images:
    """Labeled images of one split: pixels ``(N, C, H, W)`` in memory, or files to decode."""

    pixels: Pixels | None
    files: tuple[Path, ...]
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A data set as stored, before a validation split is held out of ``train``.

    ``mean`` and ``std`` are per channel, of pixels scaled to 0..1. ``notes`` say what the reader
    left out of the source.
    """

    name: str
    source: str
    classes: tuple[str, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Images
    test: Images
    fingerprint: str
    notes: tuple[str, ...] = ()


def printable(path: Path | str) -> str:
    r"""``path`` as text that every terminal and file can hold: other bytes become ``\xe9``."""
    text = str(path)
    if not text.isprintable():
        text = os.fsencode(text).decode("utf-8", "backslashreplace")
    return visible(text, kept="")


def refuse(problems: Sequence[str]) -> None:
    """Raise one DataError with all problems, if there are any."""
    if problems:
        rest = len(problems) - MAX_PROBLEMS
        more = [f"and {rest:,} more problems"] if rest > 0 else []
        raise DataError("\n".join([*problems[:MAX_PROBLEMS], *more]))


def read_file(file: Path) -> bytes:
    """The content of ``file``.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {printable(file)}: {error.strerror}") from error


def in_memory(
    name: str,
    source: str,
    classes: tuple[str, ...],
    train: Images,
    test: Images,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """A small data set whose fingerprint covers pixels and labels: equal images are equal data."""
    assert train.pixels is not None
    assert test.pixels is not None
    digest = hashlib.sha256()
    for array in (train.pixels, train.labels, test.pixels, test.labels):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    mean, std = _statistics(train.pixels)
    return Dataset(
        name,
        source,
        classes,
        train.pixels.shape[1],
        mean,
        std,
        train,
        test,
        digest.hexdigest()[:16],
        notes,
    )


def _statistics(pixels: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of pixels scaled to 0..1, from histograms."""
    values = np.arange(256) / 255
    counts = [np.bincount(pixels[:, c].ravel(), minlength=256) for c in range(pixels.shape[1])]
    means = [float(n @ values / n.sum()) for n in counts]
    return tuple(means), tuple(
        float(np.sqrt(n @ (values - m) ** 2 / n.sum())) or 1.0
        for n, m in zip(counts, means, strict=True)
    )
