"""The annotations of an image as readers give them, in numpy. Does not import torch.

M is the number of objects of an image, which may be 0; H and W are the sides of the image.
"""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Masks = NDArray[np.bool_]

IGNORED = 255
"""The value of a label map where no class is annotated: no loss, and no part of the mIoU."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The annotated objects of one image.

    Args:
        boxes: ``(M, 4)`` float32, ``x1, y1, x2, y2`` in pixels; ``x2 - x1`` is the width.
        labels: ``(M,)`` int64, from 0; there is no background label.
        masks: ``(M, H, W)`` bool, or None for data without masks.
        crowd: ``(M,)`` bool, true for regions of many objects that are not annotated one by one.
        areas: ``(M,)`` float32, the pixels of each object in the original image, as annotated:
            they decide which objects are small. Transforms leave them as they are.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: Masks | None
    crowd: NDArray[np.bool_]
    areas: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: NDArray[np.bool_ | np.intp]) -> Self:
        """The objects at these indices, or where this ``(M,)`` bool is true."""
        masks = None if self.masks is None else self.masks[index]
        rest = (self.labels[index], masks, self.crowd[index], self.areas[index])
        return type(self)(self.boxes[index], *rest)


@dataclass(frozen=True, eq=False)
class Scene:
    """One image ``(H, W, 3)`` with its objects, its label map ``(H, W)`` uint8, or both.

    Values of the label map are classes from 0, and `IGNORED`.
    """

    pixels: Pixels
    objects: Objects | None = None
    label_map: Pixels | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]


class Scenes(Protocol):
    """The images of one split, each read when it is used."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Scene: ...


@dataclass(frozen=True)
class SceneSet:
    """A data set of annotated images, before a validation split is held out of ``train``.

    ``classes`` are those of objects, ``map_classes`` those of label maps; empty without either.
    The last ``num_held_out`` images of ``train`` serve only for validation: one of them can
    replace each image before. ``notes`` say what the reader left out of the source. ``in_files``
    if images are decoded, which several processes do.
    """

    name: str
    source: str
    classes: tuple[str, ...]
    map_classes: tuple[str, ...]
    has_masks: bool
    train: Scenes
    test: Scenes
    fingerprint: str
    notes: tuple[str, ...] = ()
    num_held_out: int = 0
    in_files: bool = False


def tight_boxes(masks: Masks) -> NDArray[np.float32]:
    """The smallest boxes ``(M, 4)`` around masks ``(M, H, W)``; zeros for an empty mask."""
    (left, right), (top, bottom) = _extent(masks.max(1)), _extent(masks.max(2))
    return np.stack([left, top, right, bottom], axis=1).astype(np.float32)


def _extent(covered: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First true index of each row, and the one after the last; zeros for a row without any."""
    length = covered.shape[1]
    first, last = covered.argmax(1), length - covered[:, ::-1].argmax(1)
    return np.where(covered.any(1), first, 0), np.where(covered.any(1), last, 0)
