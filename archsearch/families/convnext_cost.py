"""Closed-form cost of a ConvNeXt, without building it and without torch.

The convention is that of `archsearch.core.cost`: multiply-adds of convolutions and linear layers.
Each function is named after the module of `archsearch.families.convnext_model` whose cost it
returns; tests compare both with fvcore to the integer.
"""

from collections.abc import Sequence
from itertools import pairwise

from archsearch.core.cost import Cost, Tally, conv, image_size, linear, norm

STEM_STRIDE, DOWNSAMPLE_STRIDE = 4, 2
MLP_RATIO = 4


def count(
    channels: Sequence[int],
    depths: Sequence[int],
    *,
    kernel_size: int,
    layer_scale: bool,
    num_classes: int,
    height: int,
    width: int,
) -> Cost:
    """Parameters, multiply-adds and activations for one image of ``height x width`` pixels.

    Raises:
        ValueError: a side of the image is less than 1.
    """
    pixels = map_pixels(height, width)
    total = stem(channels[0], pixels[0]) + head(channels[-1], num_classes)
    for c, depth, area in zip(channels, depths, pixels, strict=True):
        total += block(c, kernel_size, layer_scale, area) * depth
    for (c, c_next), area in zip(pairwise(channels), pixels[1:], strict=True):
        total += downsample(c, c_next, area)
    return Cost(total.params, total.macs, total.activations, image_size(height, width))


def map_pixels(height: int, width: int) -> tuple[int, int, int, int]:
    """Numbers of pixels of the four stages' maps.

    Every stride rounds a side down, but never below one pixel (`convnext_model.reduced`).

    Raises:
        ValueError: a side of the image is less than 1.
    """
    if min(height, width) < 1:
        raise ValueError(f"image size must be at least 1 pixel, got {height} x {width}")
    areas = []
    for stride in (STEM_STRIDE, *[DOWNSAMPLE_STRIDE] * 3):
        height, width = max(1, height // stride), max(1, width // stride)
        areas.append(height * width)
    first, second, third, fourth = areas
    return first, second, third, fourth


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
