"""Masks of an image and of the square grid of a box: cropped as targets, pasted as predictions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from archsearch.heads.boxes import Size

THRESHOLD = 0.5
"""The part of a bin that must be covered, and the probability of a predicted pixel."""

_PASTED_TOGETHER = 8
"""Masks whose probabilities in the image are in memory at once."""


def cropped(masks: Tensor, index: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Which bins of boxes are covered by at least half: ``(R, side, side)``, 0.0 or 1.0.

    The covered area of a bin is exact: differences of the integral of the mask, which is linear
    between the corners of pixels.

    Args:
        masks: ``(M, H, W)`` bool.
        index: ``(R,)`` the mask of each box.
        boxes: ``(R, 4)`` in pixels of the masks; a part outside them is not covered.
        side: number of bins per axis.
    """
    height, width = masks.shape[1:]
    integral = masks.cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32)
    integral = F.pad(integral, (1, 0, 1, 0))
    rows, row_weights = _between(boxes[:, 1], boxes[:, 3], height, side)
    columns, column_weights = _between(boxes[:, 0], boxes[:, 2], width, side)
    corners = integral[
        index[:, None, None, None, None], rows[:, :, None, :, None], columns[:, None, :, None, :]
    ]
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    areas = (corners * weights).sum((3, 4)).diff(dim=1).diff(dim=2)
    sides = (boxes[:, 2:] - boxes[:, :2]).double() / side
    return (areas >= THRESHOLD * sides.prod(1)[:, None, None]).float()


def _between(low: Tensor, high: Tensor, size: int, side: int) -> tuple[Tensor, Tensor]:
    """Index and weight ``(R, side + 1, 2)`` of the corners of pixels around each edge of a bin."""
    steps = torch.arange(side + 1, device=low.device).double() / side
    edges = (low[:, None] + (high - low)[:, None] * steps).clamp(0, size)
    before = edges.floor().clamp(max=max(size - 1, 0))
    part = edges - before
    corners = torch.stack((before, before + 1), -1).long()
    return corners, torch.stack((1 - part, part), -1)


def pasted(masks: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Masks in the image ``(M, H, W)``, bool: bilinear between the centers of bins, 0 outside.

    Args:
        masks: ``(M, side, side)`` probabilities in the bins of each box.
        boxes: ``(M, 4)`` in pixels, not empty.
        size: height and width of the image.
    """
    image = torch.zeros(len(masks), *size, dtype=torch.bool, device=masks.device)
    with torch.autocast(masks.device.type, enabled=False):  # positions need full precision
        for start in range(0, len(masks), _PASTED_TOGETHER):
            part = slice(start, start + _PASTED_TOGETHER)
            x1, y1, x2, y2 = boxes[part].unbind(1)
            rows = _resampling(y1, y2, size[0], masks.shape[1])
            columns = _resampling(x1, x2, size[1], masks.shape[2])
            image[part] = rows @ masks[part] @ columns.mT >= THRESHOLD
    return image


def _resampling(low: Tensor, high: Tensor, size: int, side: int) -> Tensor:
    """Weights ``(M, size, side)`` of the bins at the center of each pixel of an axis."""
    pixels = torch.arange(size, device=low.device) + 0.5
    bins = torch.arange(side, device=low.device) + 0.5
    position = (pixels - low[:, None]) / (high - low)[:, None] * side
    return (1 - (position[:, :, None] - bins).abs()).clamp(min=0)
