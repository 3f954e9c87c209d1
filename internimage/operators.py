"""Core operators for ablations; InternImage itself needs only ``dcnv3.py``.

Those of the paper's ablations are the DCNv3 layer with one change; `DepthwiseConv` has nothing of
DCNv3 but the projections. ``build_operator`` builds the one of a configuration.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from cuda_ops import dcnv3
from internimage.config import ModelConfig
from internimage.conv import conv_nhwc
from internimage.dcnv3 import DCNv3, grid_points, reset_projections


class SigmoidDCNv3(DCNv3):
    """Modulation as in DCNv2 (Table 6, the row without softmax): a sigmoid for each point.

    The scalars of a group then sum to any value between 0 and P (section 3.1, point 3).
    """

    def aggregate(self, x_proj: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        return self._sample(x_proj, offset, mask.sigmoid(), softmax=False)

    def modulation(self, mask: Tensor) -> Tensor:
        return self.per_group(mask).sigmoid()


class UnsharedDCNv3(DCNv3):
    """A C x C projection for each sampling point (``w_k`` of Eq. 1) instead of one for all.

    ``output_proj`` becomes ``Linear(P*C, C)``; everything else stays. B with one group then has
    146.3M parameters, Table F's printed 146M. Doubt: the paper does not say whether its variant
    keeps the input projection; without it B would have 138.7M. Neither variant gives Table 6's
    "66.1% more parameters" for T.
    """

    def __init__(self, channels: int, groups: int, kernel_size: int = 3, **options: Any) -> None:
        super().__init__(channels, groups, kernel_size, **options)
        self.output_proj = nn.Linear(self.points * channels, channels)
        self.reset_parameters()

    def aggregate(self, x_proj: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """The modulated samples, concatenated to ``(N, H, W, P*C)``; ``output_proj`` sums them.

        The operator with a 1x1 kernel, called once per point, samples without summing.
        """
        grid = grid_points(self.kernel_size, self.remove_center, offset.device)
        offset = self.per_group(offset)
        offset = (offset + grid.flatten().to(offset.dtype)) * self.offset_scale
        weight = self.modulation(mask)
        samples = [
            dcnv3(
                x_proj,
                offset[..., 2 * k : 2 * k + 2].flatten(-2),
                weight[..., k],
                groups=self.groups,
                kernel_size=1,
                padding=0,
            )
            for k in range(self.points)
        ]
        return torch.cat(samples, -1)


class DeformableAttention(DCNv3):
    """Deformable DETR's attention at one scale (Table H's "dattn", the supplement's [67]).

    Offsets and attention weights come from the query itself through one Linear each, without a
    convolution before it. Each head's points start along their own direction instead of on a grid;
    the groups are the heads. Doubt: the paper only names the method. Here P stays K*K and the
    points start evenly spaced over K pixels. The original has four points, one pixel apart; with
    K*K points at that spacing most would be outside a 7x7 map. The bias of the offsets cancels the
    operator's own grid.
    """

    def __init__(self, channels: int, groups: int, kernel_size: int = 3, **options: Any) -> None:
        super().__init__(channels, groups, kernel_size, **options)
        del self.dw_conv, self.dw_norm

    def reset_parameters(self) -> None:
        super().reset_parameters()
        grid = grid_points(self.kernel_size, self.remove_center)
        start = _radial_points(self.groups, self.points, self.kernel_size)
        with torch.no_grad():
            self.offset.bias.copy_((start / self.offset_scale - grid).flatten())

    def side_branch(self, x: Tensor) -> Tensor:
        return x


def _radial_points(groups: int, points: int, reach: float) -> Tensor:
    """``(G, P, 2)`` as (x, y) in pixels: head g has angle 2*pi*g/G, its last point at ``reach``.

    Directions are scaled to the unit square, as in Deformable DETR.
    """
    angle = torch.arange(groups, dtype=torch.float32) * (2 * math.pi / groups)
    direction = torch.stack((angle.cos(), angle.sin()), -1)
    direction = direction / direction.abs().amax(-1, keepdim=True)
    distance = torch.arange(1, points + 1, dtype=torch.float32) * (reach / points)
    return direction[:, None] * distance[:, None]


class DepthwiseConv(nn.Module):
    """A plain K x K depth-wise convolution between DCNv3's two projections: the frame alone.

    ``(N, H, W, C)`` to ``(N, H, W, C)``. It has no side branch, offsets, modulation or groups. The
    projections belong to the frame, as DCNv3 has them around its aggregation too. Doubt: nothing
    published fixes the initial weights of the convolution; they are torch's default, as those of
    DCNv3's own depth-wise convolution.
    """

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.input_proj = nn.Linear(channels, channels)
        self.dw_conv = nn.Conv2d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
        )
        self.output_proj = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform projections, as in DCNv3; the convolution keeps its weights."""
        reset_projections(self.input_proj, self.output_proj)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.output_proj(conv_nhwc(self.dw_conv, self.input_proj(x))))


_LAYERS: dict[str, type[DCNv3]] = {
    "dcnv3": DCNv3,
    "dcnv3-sigmoid": SigmoidDCNv3,
    "dcnv3-unshared": UnsharedDCNv3,
    "deformable-attention": DeformableAttention,
}


def build_operator(config: ModelConfig, stage: int) -> DCNv3 | DepthwiseConv:
    """The core operator of a block in ``stage`` (0 to 3)."""
    if config.operator == "depthwise":
        return DepthwiseConv(config.channels[stage], config.kernel_size)
    return _LAYERS[config.operator](
        config.channels[stage],
        config.groups[stage],
        config.kernel_size,
        dw_kernel_size=config.dw_kernel_size,
        offset_scale=config.offset_scale,
        remove_center=config.remove_center,
        center_feature_scale=config.center_feature_scale,
    )
