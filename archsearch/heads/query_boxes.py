"""Boxes as detectors with queries predict them: center and sides, as parts of the image's sides.

Such a box is ``x, y, width, height`` in the last dimension of a tensor, each from 0 to 1. Its
logits are the inverse of the sigmoid.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from archsearch.heads.boxes import Size

EPSILON = 1e-5
"""Logits are those of numbers at least this far from 0 and 1."""

TEMPERATURE = 10_000.0

FIRST_SIDE = 0.05
"""Sides of the boxes at the positions of the first level; they double from level to level."""

MARGIN = 0.01
"""Positions whose box has a number closer to 0 or 1 propose nothing."""


def logits(values: Tensor) -> Tensor:
    """The inverse of the sigmoid, finite also at 0 and 1."""
    values = values.clamp(0, 1)
    return (values.clamp(min=EPSILON) / (1 - values).clamp(min=EPSILON)).log()


def corners(boxes: Tensor) -> Tensor:
    """``x1, y1, x2, y2`` of boxes ``(..., 4)``, as parts of the image's sides."""
    center, sides = boxes.chunk(2, -1)
    return torch.cat((center - sides / 2, center + sides / 2), -1)


def centered(boxes: Tensor) -> Tensor:
    """The boxes ``(..., 4)`` of which `corners` are given."""
    low, high = boxes.chunk(2, -1)
    return torch.cat(((low + high) / 2, high - low), -1)


def in_parts(boxes: Tensor, size: Size) -> Tensor:
    """Boxes ``(M, 4)`` as parts of an image's sides, from ``x1, y1, x2, y2`` in its pixels."""
    height, width = size
    return centered(boxes / boxes.new_tensor((width, height, width, height)))


def sines(boxes: Tensor, width: int) -> Tensor:
    """Sines and cosines ``(..., 2 * width)`` of the numbers of boxes ``(..., 4)``, in turn.

    Each number has ``width / 2`` of them, at frequencies that fall from 1 to 1 / `TEMPERATURE`.
    """
    half = width // 2
    steps = torch.arange(half, device=boxes.device, dtype=torch.float32)
    frequencies = TEMPERATURE ** (-2 * (steps // 2) / half)
    angles = 2 * math.pi * boxes[..., None] * frequencies
    pairs = torch.stack((angles[..., 0::2].sin(), angles[..., 1::2].cos()), -1)
    return pairs.flatten(-3)


def token_boxes(valid: Tensor, shapes: Sequence[Size]) -> tuple[Tensor, Tensor]:
    """The logits ``(N, T, 4)`` of a box at each position, and ``(N, T)`` whether it is a proposal.

    Positions in the padding, and boxes at the border of the image, are none: their logits are 0.

    Args:
        valid: ``(N, T)`` bool, false in the padding.
        shapes: height and width of each level; T is the number of all positions.
    """
    levels = zip(torch.split(valid, [h * w for h, w in shapes], 1), shapes, strict=True)
    boxes = torch.cat([_level_boxes(part, shape, i) for i, (part, shape) in enumerate(levels)], 1)
    is_inside = ((boxes > MARGIN) & (boxes < 1 - MARGIN)).all(-1) & valid
    return logits(boxes).masked_fill(~is_inside[..., None], 0.0), is_inside


def _level_boxes(valid: Tensor, shape: Size, level: int) -> Tensor:
    """``(N, h * w, 4)`` in parts of the images without padding."""
    rows = torch.arange(shape[0], device=valid.device) + 0.5
    columns = torch.arange(shape[1], device=valid.device) + 0.5
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).flatten(0, 1)
    maps = valid.view(-1, *shape)
    sides = torch.stack((maps[:, 0].sum(1), maps[:, :, 0].sum(1)), -1).clamp(min=1)
    centers = grid / sides[:, None]
    return torch.cat((centers, torch.full_like(centers, FIRST_SIDE * 2**level)), -1)
