"""Closed-form cost of a ConvNeXt, without building it and without torch.

The conventions are those of `archsearch.core.cost`. The published network computes its LayerNorms
by a function, so that ``mmcv`` does not count them. Each function is named after the module of
`archsearch.families.convnext_model` whose cost it returns; tests compare both with fvcore to the
integer.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from archsearch.core.cost import Cost, FeatureMaps, Tally, conv, image_size, linear, norm

STEM_STRIDE, DOWNSAMPLE_STRIDE = 4, 2
MLP_RATIO = 4


def count(num_classes: int, **backbone: Any) -> Cost:
    """Parameters, multiply-adds and activations for one image; arguments as of `feature_maps`.

    Raises:
        ValueError: a side of the image is less than 1.
    """
    maps = feature_maps(**backbone)
    total = maps.cost + head(maps.channels[-1], num_classes)
    size = image_size(backbone["height"], backbone["width"])
    return Cost(total.params, total.macs, total.activations, size)


def feature_maps(
    channels: Sequence[int],
    depths: Sequence[int],
    *,
    kernel_size: int,
    layer_scale: bool,
    height: int,
    width: int,
) -> FeatureMaps:
    """The four maps, and the cost of the network without its head.

    Raises:
        ValueError: a side of the image is less than 1.
    """
    sides = map_sides(height, width)
    pixels = [h * w for h, w in sides]
    first = total = stem(channels[0], pixels[0])
    for c, depth, area in zip(channels, depths, pixels, strict=True):
        total += block(c, kernel_size, layer_scale, area) * depth
    for (c, c_next), area in zip(pairwise(channels), pixels[1:], strict=True):
        total += downsample(c, c_next, area)
    c1, c2, c3, c4 = channels
    return FeatureMaps((c1, c2, c3, c4), sides, total, first)


def map_sides(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Height and width of the four stages' maps.

    Every stride rounds a side down, but never below one pixel (`convnext_model.reduced`).

    Raises:
        ValueError: a side of the image is less than 1.
    """
    if min(height, width) < 1:
        raise ValueError(f"image size must be at least 1 pixel, got {height} x {width}")
    sides = []
    for stride in (STEM_STRIDE, *[DOWNSAMPLE_STRIDE] * 3):
        height, width = max(1, height // stride), max(1, width // stride)
        sides.append((height, width))
    return tuple(sides)


def stem(c1: int, pixels: int) -> Tally:
    """The cost of a 4x4 convolution of stride 4 and a LayerNorm."""
    return conv(3, c1, STEM_STRIDE, pixels) + norm(c1)


def downsample(c: int, c_next: int, pixels: int) -> Tally:
    """The cost of a LayerNorm and a 2x2 convolution of stride 2."""
    return norm(c) + conv(c, c_next, DOWNSAMPLE_STRIDE, pixels)


def block(c: int, kernel_size: int, layer_scale: bool, pixels: int) -> Tally:
    """The cost of the depth-wise convolution, LayerNorm, MLP and layer scale of a block."""
    hidden = MLP_RATIO * c
    mlp = linear(c, hidden, pixels) + linear(hidden, c, pixels)
    gamma = Tally(params=c if layer_scale else 0)
    return conv(c, c, kernel_size, pixels, groups=c) + norm(c) + mlp + gamma


def head(c: int, num_classes: int) -> Tally:
    """The cost of a LayerNorm and a Linear on pooled features; pooling is not counted."""
    return norm(c) + linear(c, num_classes)
