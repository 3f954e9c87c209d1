"""ConvNeXt (Liu et al., CVPR 2022) in torch: patch stem, four stages, patch downsampling, head.

Maps are NHWC, as in `internimage.model`, whose norm, MLP, drop path and convolution on NHWC maps
this network shares, so that the times of both families compare networks, not implementations. A
depth-wise 7x7 convolution reads such a map as channels-last NCHW. Measured in training steps with
one thread (AVX2, torch 2.13): 1.1 to 1.6 times faster than with NCHW maps around that convolution,
and on 32x32 images another 1.5 to 2.6 times by the faster path for tiny maps.
"""

from collections.abc import Sequence
from itertools import islice, pairwise, zip_longest
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archsearch.families.convnext_cost import DOWNSAMPLE_STRIDE, MLP_RATIO, STEM_STRIDE
from internimage.conv import conv_nhwc
from internimage.model import MLP, DropPath, drop_path_rates, layer_norm


def reduced(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv`` with stride = kernel on ``(N, H, W, C)``: each side divided, rounded down.

    The published network fails on a map smaller than the kernel. Here zeros fill such a side up,
    so that it gives one pixel and images of any size have logits.
    """
    kernel = conv.kernel_size[0]
    missing_rows, missing_columns = (max(0, kernel - side) for side in x.shape[1:3])
    if missing_rows or missing_columns:
        x = F.pad(x, (0, 0, 0, missing_columns, 0, missing_rows))
    return conv_nhwc(conv, x)


class Stem(nn.Module):
    """A 4x4 convolution of stride 4: an image ``(N, 3, H, W)`` to ``(N, H/4, W/4, C1)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, STEM_STRIDE, stride=STEM_STRIDE)
        self.norm = layer_norm(channels)

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.norm(reduced(self.conv, images.permute(0, 2, 3, 1).contiguous())))


class Downsample(nn.Module):
    """LayerNorm and a 2x2 convolution of stride 2: ``(N, H, W, C)`` to half the sides."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = layer_norm(channels)
        self.conv = nn.Conv2d(channels, out_channels, DOWNSAMPLE_STRIDE, stride=DOWNSAMPLE_STRIDE)

    def forward(self, x: Tensor) -> Tensor:
        return reduced(self.conv, self.norm(x))


class Block(nn.Module):
    """A residual branch of depth-wise convolution, LayerNorm and MLP, with layer scale."""

    def __init__(
        self, channels: int, kernel_size: int, layer_scale: float | None, drop_path: float
    ) -> None:
        super().__init__()
        self.dw_conv = nn.Conv2d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
        )
        self.norm = layer_norm(channels)
        self.mlp = MLP(channels, MLP_RATIO * channels)
        self.gamma = (
            None if layer_scale is None else nn.Parameter(torch.full((channels,), layer_scale))
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mlp(self.norm(conv_nhwc(self.dw_conv, x)))
        if self.gamma is not None:
            y = self.gamma * y
        return x + cast(Tensor, self.drop_path(y))


class ConvNeXtModel(nn.Module):
    """A ConvNeXt of these widths and depths.

    Args:
        channels, depths: width and number of blocks of each of the four stages.
        kernel_size: side of the depth-wise convolutions, odd.
        layer_scale: initial factor of every branch; None for a network without factors.
        drop_path: rate of the last block; the rates of the others grow linearly from 0.
        num_classes: number of logits.
        features_only: leave out the head; ``forward`` then returns the four maps, as InternImage.
    """

    def __init__(
        self,
        channels: Sequence[int],
        depths: Sequence[int],
        *,
        kernel_size: int = 7,
        layer_scale: float | None = 1e-6,
        drop_path: float = 0.0,
        num_classes: int = 1000,
        features_only: bool = False,
    ) -> None:
        super().__init__()
        rates = iter(drop_path_rates(drop_path, sum(depths)))
        self.stem = Stem(channels[0])
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(Block(width, kernel_size, layer_scale, rate) for rate in islice(rates, depth))
            )
            for width, depth in zip(channels, depths, strict=True)
        )
        self.downsamples = nn.ModuleList(Downsample(*pair) for pair in pairwise(channels))
        self.head = None if features_only else Head(channels[-1], num_classes)
        self.apply(_init_weights)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Logits ``(N, classes)`` of images ``(N, 3, H, W)``; four NCHW maps if ``features_only``.

        Raises:
            ValueError: the images are not ``(N, 3, H, W)``.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images: wanted (N, 3, H, W), got {tuple(images.shape)}")
        maps = [self.stages[0](self.stem(images))]
        for downsample, stage in zip(self.downsamples, self.stages[1:], strict=True):
            maps.append(stage(downsample(maps[-1])))
        if self.head is None:
            return [x.permute(0, 3, 1, 2) for x in maps]
        return cast(Tensor, self.head(maps[-1]))

    def layers(self) -> list[list[nn.Module]]:
        """The backbone in forward order, as `internimage.model.InternImage.layers`."""
        layers: list[list[nn.Module]] = [[self.stem]]
        for stage, following in zip_longest(self.stages, self.downsamples):
            layers += [[block] for block in cast(nn.Sequential, stage)]
            layers[-1] += [] if following is None else [following]
        return layers


class Head(nn.Module):
    """Mean over the pixels, LayerNorm, Linear: ``(N, H, W, C)`` to logits ``(N, classes)``."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = layer_norm(channels)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.linear(self.norm(x.mean((1, 2)))))


def _init_weights(module: nn.Module) -> None:
    """Truncated normal weights and zero biases of all convolutions and Linears, as published."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
