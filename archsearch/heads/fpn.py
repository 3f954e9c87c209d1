"""Feature pyramid network (Lin et al., CVPR 2017): four maps to five of equal width.

Convolutions have biases and no norm; the fifth level takes every second pixel of the fourth.
"""

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from archsearch.heads.backbone import STRIDES

LEVEL_STRIDES = (*STRIDES, 64)
"""Pixels of the image per step of each level."""

WIDTH = 256
"""Channels of every level, and of the convolutions of the heads on them."""


class FPN(nn.Module):
    """A pyramid on maps of these channels.

    Args:
        channels: channels of the maps at strides 4, 8, 16 and 32.
        width: channels of each level.
    """

    def __init__(self, channels: Sequence[int], width: int = WIDTH) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.output = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)
        self.apply(_init_weights)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Levels ``(N, width, H, W)`` at `LEVEL_STRIDES`, the finest first."""
        laterals = [conv(x) for conv, x in zip(self.lateral, maps, strict=True)]
        levels = [laterals.pop()]
        for lateral in reversed(laterals):
            levels.insert(0, lateral + F.interpolate(levels[0], size=lateral.shape[2:]))
        levels = [conv(level) for conv, level in zip(self.output, levels, strict=True)]
        return [*levels, F.max_pool2d(levels[-1], 1, stride=2)]


def _init_weights(module: nn.Module) -> None:
    """Uniform by Glorot and Bengio, and zero biases, as in the released detectors."""
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(cast(Tensor, module.bias))
