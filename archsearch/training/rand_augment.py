"""RandAugment for a batch: every image gets two different operations, drawn for it alone.

Operations, ranges and arithmetic are those of kornia's RandAugment at magnitude 27 of 30 ("m9" of
the released recipe counts to 10); there the operations are drawn per call, here per image. They are
drawn on the host, so each step knows which images share an operation: the batch is sorted by
operation, and each operation changes its part of the batch in place. Nothing waits for the device.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, radians, sin, tan
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]

NUM_OPERATIONS_PER_IMAGE = 2
ANGLE = radians(27)
SHEAR = tan(radians(48.6))
"""kornia reads 0.9 of its range of 0.3 as a share of 180 degrees: 48.6."""

SHIFT = 0.09
"""Translation as a share of the side."""

FACTOR = 1.72
"""Of contrast, color and sharpness, where 1 changes nothing; brightness adds 0.72."""

SOLARIZE_THRESHOLD, SOLARIZE_ADDITION = 0.9, 0.387
POSTERIZE_STEP = 16
"""Four of eight bits are kept."""

EPSILON = 1e-6


def rand_augment(images: Tensor) -> Tensor:
    """Images ``(N, 3, H, W)`` in 0..1 after two operations each, in the order of the input."""
    device, num_images = images.device, len(images)
    positions = np.arange(num_images)
    for operations, chances in zip(*_draw(num_images), strict=True):
        order = np.argsort(operations[positions], kind="stable")
        positions = positions[order]
        images = images.index_select(0, to_device(order, device))
        _apply(images, operations[positions], chances[positions])
    return images.index_select(0, to_device(np.argsort(positions), device))


def to_device(values: NDArray[np.generic], device: torch.device) -> Tensor:
    """A tensor on the device; the host does not wait for the copy."""
    return torch.from_numpy(values).to(device, non_blocking=True)


def _draw(num_images: int) -> tuple[Integers, Floats]:
    """Two different operations per image ``(2, N)``, and for each a number in 0..1 that gives its
    sign or threshold."""
    numbers = torch.rand(2 * NUM_OPERATIONS_PER_IMAGE, num_images, dtype=torch.float64).numpy()
    first = (numbers[0] * len(OPERATIONS)).astype(np.int64)
    step = 1 + (numbers[1] * (len(OPERATIONS) - 1)).astype(np.int64)
    return np.stack([first, (first + step) % len(OPERATIONS)]), numbers[2:]


def _apply(images: Tensor, operations: Integers, chances: Floats) -> None:
    """Change images, sorted by their operations, in place."""
    starts = np.searchsorted(operations, [*_FIRST, len(OPERATIONS)])
    parts = images.split_with_sizes(np.diff(starts).tolist())
    for group, first, start, part in zip(_GROUPS, _FIRST, starts, parts, strict=False):
        if len(part):
            here = slice(start, start + len(part))
            values = group.values(operations[here] - first, chances[here])
            group.change(part, *(to_device(value, part.device) for value in values))


def _signs(chances: Floats) -> Floats:
    return np.where(chances > 0.5, np.float32(1), np.float32(-1))


def _per_image(values: NDArray[np.generic]) -> Floats:
    """Values ``(N,)`` as float32 ``(N, 1, 1, 1)``."""
    return values.astype(np.float32).reshape(-1, 1, 1, 1)


_UNSIGNED = np.array(
    [[[cos(ANGLE), 0, 0], [0, cos(ANGLE), 0]], *[[[1, 0, 0], [0, 1, 0]]] * 4], np.float32
)
_SIGNED = np.array(
    [
        [[0, -sin(ANGLE), 0], [sin(ANGLE), 0, 0]],
        [[0, SHEAR, 0], [0, 0, 0]],
        [[0, 0, 0], [SHEAR, 0, 0]],
        [[0, 0, -2 * SHIFT], [0, 0, 0]],
        [[0, 0, 0], [0, 0, -2 * SHIFT]],
    ],
    np.float32,
)
"""Rotation, shear and translation: the part of each matrix that the sign leaves, and the other."""


def _matrices(kinds: Integers, chances: Floats) -> tuple[Floats]:
    return (_UNSIGNED[kinds] + _signs(chances).reshape(-1, 1, 1) * _SIGNED[kinds],)


def _warp(images: Tensor, matrices: Tensor) -> None:
    """Sample images at coordinates transformed by ``(N, 2, 3)``, bilinear, zero outside."""
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    images.copy_(F.grid_sample(images, grid, align_corners=False))


_LINES = np.array([[-1, 1], [FACTOR, 0], [1, FACTOR - 1]])
"""Invert, contrast, brightness: factor and addition."""


def _lines(kinds: Integers, chances: Floats) -> tuple[Floats, Floats]:
    del chances
    return _per_image(_LINES[kinds, 0]), _per_image(_LINES[kinds, 1])


def _line(images: Tensor, factors: Tensor, additions: Tensor) -> None:
    torch.addcmul(additions, images, factors, out=images).clamp_(0, 1)


def _thresholds(kinds: Integers, chances: Floats) -> tuple[Floats, Floats]:
    """Solarize at a fixed threshold; add and solarize at a random one, as kornia does."""
    adds = kinds == 1
    thresholds = np.where(adds, chances, SOLARIZE_THRESHOLD)
    return _per_image(thresholds), _per_image(np.where(adds, SOLARIZE_ADDITION, 0))


def _solarize(images: Tensor, thresholds: Tensor, additions: Tensor) -> None:
    images.add_(additions).clamp_(0, 1)
    torch.where(images < thresholds, images, 1 - images, out=images)


def _posterize(images: Tensor) -> None:
    images.mul_(255).div_(POSTERIZE_STEP).floor_().mul_(POSTERIZE_STEP / 255)


def _equalize(images: Tensor) -> None:
    """Equalize the histogram of each channel of 256 levels, as pillow does.

    A level becomes the number of darker pixels over the number of pixels per level; the pixels of
    the brightest level do not count.
    """
    levels = (images * 255).long().flatten(2)
    counts = images.new_zeros(*levels.shape[:2], 256)
    counts.scatter_(2, levels, 1, reduce="add")
    darker = counts.cumsum(2) - counts
    brightest = darker.gather(2, levels.amax(2, keepdim=True))
    step = brightest // 255
    table = ((darker + step // 2) // step.clamp(min=1)).clamp_(max=255).div_(255)
    equalized = table.gather(2, levels).view_as(images)
    torch.where(step.unsqueeze(3) == 0, images, equalized, out=images)


def _auto_contrast(images: Tensor) -> None:
    """Stretch each channel to 0..1."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    images.sub_(low).div_(high - low + EPSILON)


def _color(images: Tensor) -> None:
    """Scale the saturation by `FACTOR`, up to 1; hue and value stay.

    Every channel keeps its share of the distance to the brightest one.
    """
    high, low = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    scale = (high / (high - low).clamp_(min=EPSILON)).clamp_(max=FACTOR)
    torch.lerp(high, images, scale, out=images)


def _sharpness(images: Tensor) -> None:
    """Move away from the average of 3 x 3 pixels, of which the center counts five times; the border
    stays."""
    inner, means = images[..., 1:-1, 1:-1], F.avg_pool2d(images, 3, stride=1)
    inner.mul_(FACTOR + (1 - FACTOR) * 4 / 13).add_(means, alpha=(1 - FACTOR) * 9 / 13).clamp_(0, 1)


def _nothing(kinds: Integers, chances: Floats) -> tuple[()]:
    del kinds, chances
    return ()


@dataclass(frozen=True)
class _Group:
    """Operations that one function computes: ``change(part, *values)``, where ``values`` maps their
    numbers in the group and the random numbers to arrays with a row per image."""

    names: tuple[str, ...]
    change: Callable[..., None]
    values: Callable[[Integers, Floats], tuple[Floats, ...]] = _nothing


_GROUPS = (
    _Group(("rotate", "shear_x", "shear_y", "translate_x", "translate_y"), _warp, _matrices),
    _Group(("invert", "contrast", "brightness"), _line, _lines),
    _Group(("solarize", "solarize_add"), _solarize, _thresholds),
    _Group(("posterize",), _posterize),
    _Group(("equalize",), _equalize),
    _Group(("auto_contrast",), _auto_contrast),
    _Group(("color",), _color),
    _Group(("sharpness",), _sharpness),
)
OPERATIONS = tuple(name for group in _GROUPS for name in group.names)
_FIRST = [OPERATIONS.index(group.names[0]) for group in _GROUPS]
