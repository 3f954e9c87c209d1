"""The DCNv3 layer (Eq. 2 and Fig. 3): projections, side branch and the operator between them.

All maps are NHWC; a convolution reads the same memory as a channels-last NCHW view.
Shapes: N images, H rows, W columns, C channels, G groups, P sampling points.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuda_ops import dcnv3
from cuda_ops.fused import runs_native, side_branch
from internimage.conv import conv_nhwc, is_depthwise_same
from internimage.merging import may_bypass

LAYER_NORM_EPS = 1e-6


class DCNv3(nn.Module):
    """Deformable convolution v3 as a layer, ``(N, H, W, C)`` to ``(N, H, W, C)``, stride 1.

    Offsets and modulation come from a side branch on the layer's input: depth-wise convolution,
    LayerNorm, GELU, then one Linear each. The two Linears are separate modules, as in the released
    checkpoints, but are computed as one matrix product unless one has hooks or is replaced.

    ``center_feature_scale`` (H only, released model) adds a gate per group, computed from the side
    branch. The gate blends the operator's output with the projected input at the same pixel.
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        kernel_size: int = 3,
        dw_kernel_size: int | None = None,
        offset_scale: float = 1.0,
        remove_center: bool = False,
        center_feature_scale: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.groups = groups
        self.kernel_size = kernel_size
        self.offset_scale = offset_scale
        self.remove_center = remove_center
        self.points = kernel_size**2 - int(remove_center)

        side_kernel = dw_kernel_size or kernel_size
        self.dw_conv = nn.Conv2d(
            channels, channels, side_kernel, padding=side_kernel // 2, groups=channels
        )
        self.dw_norm = nn.LayerNorm(channels, eps=LAYER_NORM_EPS)
        self.offset = nn.Linear(channels, groups * self.points * 2)
        self.mask = nn.Linear(channels, groups * self.points)
        self.input_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.center_gate = nn.Linear(channels, groups) if center_feature_scale else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as regular-grid sampling with equal weights; Xavier-uniform projections."""
        reset_projections(self.input_proj, self.output_proj)
        for linear in (self.offset, self.mask, self.center_gate):
            if linear is not None:
                nn.init.zeros_(linear.weight)
                nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Eq. 2 on ``x`` ``(N, H, W, C)``; the output has the same shape."""
        x_proj = self.input_proj(x)
        side = self.side_branch(x)
        y = self.aggregate(x_proj, *self.offset_and_mask(side))
        if self.center_gate is not None:
            y = self._blend_center(y, x_proj, self.center_gate(side))
        return cast(Tensor, self.output_proj(y))

    def side_branch(self, x: Tensor) -> Tensor:
        """The input of the offset, mask and gate layers: ``(N, H, W, C)``."""
        conv, norm = self.dw_conv, self.dw_norm
        if self._may_fuse_side() and runs_native(x, *conv.parameters(), *norm.parameters()):
            bias = cast(Tensor, conv.bias)
            return side_branch(x, conv.weight, bias, norm.weight, norm.bias, norm.eps)
        return F.gelu(norm(conv_nhwc(conv, x)))

    def _may_fuse_side(self) -> bool:
        """Whether convolution and norm are those that the constructor builds, without hooks."""
        conv, norm = self.dw_conv, self.dw_norm
        return (
            may_bypass(conv, nn.Conv2d)
            and may_bypass(norm, nn.LayerNorm)
            and is_depthwise_same(conv)
            and norm.normalized_shape == (conv.out_channels,)
            and norm.bias is not None
        )

    def offset_and_mask(self, side: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets ``(N, H, W, G*P*2)`` in pixels and mask logits ``(N, H, W, G*P)``.

        Both are slices of one matrix product and not contiguous; the operator needs no copy. If
        calling one of the two layers may do more than its product, both are called.
        """
        if not self._may_merge():
            return self.offset(side), self.mask(side)
        weight = torch.cat((self.offset.weight, self.mask.weight))
        bias = torch.cat((self.offset.bias, self.mask.bias))
        sizes = [self.offset.out_features, self.mask.out_features]
        offset, mask = torch.split(F.linear(side, weight, bias), sizes, -1)
        return offset, mask

    def _may_merge(self) -> bool:
        return all(
            may_bypass(linear, nn.Linear) and linear.bias is not None
            for linear in (self.offset, self.mask)
        )

    def aggregate(self, x_proj: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """The weighted sum of samples, ``(N, H, W, C)``, with the softmax inside the operator."""
        return self._sample(x_proj, offset, mask, softmax=True)

    def modulation(self, mask: Tensor) -> Tensor:
        """Normalized modulation scalars ``(N, H, W, G, P)`` of mask logits ``(N, H, W, G*P)``."""
        return self.per_group(mask).softmax(-1)

    def per_group(self, x: Tensor) -> Tensor:
        """``(N, H, W, G*A)`` reshaped to ``(N, H, W, G, A)``."""
        return x.reshape(*x.shape[:-1], self.groups, x.shape[-1] // self.groups)

    def _sample(self, x_proj: Tensor, offset: Tensor, mask: Tensor, *, softmax: bool) -> Tensor:
        return dcnv3(
            x_proj,
            offset,
            mask,
            groups=self.groups,
            kernel_size=self.kernel_size,
            padding=self.kernel_size // 2,
            offset_scale=self.offset_scale,
            remove_center=self.remove_center,
            softmax=softmax,
        )

    def _blend_center(self, y: Tensor, x_proj: Tensor, gate: Tensor) -> Tensor:
        share = gate.sigmoid().unsqueeze(-1)
        return torch.lerp(self.per_group(y), self.per_group(x_proj), share).flatten(-2)

    def extra_repr(self) -> str:
        return (
            f"channels={self.channels}, groups={self.groups}, kernel_size={self.kernel_size}, "
            f"offset_scale={self.offset_scale}, remove_center={self.remove_center}"
        )


def reset_projections(*projections: nn.Linear) -> None:
    """Set weights to Xavier-uniform and biases to zero (released models)."""
    for projection in projections:
        nn.init.xavier_uniform_(projection.weight)
        nn.init.zeros_(projection.bias)


def grid_points(
    kernel_size: int, remove_center: bool = False, device: torch.device | None = None
) -> Tensor:
    """The regular grid of Eq. 2 around zero, ``(P, 2)`` as (x, y), in the operator's order.

    The column is the slow index (``k = i*K + j`` with i over x), as in the released checkpoints.
    """
    axis = torch.arange(kernel_size, device=device, dtype=torch.float32) - kernel_size // 2
    grid = torch.cartesian_prod(axis, axis)
    if remove_center:
        grid = torch.cat((grid[: kernel_size**2 // 2], grid[kernel_size**2 // 2 + 1 :]))
    return grid


@torch.no_grad()
def sampling_points(layer: DCNv3, x: Tensor) -> tuple[Tensor, Tensor]:
    """Sampling positions and modulation of ``layer`` for its input ``x`` ``(N, H, W, C)``.

    Returns:
        positions ``(N, H, W, G, P, 2)`` as (x, y) in pixels of this map, (0, 0) being the center
        of its first pixel, and modulation scalars ``(N, H, W, G, P)``. Get ``x`` from a forward
        pre-hook on the layer (Fig. 5 is drawn this way).
    """
    offset, mask = layer.offset_and_mask(layer.side_branch(x))
    offset = offset.reshape(*x.shape[:3], layer.groups, layer.points, 2)
    grid = grid_points(layer.kernel_size, layer.remove_center, x.device)
    columns = torch.arange(x.shape[2], device=x.device)
    rows = torch.arange(x.shape[1], device=x.device)
    pixel = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)[:, :, None, None]
    return pixel + (grid + offset) * layer.offset_scale, layer.modulation(mask)
