"""Convolution on NHWC maps, with a faster path for training on tiny maps on the CPU."""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from internimage.merging import may_bypass

TINY = 2
"""Longest side in pixels of a map that takes the faster path."""


def conv_nhwc(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv`` on ``(N, H, W, C)``, read as channels-last NCHW without a copy."""
    tiny = conv.training and x.device.type == "cpu" and max(x.shape[1:3]) <= TINY
    if tiny and may_bypass(conv, nn.Conv2d) and _is_square(conv):
        return _conv_tiny(conv, x)
    return cast(Tensor, conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


def _is_square(conv: nn.Conv2d) -> bool:
    """Whether rows and columns are equal and the padding is zero, as in all our networks."""
    sizes = (conv.kernel_size, conv.stride, conv.padding)
    is_square = all(isinstance(size, tuple) and size[0] == size[1] for size in sizes)
    return is_square and conv.dilation == (1, 1) and conv.padding_mode == "zeros"


def is_depthwise_same(conv: nn.Conv2d) -> bool:
    """Whether ``conv`` is depth-wise with a bias and keeps the size of its map."""
    kernel = conv.kernel_size[0]
    return (
        _is_square(conv)
        and conv.groups == conv.in_channels == conv.out_channels
        and conv.stride[0] == 1
        and kernel % 2 == 1
        and conv.padding == (kernel // 2,) * 2
        and conv.bias is not None
    )


def _conv_tiny(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The same result as ``conv``, without the kernel taps that only read padding.

    oneDNN 3.12 takes a slow path for the weight gradient at this size. Measured forward and
    backward with 64 images and one thread: depth-wise 3x3 with 256 channels on 2x2, 1.20 -> 0.45
    ms; with 512 on 1x1, 1.29 -> 0.32 ms; 3x3 with stride 2, 256 to 512 channels, on 2x2, 13 -> 6
    ms. With 32x32 images three quarters of the blocks have maps of this size. Evaluation uses the
    plain call: it is as fast, and a FLOP counter then sees the whole convolution.
    """
    rows, columns = x.shape[1:3]
    kernel, stride, padding = conv.kernel_size[0], conv.stride[0], cast(int, conv.padding[0])
    top, bottom = _used_taps(rows, kernel, stride, padding)
    left, right = _used_taps(columns, kernel, stride, padding)
    weight = conv.weight[:, :, top:bottom, left:right]
    if conv.groups == 1 and weight.shape[2:] == x.shape[1:3]:
        y = F.linear(x.flatten(1), weight.permute(0, 2, 3, 1).flatten(1), conv.bias)
        return y[:, None, None]
    pad_rows, pad_columns = padding - top, padding - left
    padded = F.pad(x, (0, 0, pad_columns, pad_columns, pad_rows, pad_rows)).permute(0, 3, 1, 2)
    y = F.conv2d(padded, weight, conv.bias, stride, groups=conv.groups)
    return y.permute(0, 2, 3, 1)


def _used_taps(size: int, kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """The range [first, end) of taps that read a pixel for some output, along one axis."""
    outputs = (size + 2 * padding - kernel) // stride + 1
    return max(0, padding - (outputs - 1) * stride), min(kernel, size + padding)
