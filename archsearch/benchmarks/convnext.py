"""ConvNeXt (Liu et al., CVPR 2022) in plain torch on NHWC maps, to time beside InternImage."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from internimage.model import DropPath, layer_norm

SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...], float]] = {
    "T": ((96, 192, 384, 768), (3, 3, 9, 3), 0.1),
    "B": ((128, 256, 512, 1024), (3, 3, 27, 3), 0.5),
}
"""Channels and depths per stage, and the drop path rate on ImageNet-1K (the paper's Table 5)."""


def conv(layer: nn.Conv2d, x: Tensor) -> Tensor:
    return cast(Tensor, layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class Block(nn.Module):
    """Depth-wise 7x7 convolution, LayerNorm and MLP with layer scale, as a residual branch."""

    def __init__(self, channels: int, drop_path: float) -> None:
        super().__init__()
        self.dw_conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = layer_norm(channels)
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(self.fc1(self.norm(conv(self.dw_conv, x))))
        return x + cast(Tensor, self.drop_path(self.gamma * self.fc2(hidden)))


class ConvNeXt(nn.Module):
    """``ConvNeXt("T")`` or ``"B"``: images ``(N, 3, H, W)`` to logits, or to four NHWC maps."""

    def __init__(self, name: str, num_classes: int = 1000, features_only: bool = False) -> None:
        super().__init__()
        channels, depths, drop_path = SIZES[name]
        blocks = sum(depths)
        rates = (drop_path * i / (blocks - 1) for i in range(blocks))
        self.stem = nn.Conv2d(3, channels[0], 4, stride=4)
        self.stem_norm = layer_norm(channels[0])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width, next(rates)) for _ in range(depth)))
            for width, depth in zip(channels, depths, strict=True)
        )
        self.norms = nn.ModuleList(layer_norm(width) for width in channels[:-1])
        self.downsamples = nn.ModuleList(
            nn.Conv2d(width, 2 * width, 2, stride=2) for width in channels[:-1]
        )
        self.head_norm = layer_norm(channels[-1])
        self.head = nn.Linear(channels[-1], num_classes)
        self.features_only = features_only
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        nhwc = images.permute(0, 2, 3, 1).contiguous()
        maps = [self.stages[0](self.stem_norm(conv(self.stem, nhwc)))]
        for norm, down, stage in zip(self.norms, self.downsamples, self.stages[1:], strict=True):
            maps.append(stage(conv(cast(nn.Conv2d, down), norm(maps[-1]))))
        if self.features_only:
            return maps
        return cast(Tensor, self.head(self.head_norm(maps[-1].mean((1, 2)))))
