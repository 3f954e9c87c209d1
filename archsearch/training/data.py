"""Find, check, fingerprint and split the images to train on.

This module does not import torch and downloads nothing. A new data set is a function that returns
a `Dataset` and a row in `SOURCES`.
"""

import os
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from archsearch.core.task import Data
from archsearch.training.cifar import cifar10
from archsearch.training.image_folder import image_folder
from archsearch.training.images import (
    DATA_FOLDER_VARIABLE,
    DataError,
    Dataset,
    Images,
    Labels,
    in_memory,
    printable,
    refuse,
)

__all__ = ["SOURCES", "DataError", "Dataset", "Images", "describe", "load", "split"]

SPLIT_SEED = 20230417
"""All trials share one split, whatever their seeds, so that their accuracies can be compared."""

DIGITS = "datasets/data/digits.csv.gz"
"""The handwritten digits in the folder of scikit-learn."""


def load(name: str) -> Dataset:
    """The data set ``digits``, ``cifar10``, ``cifar10:PATH`` or ``imagefolder:PATH``.

    The process keeps the last one in memory: workers train many trials on the same data.

    Raises:
        DataError: there is no such data set, or files are missing, empty or unreadable; the
            message names them.
    """
    root = Path(os.environ.get(DATA_FOLDER_VARIABLE, "data"))
    return _load(name, root.expanduser().absolute())


@lru_cache(maxsize=1)
def _load(name: str, root: Path) -> Dataset:
    kind, path = kind_and_path(name, SOURCES, _NAMES)
    dataset = SOURCES[kind](name, path, root)
    _check_labels(dataset)
    return dataset


def kind_and_path(name: str, kinds: Collection[str], names: str) -> tuple[str, str]:
    """``imagefolder`` and ``PATH`` of ``imagefolder:PATH``; the path may be empty.

    Raises:
        DataError: it is none of ``kinds``, which the message calls ``names``, or the path cannot be
            stored as text.
    """
    kind, _, path = name.partition(":")
    if kind not in kinds:
        raise DataError(f"no data set is called {name!r}: wanted {names}")
    if printable(path) != path:
        raise DataError(
            f"the path of the data is stored as text, and {printable(path)} has other bytes than "
            "printable UTF-8: rename the folder, or give a link to it"
        )
    return kind, path


def _check_labels(dataset: Dataset) -> None:
    """Check that labels are indices of classes, and that each class has an image in each split."""
    problems, num = [], len(dataset.classes)
    for part, images in (("training", dataset.train), ("test", dataset.test)):
        labels = set(np.unique(images.labels).tolist())
        problems += [
            f"{dataset.source}: class {name!r} has no {part} image"
            for label, name in enumerate(dataset.classes)
            if label not in labels
        ]
        if unknown := sorted(labels - set(range(num))):
            problems.append(
                f"{dataset.source}: labels of {part} images must be 0 to {num - 1} for {num} "
                f"classes, got {', '.join(map(str, unknown))}"
            )
    refuse(problems)


def describe(name: str, val_fraction: float) -> Data:
    """The description of the data set ``name`` for records; counts after ``val_fraction`` is held
    out.

    Raises:
        DataError: as `load`, or a class is too small to hold out images of it.
    """
    dataset = load(name)
    train, val = split(dataset.train.labels, val_fraction, classes=dataset.classes)
    return Data(
        name=name,
        fingerprint=dataset.fingerprint,
        num_classes=len(dataset.classes),
        channels=dataset.channels,
        num_train=len(train),
        num_val=len(val),
        num_test=len(dataset.test),
        source=dataset.source,
        notes=dataset.notes,
    )


def load_verified(data: Data) -> Dataset:
    """The data set that ``data`` describes.

    Raises:
        DataError: it is missing or damaged, or its fingerprint differs.
    """
    dataset = load(data.name)
    check_fingerprint(dataset, len(dataset.train), len(dataset.test), data)
    return dataset


class _Fingerprinted(Protocol):
    @property
    def source(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...


def check_fingerprint(dataset: _Fingerprinted, num_train: int, num_test: int, data: Data) -> None:
    """Check that a data set of so many training (and held-out) and test images is ``data``.

    Raises:
        DataError: its fingerprint differs.
    """
    if dataset.fingerprint != data.fingerprint:
        raise DataError(
            f"{dataset.source} is not the data this trial was planned with: fingerprint "
            f"{dataset.fingerprint}, wanted {data.fingerprint}. "
            f"{_difference(num_train, num_test, data)}"
        )


def _difference(num_train: int, num_test: int, data: Data) -> str:
    """What changed between the planned data and the data set of today, and what to do."""
    planned = data.num_train + data.num_val
    counts = f"{planned:,} training and {data.num_test:,} test images"
    if (planned, data.num_test) == (num_train, num_test):
        return f"Both have {counts}: files or pixels differ. Train on it in another folder"
    return (
        f"It had {counts}, now {num_train:,} and {num_test:,}: images were added or removed, or "
        "an earlier version left some out. Train on it in another folder"
    )


def split(
    labels: Labels,
    val_fraction: float,
    data_fraction: float = 1.0,
    classes: Sequence[str] = (),
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices to train on and to validate on, stratified by class and the same for every trial.

    ``val_fraction`` of each class is held out; of the rest, ``data_fraction`` is trained on. A
    smaller ``data_fraction`` gives a subset of a larger one and leaves the validation split as is.
    ``classes`` are the names of the labels, for messages.

    Raises:
        DataError: classes have too few images to hold one out and keep one; the message names all.
    """
    train, val, problems = [], [], list[str]()
    for label in range(int(labels.max()) + 1):
        members = shuffled(np.flatnonzero(labels == label), label)
        num_val = max(1, round(val_fraction * len(members))) if val_fraction else 0
        if num_val >= len(members):
            name = f"{printable(classes[label])!r}" if classes else str(label)
            images = f"{len(members)} image{'' if len(members) == 1 else 's'}"
            problems.append(f"class {name} has {images}: too few to hold out {num_val}")
        num_train = max(1, round(data_fraction * (len(members) - num_val)))
        val.append(members[:num_val])
        train.append(members[num_val : num_val + num_train])
    refuse(problems)
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(val))


def shuffled(indices: NDArray[np.intp], label: int) -> NDArray[np.intp]:
    """``indices`` in an order that depends on the label, and is the same in all trials."""
    # numpy guarantees that RandomState's stream never changes; Generator's may.
    return np.random.RandomState((SPLIT_SEED + label) % 2**32).permutation(indices)


def _digits(name: str, path: str, root: Path) -> Dataset:  # noqa: ARG001
    """UCI's handwritten digits, 8x8 pixels in 16 gray levels, as included in scikit-learn.

    They have no official test split: a fixed fifth of each class is the test split.
    """
    if path:
        raise DataError(f"digits are built in and take no path, got {name!r}")
    table = digits_table()
    pixels = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = table[:, -1].astype(np.int64)
    rest, test = split(labels, val_fraction=0.2)
    return in_memory(
        name,
        "scikit-learn's copy of the UCI handwritten digits; a fixed fifth is the test split",
        tuple("0123456789"),
        Images(pixels[rest], (), labels[rest]),
        Images(pixels[test], (), labels[test]),
    )


@lru_cache(maxsize=1)
def digits_table() -> NDArray[np.float64]:
    """(1797, 65): the gray levels of each digit, 0 to 16, and its label."""
    return np.loadtxt(sklearn_file(DIGITS), delimiter=",")


def sklearn_file(path: str) -> Path:
    """A file of scikit-learn, which is not imported: that takes over a second in each process.

    Raises:
        DataError: scikit-learn is not installed.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("the digits are included in scikit-learn: install it with pip")
    return Path(package.origin).parent / path


SOURCES: dict[str, Callable[[str, str, Path], Dataset]] = {
    "digits": _digits,
    "cifar10": cifar10,
    "imagefolder": image_folder,
}
_NAMES = "digits, cifar10, cifar10:PATH or imagefolder:PATH"
