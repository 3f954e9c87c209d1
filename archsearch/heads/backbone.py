"""What a head asks of a backbone: four maps ``(N, C, H, W)`` at strides 4, 8, 16 and 32."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)
"""Pixels of the image per step of each map; a side that is no multiple is rounded up."""

_SIDE = 64
"""Side of the image that `map_channels` sends through a backbone, in pixels."""


def map_channels(backbone: nn.Module) -> tuple[int, int, int, int]:
    """Channels of the four maps, from the maps of a 64x64 image of zeros.

    The backbone's weights, buffers and modes are as before.

    Raises:
        ValueError: the backbone gives anything but four maps at these strides.
    """
    parameter = next(backbone.parameters())
    image = torch.zeros(1, 3, _SIDE, _SIDE, device=parameter.device, dtype=parameter.dtype)
    modes = {module: module.training for module in backbone.modules()}
    try:
        with torch.no_grad():
            maps = backbone.eval()(image)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return _checked(maps)


def _checked(maps: Sequence[Tensor] | Tensor) -> tuple[int, int, int, int]:
    shapes = [tuple(one.shape) for one in maps]
    wanted = [(_SIDE // stride, _SIDE // stride) for stride in STRIDES]
    if isinstance(maps, Tensor) or [shape[2:] for shape in shapes] != wanted:
        raise ValueError(
            f"a backbone must give four maps (N, C, H, W) at strides {', '.join(map(str, STRIDES))}"
            f" (create_model(name, features_only=True)); for an image of {_SIDE}x{_SIDE} pixels "
            f"it gives {shapes}"
        )
    return cast(tuple[int, int, int, int], tuple(shape[1] for shape in shapes))
