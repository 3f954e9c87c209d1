"""The operator twice in plain PyTorch: as its definition, and vectorized for any device.

Shape suffixes: N batch, H W rows and columns (of the input, or of the output where noted),
G groups, D channels of one group (C = G*D), P sampling points, L = N*H*W*G of the output.

At a position exactly on a pixel the derivative is the one to its right: the position belongs to the
cell that starts there. This includes -1, the smallest position that can have a nonzero derivative.
A position far outside the image, or infinite, samples zeros; a NaN position gives NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cuda_ops.geometry import ConvArgs


def dcnv3_loops(x: Tensor, offset: Tensor, mask: Tensor, args: ConvArgs) -> Tensor:
    """Eq. 2 as nested loops in float64: the definition that every backend is tested against.

    Shapes as in `cuda_ops.dcnv3`; returns float64 `(N, Ho, Wo, C)`. Autograd gives the gradients.
    It takes about 50 us per sampled point and group, so it is for tests only.
    """
    num_images, height, width, channels = x.shape
    out_height, out_width = args.output_size(height, width)
    shape = (num_images, out_height, out_width, args.groups)
    x_NHWGD = x.double().reshape(num_images, height, width, args.groups, -1)
    offset_NHWGP2 = offset.double().reshape(*shape, args.num_points, 2)
    mask_NHWGP = mask.double().reshape(*shape, args.num_points)
    if args.softmax:
        mask_NHWGP = mask_NHWGP.softmax(-1)
    pixels = []
    for n in range(num_images):
        for oy in range(out_height):
            for ox in range(out_width):
                for g in range(args.groups):
                    total = x_NHWGD.new_zeros(channels // args.groups)
                    for k, (i, j) in enumerate(args.taps()):
                        shift_x, shift_y = offset_NHWGP2[n, oy, ox, g, k]
                        px = _position(ox, i, shift_x, args)
                        py = _position(oy, j, shift_y, args)
                        sample = _bilinear(x_NHWGD[n, :, :, g], px, py)
                        total = total + mask_NHWGP[n, oy, ox, g, k] * sample
                    pixels.append(total)
    if not pixels:
        return x_NHWGD.new_zeros(num_images, out_height, out_width, channels)
    return torch.stack(pixels).reshape(num_images, out_height, out_width, channels)


def _position(out: int, tap: int, shift: Tensor, args: ConvArgs) -> Tensor:
    """A sampling position along one axis, in pixels of the unpadded input."""
    half = args.half_extent
    origin = out * args.stride - args.padding + half
    return origin + (tap * args.dilation - half + shift) * args.offset_scale


def _bilinear(plane_HWD: Tensor, px: Tensor, py: Tensor) -> Tensor:
    """The bilinear sample at (px, py); a neighbor outside the image counts as zero."""
    height, width, _ = plane_HWD.shape
    sample = plane_HWD.new_zeros(plane_HWD.shape[-1])
    if math.isnan(px.item() + py.item()):
        return sample * (px + py)
    if not (-1 <= px < width and -1 <= py < height):
        return sample
    left, top = math.floor(px.item()), math.floor(py.item())
    for y, share_y in ((top, 1 - (py - top)), (top + 1, py - top)):
        for column, share_x in ((left, 1 - (px - left)), (left + 1, px - left)):
            if 0 <= y < height and 0 <= column < width:
                sample = sample + share_y * share_x * plane_HWD[y, column]
    return sample


class _Corner(NamedTuple):
    """One of the four neighbors of every position; all of shape (L, P)."""

    row: Tensor  # index into x_rows, the view of x as (N*H*W*G, D)
    share_x: Tensor  # interpolation weight along x, zero outside the image
    share_y: Tensor
    slope_x: Tensor  # derivative of share_x by the position, zero outside the image
    slope_y: Tensor


def dcnv3_torch(x: Tensor, offset: Tensor, mask: Tensor, args: ConvArgs) -> Tensor:
    """Computes DCNv3 vectorized, on any device; differentiable by autograd.

    Shapes and dtypes as in `cuda_ops.dcnv3`. Half types are computed in float32. The neighbors are
    gathered by index, one point after the other. `grid_sample` would first rescale positions to
    [-1, 1], and rounding would move those exactly on a pixel to either side of it.
    """
    x_rows = _rows(x, args)
    mask_LP = _mask_LP(mask, args)
    out_LD = x_rows.new_zeros(mask_LP.shape[0], x_rows.shape[-1])
    for corner in _corners(x, offset, args):
        weight_LP = corner.share_x * corner.share_y * mask_LP
        for row, weight in zip(corner.row.unbind(1), weight_LP.unbind(1), strict=True):
            out_LD = torch.addcmul(out_LD, x_rows.index_select(0, row), weight[:, None])
    return out_LD.reshape(*offset.shape[:3], x.shape[-1]).to(x.dtype)


def dcnv3_torch_backward(
    grad: Tensor,
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    args: ConvArgs,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `dcnv3_torch` by formula, for x, offset and mask; differentiable in every mode.

    `grad` has the output's shape. A gradient whose entry in `needs` is False has no elements.
    """
    x_rows, mask_LP = _rows(x, args), _mask_LP(mask, args)
    grad_LD = grad.reshape(mask_LP.shape[0], x_rows.shape[-1]).to(x_rows.dtype)
    grad_rows = torch.zeros_like(x_rows)
    grad_mask_LP = torch.zeros_like(mask_LP)
    grad_x_LP, grad_y_LP = torch.zeros_like(mask_LP), torch.zeros_like(mask_LP)
    for corner in _corners(x, offset, args):
        weight_LP = corner.share_x * corner.share_y
        dots = []
        for row, weight in zip(corner.row.unbind(1), (weight_LP * mask_LP).unbind(1), strict=True):
            if needs[0]:
                grad_rows = grad_rows.index_add(0, row, grad_LD * weight[:, None])
            if needs[1] or needs[2]:
                dots.append((x_rows.index_select(0, row) * grad_LD).sum(-1))
        if dots:
            dot_LP = torch.stack(dots, 1)
            grad_mask_LP = grad_mask_LP + weight_LP * dot_LP
            grad_x_LP = grad_x_LP + corner.slope_x * corner.share_y * dot_LP
            grad_y_LP = grad_y_LP + corner.share_x * corner.slope_y * dot_LP
    grad_offset_LP2 = torch.stack([grad_x_LP, grad_y_LP], -1) * mask_LP[..., None]
    if args.softmax:
        grad_mask_LP = mask_LP * (grad_mask_LP - (mask_LP * grad_mask_LP).sum(-1, keepdim=True))
    return (
        _like(grad_rows, x, needs[0]),
        _like(grad_offset_LP2 * args.offset_scale, offset, needs[1]),
        _like(grad_mask_LP, mask, needs[2]),
    )


def _like(grad: Tensor, tensor: Tensor, needed: bool) -> Tensor:
    if not needed:
        return tensor.new_empty(0)
    return grad.reshape(tensor.shape).to(tensor.dtype)


def arithmetic_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the computation: float64 for float64, float32 for all others."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _rows(x: Tensor, args: ConvArgs) -> Tensor:
    """x as (N*H*W*G, D): in NHWC the channels of one group of a pixel are contiguous."""
    return x.to(arithmetic_dtype(x.dtype)).reshape(-1, x.shape[-1] // args.groups)


def _mask_LP(mask: Tensor, args: ConvArgs) -> Tensor:
    mask_LP = mask.to(arithmetic_dtype(mask.dtype)).reshape(-1, args.num_points)
    return mask_LP.softmax(-1) if args.softmax else mask_LP


def _corners(x: Tensor, offset: Tensor, args: ConvArgs) -> Iterator[_Corner]:
    num_images, height, width, _ = x.shape
    groups, points = args.groups, args.num_points
    px, py = _positions(offset, args, height, width)
    image = torch.arange(num_images, device=x.device).view(-1, 1, 1, 1, 1)
    group = torch.arange(groups, device=x.device).view(1, 1, 1, -1, 1)
    for right in (False, True):
        column, share_x, slope_x = _neighbor(px, width, right)
        for below in (False, True):
            line, share_y, slope_y = _neighbor(py, height, below)
            row = ((image * height + line) * width + column) * groups + group
            corner = (row, share_x, share_y, slope_x, slope_y)
            yield _Corner(*(tensor.reshape(-1, points) for tensor in corner))


def _positions(offset: Tensor, args: ConvArgs, height: int, width: int) -> tuple[Tensor, Tensor]:
    """px and py, each (N, Ho, Wo, G, P).

    They are clamped to two pixels outside the image; beyond that no sample changes.
    """
    num_images, out_height, out_width, _ = offset.shape
    shift = offset.to(arithmetic_dtype(offset.dtype)).reshape(
        num_images, out_height, out_width, args.groups, args.num_points, 2
    )
    half = args.half_extent
    tap = torch.tensor(args.taps(), device=offset.device, dtype=shift.dtype)
    grid = tap * args.dilation - half
    start = half - args.padding
    origin_x = torch.arange(out_width, device=offset.device) * args.stride + start
    origin_y = torch.arange(out_height, device=offset.device) * args.stride + start
    px = origin_x.view(1, 1, -1, 1, 1) + (grid[:, 0] + shift[..., 0]) * args.offset_scale
    py = origin_y.view(1, -1, 1, 1, 1) + (grid[:, 1] + shift[..., 1]) * args.offset_scale
    return px.clamp(-2, width + 1), py.clamp(-2, height + 1)


def _neighbor(position: Tensor, size: int, upper: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Index, share and slope of the neighbor below or above `position` along one axis."""
    lower = position.detach().floor()
    index = lower + 1 if upper else lower
    share = position - lower if upper else 1 - (position - lower)
    inside = ((index >= 0) & (index < size)) | position.isnan()
    slope = torch.full_like(lower, 1.0 if upper else -1.0)
    return (
        index.nan_to_num(0).clamp(0, size - 1).long(),
        share * inside,
        slope * inside,
    )


def vectorized(x: Tensor, offset: Tensor, mask: Tensor, *args: Any) -> Tensor:
    """The operator `dcnv3` in plain PyTorch."""
    return dcnv3_torch(x, offset, mask, ConvArgs(*args))


def vectorized_backward(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, *args: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """The operator `dcnv3_backward` in plain PyTorch."""
    num_fields = len(ConvArgs._fields)
    conv_args, needs = ConvArgs(*args[:num_fields]), args[num_fields:]
    return dcnv3_torch_backward(grad, x, offset, mask, conv_args, (needs[0], needs[1], needs[2]))
