"""Boxes: overlap, deltas that lead from anchors to boxes, clipping.

A box is ``x1, y1, x2, y2`` in pixels, in the last dimension of a tensor; its area is
``(x2 - x1) * (y2 - y1)``.
"""

import math

import torch
from torch import Tensor

MAX_LOG_RATIO = math.log(1000 / 16)
"""Largest decoded logarithm of a side's growth, so that no side overflows."""

Size = tuple[int, int]
"""Height and width of an image in pixels."""

Weights = tuple[float, float, float, float]
"""Factors of the deltas of x, y, width and height, by which all four have a similar spread."""


def full_precision(x: Tensor) -> Tensor:
    """The tensor in float32 if it is in half precision, else as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def area(boxes: Tensor) -> Tensor:
    """Areas ``(...)`` of boxes ``(..., 4)``, in square pixels."""
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    return width * height


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union ``(A, B)`` of boxes ``(A, 4)`` and ``(B, 4)``; 0 for empty boxes."""
    shared = _shared(first, second)
    union = area(first)[:, None] + area(second) - shared
    return _ratio(shared, union)


def coverage(boxes: Tensor, regions: Tensor) -> Tensor:
    """The part ``(A, B)`` of each box ``(A, 4)`` that lies in each region ``(B, 4)``, 0 to 1."""
    return _ratio(_shared(boxes, regions), area(boxes)[:, None])


def _shared(first: Tensor, second: Tensor) -> Tensor:
    """Areas ``(A, B)`` of the intersections."""
    rows, columns = first.T[..., None], second.T.contiguous()  # one axis at a time is vectorized
    width, height = (
        (torch.minimum(rows[i + 2], columns[i + 2]) - torch.maximum(rows[i], columns[i])).clamp_(
            min=0
        )
        for i in (0, 1)
    )
    return width * height


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``, and 0 where both are 0."""
    return part / whole.clamp(min=torch.finfo(whole.dtype).tiny)


def is_empty(boxes: Tensor) -> Tensor:
    """Where boxes ``(..., 4)`` have a side that is not above 0, or a coordinate is no number."""
    return ~(boxes[..., 2:] > boxes[..., :2]).all(-1)


def clipped(boxes: Tensor, size: Size) -> Tensor:
    """Boxes ``(..., 4)`` cut at the borders of an image of this size."""
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack((x, y), -1).flatten(-2)


def encoded(boxes: Tensor, anchors: Tensor, weights: Weights) -> Tensor:
    """Deltas ``(..., 4)`` that lead from anchors to boxes (Girshick et al., CVPR 2014).

    The shift of the center in units of the anchor's sides, and the logarithm of the growth of the
    sides, times ``weights``. Boxes and anchors must not be empty.
    """
    center, sides = _centered(boxes)
    from_center, from_sides = _centered(anchors)
    deltas = torch.cat(((center - from_center) / from_sides, (sides / from_sides).log()), -1)
    return deltas * deltas.new_tensor(weights)


def decoded(deltas: Tensor, anchors: Tensor, weights: Weights) -> Tensor:
    """Boxes ``(..., 4)`` to which the deltas lead; sides grow at most by `MAX_LOG_RATIO`."""
    shift, growth = (deltas / deltas.new_tensor(weights)).chunk(2, -1)
    center, sides = _centered(anchors)
    center = center + shift * sides
    half = sides * growth.clamp(max=MAX_LOG_RATIO).exp() / 2
    return torch.cat((center - half, center + half), -1)


def _centered(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centers and sides, both ``(..., 2)``."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + sides / 2, sides


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """Generalized IoU of boxes ``(..., 4)``, -1 to 1 (Rezatofighi et al., CVPR 2019).

    The shapes of both are broadcast: ``(A, 1, 4)`` and ``(B, 4)`` give ``(A, B)``.
    """
    (low, high), (other_low, other_high) = first.chunk(2, -1), second.chunk(2, -1)
    pairs = (
        (torch.minimum(low, other_low), torch.maximum(high, other_high)),
        (torch.maximum(low, other_low), torch.minimum(high, other_high)),
    )
    hull, shared = ((upper - lower).clamp(min=0).prod(-1) for lower, upper in pairs)
    union = area(first) + area(second) - shared
    return _ratio(shared, union) - _ratio(hull - union, hull)
