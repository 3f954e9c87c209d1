"""The objects of one image: what an annotation says, and what a detector predicts.

M is the number of objects of the image, which may be 0; H and W are the sides of the image.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar, Self

import torch
from torch import Tensor

MIN_SCORE, NMS_IOU, NUM_DETECTIONS = 0.05, 0.5, 100
"""Detections of an image: lowest score, threshold of the suppression per class, largest number."""


class _PerObject:
    """Base of both: tensors of M entries each, which are checked, moved and selected together."""

    forms: ClassVar[dict[str, str]] = {"boxes": "M, 4", "masks": "M, H, W"}

    def __post_init__(self) -> None:
        tensors = self.tensors()
        num_objects = len(tensors["boxes"])
        problems = [
            f"{name} must be ({form}), got {tuple(values.shape)}"
            for name, values in tensors.items()
            if not _has_form(values, form := self.forms.get(name, "M,"), num_objects)
        ]
        if problems:
            raise ValueError(f"not the objects of one image: {'; '.join(problems)}")

    def tensors(self) -> dict[str, Tensor]:
        """Field name -> tensor, without masks that are None."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if value is not None}

    def __len__(self) -> int:
        return len(self.tensors()["boxes"])

    def __getitem__(self, index: Tensor | slice) -> Self:
        """The objects at these indices, or where this ``(M,)`` bool is true."""
        return self._mapped(lambda values: values[index])

    def to(self, device: torch.device | str) -> Self:
        """The same objects on another device."""
        return self._mapped(lambda values: values.to(device))

    def _mapped(self, function: Callable[[Tensor], Tensor]) -> Self:
        changed = {name: function(values) for name, values in self.tensors().items()}
        return type(self)(**{"masks": None, **changed})


def _has_form(values: Tensor, form: str, num_objects: int) -> bool:
    """Whether the shape is ``form``, in which M is ``num_objects`` and H and W are any sizes."""
    sizes = [part.strip() for part in form.split(",") if part]
    wanted = [num_objects if size == "M" else int(size) if size == "4" else None for size in sizes]
    return len(wanted) == values.ndim and all(
        size in (None, got) for size, got in zip(wanted, values.shape, strict=True)
    )


@dataclass(frozen=True, eq=False)
class Instances(_PerObject):
    """The annotated objects of one image.

    Args:
        boxes: ``(M, 4)`` float32, ``x1, y1, x2, y2`` in pixels of the image as it is given to the
            network; ``x2 - x1`` is the width.
        labels: ``(M,)`` int64, from 0 to the number of classes - 1; there is no background label.
        masks: ``(M, H, W)`` bool, or None for data without masks.
        crowd: ``(M,)`` bool, true for regions of many objects that are not annotated one by one
            (COCO's ``iscrowd``): they are never a target, and predictions inside are not errors.

    Raises:
        ValueError: a tensor has another shape.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None
    crowd: Tensor


@dataclass(frozen=True, eq=False)
class Detections(_PerObject):
    """The predicted objects of one image, by falling score.

    Args:
        boxes: ``(M, 4)`` float32, ``x1, y1, x2, y2`` in pixels.
        scores: ``(M,)`` float32, from 0 to 1.
        labels: ``(M,)`` int64, from 0.
        masks: ``(M, H, W)`` bool, or None for detectors without masks.

    Raises:
        ValueError: a tensor has another shape.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None
