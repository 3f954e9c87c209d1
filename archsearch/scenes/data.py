"""Find, describe and split data sets of annotated images.

This module does not import torch and downloads nothing. A new data set is a function that returns
a `SceneSet` and a row in `SOURCES`.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from archsearch.core.task import Data
from archsearch.scenes.ade20k import ade20k
from archsearch.scenes.coco import coco
from archsearch.scenes.pasted import pasted
from archsearch.scenes.scene import SceneSet
from archsearch.training.data import check_fingerprint, kind_and_path, shuffled
from archsearch.training.images import DataError

Annotation = Literal["boxes", "masks", "label maps"]
"""What a task trains on."""

Indices = NDArray[np.intp]


def load(name: str) -> SceneSet:
    """The data set ``pasted``, ``pasted:images=N``, ``coco:DIR`` or ``ade20k:DIR``.

    The process keeps the last one.

    Raises:
        DataError: there is no such data set, or files are missing, damaged or contradict each
            other; the message names them.
    """
    return _load(name)


@lru_cache(maxsize=1)
def _load(name: str) -> SceneSet:
    kind, path = kind_and_path(name, SOURCES, _NAMES)
    return SOURCES[kind](name, path)


def describe(name: str, val_fraction: float, annotation: Annotation) -> Data:
    """The description of the data set ``name`` for records; counts after ``val_fraction`` is held
    out.

    Raises:
        DataError: as `load`, or it lacks this kind of annotation, or is too small to hold out
            images.
    """
    scenes = load(name)
    train, val = split(scenes, val_fraction)
    return Data(
        name=name,
        fingerprint=scenes.fingerprint,
        num_classes=len(classes(scenes, annotation)),
        channels=3,
        num_train=len(train),
        num_val=len(val),
        num_test=len(scenes.test),
        source=scenes.source,
        notes=scenes.notes,
    )


def classes(scenes: SceneSet, annotation: Annotation) -> tuple[str, ...]:
    """The names of the classes of objects, or of label maps.

    Raises:
        DataError: the data set has no annotation of this kind.
    """
    names = scenes.map_classes if annotation == "label maps" else scenes.classes
    if not names or (annotation == "masks" and not scenes.has_masks):
        raise DataError(
            f"{scenes.source} has no {annotation} to train on: wanted {_WITH[annotation]}"
        )
    return names


def load_verified(data: Data) -> SceneSet:
    """The data set that ``data`` describes.

    Raises:
        DataError: it is missing or damaged, or its fingerprint differs.
    """
    scenes = load(data.name)
    check_fingerprint(scenes, _num_trainable(scenes), len(scenes.test), data)
    return scenes


def _num_trainable(scenes: SceneSet) -> int:
    return len(scenes.train) - scenes.num_held_out


def split(
    scenes: SceneSet, val_fraction: float, data_fraction: float = 1.0
) -> tuple[Indices, Indices]:
    """Indices of the images to train on and to validate on, the same for every trial.

    ``val_fraction`` of the images is held out; of the rest, ``data_fraction`` is trained on. A
    smaller ``data_fraction`` gives a subset of a larger one and leaves the validation split as is.

    Raises:
        DataError: there are too few images to hold one out and keep one.
    """
    num = _num_trainable(scenes)
    order = shuffled(np.arange(num), 0)
    num_val = max(1, round(val_fraction * num)) if val_fraction else 0
    if num_val >= num:
        raise DataError(f"{scenes.source} has {num} training images: too few to hold out {num_val}")
    num_train = max(1, round(data_fraction * (num - num_val)))
    held_out = order[:num_val] + (num if scenes.num_held_out else 0)
    return np.sort(order[num_val : num_val + num_train]), np.sort(held_out)


SOURCES: dict[str, Callable[[str, str], SceneSet]] = {
    "pasted": pasted,
    "coco": coco,
    "ade20k": ade20k,
}
_NAMES = "pasted, pasted:images=N, coco:DIR or ade20k:DIR"
_WITH: dict[Annotation, str] = {
    "boxes": "pasted or coco:DIR",
    "masks": "pasted, or coco:DIR with segmentations",
    "label maps": "pasted or ade20k:DIR",
}
