"""DCNv3 by operators that other runtimes have: ONNX's ``DeformConv``, or ``grid_sample``.

Shape suffixes: N images, H W rows and columns, C channels, G groups, D = C / G, P points.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cuda_ops.geometry import ConvArgs


def deform_conv(
    x: Any,
    offset: Any,
    mask: Any,
    groups: int,
    kernel_size: int,
    stride: int,
    padding: int,
    dilation: int,
    offset_scale: float,
    remove_center: bool,
    softmax: bool,
) -> Any:
    """The ONNX nodes of a call of `archsearch::dcnv3`, around one ``DeformConv`` (opset 19).

    DCNv3 is a deformable convolution with a group per channel, weights of ones, and the softmax
    over its points as the mask. ``DeformConv`` has offsets as (y, x), rows as the slow index of the
    points, and a grid that is never scaled. A center that is left out is a point of weight zero.
    """
    from onnxscript import opset20 as op

    args = ConvArgs(
        groups, kernel_size, stride, padding, dilation, offset_scale, remove_center, softmax
    )
    ones = _constant(op, [1.0] * x.shape[-1] * kernel_size**2, (-1, 1, kernel_size, kernel_size))
    y = op.DeformConv(
        op.Transpose(x, perm=[0, 3, 1, 2]),
        ones,
        _scaled(op, _reordered(op, offset, _offset_order(args)), args),
        None,
        _reordered(op, _weights(op, mask, args), _point_order(args)),
        group=x.shape[-1],
        offset_group=groups,
        kernel_shape=[kernel_size] * 2,
        strides=[stride] * 2,
        pads=[padding] * 4,
        dilations=[dilation] * 2,
    )
    return op.Transpose(y, perm=[0, 2, 3, 1])


def _constant(op: Any, values: list[float], shape: tuple[int, ...]) -> Any:
    return op.Reshape(op.Constant(value_floats=values), op.Constant(value_ints=list(shape)))


def _reordered(op: Any, x: Any, order: list[int]) -> Any:
    """NHWC to NCHW, with these channels."""
    return op.Gather(op.Transpose(x, perm=[0, 3, 1, 2]), op.Constant(value_ints=order), axis=1)


def _rows_first(args: ConvArgs) -> list[int]:
    """Our index of every point of the kernel, with rows as the slow index; P for the center."""
    ours = {tap: k for k, tap in enumerate(args.taps())}
    taps = [(i, j) for j in range(args.kernel_size) for i in range(args.kernel_size)]
    return [ours.get(tap, args.num_points) for tap in taps]


def _point_order(args: ConvArgs) -> list[int]:
    """Channels of the weights; with ``remove_center`` each group ends with a weight of zero."""
    size = args.kernel_size**2
    return [group * size + k for group in range(args.groups) for k in _rows_first(args)]


def _offset_order(args: ConvArgs) -> list[int]:
    """Channels of the offsets, y before x; a center of weight zero has any offset."""
    last, size = args.num_points - 1, args.num_points
    points = [g * size + min(k, last) for g in range(args.groups) for k in _rows_first(args)]
    return [2 * point + axis for point in points for axis in (1, 0)]


def _weights(op: Any, mask: Any, args: ConvArgs) -> Any:
    """The weights of the points, NHWC; with ``remove_center`` one of zero after each group's."""
    size = args.kernel_size**2
    if args.softmax or args.remove_center:
        mask = op.Reshape(mask, op.Constant(value_ints=[0, 0, 0, args.groups, args.num_points]))
        if args.softmax:
            mask = op.Softmax(mask, axis=-1)
        if args.remove_center:
            mask = op.Pad(mask, op.Constant(value_ints=[0] * 9 + [1]))
        mask = op.Reshape(mask, op.Constant(value_ints=[0, 0, 0, args.groups * size]))
    return mask


def _scaled(op: Any, offset: Any, args: ConvArgs) -> Any:
    """The offsets from the grid as it is: s * offset + (s - 1) * grid for an offset scale s."""
    scale, steps = args.offset_scale, range(args.kernel_size)
    if scale == 1:
        return offset
    axis = [(scale - 1) * (step * args.dilation - args.half_extent) for step in steps]
    shift = [axis[tap] for j in steps for i in steps for tap in (j, i)] * args.groups
    scaled = op.Mul(offset, op.Constant(value_float=scale))
    return op.Add(scaled, _constant(op, shift, (1, -1, 1, 1)))


def grid_sample(x: Tensor, offset: Tensor, mask: Tensor, *numbers: Any) -> Tensor:
    """A call of `archsearch::dcnv3` by ``grid_sample``, for runtimes without our operator.

    Positions are rescaled to -1..1, which rounds them. All P samples of every channel are in memory
    at once.
    """
    args = ConvArgs(*numbers)
    num_images, height, width, channels = x.shape
    rows, columns = offset.shape[1:3]
    maps = num_images * args.groups
    samples = F.grid_sample(
        x.permute(0, 3, 1, 2).reshape(maps, channels // args.groups, height, width),
        _grid_NGPHW2(x, offset, args).reshape(maps, args.num_points * rows, columns, 2),
        align_corners=False,
    )
    weights_NHWGP = mask.reshape(num_images, rows, columns, args.groups, args.num_points)
    if args.softmax:
        weights_NHWGP = weights_NHWGP.softmax(-1)
    weights = weights_NHWGP.permute(0, 3, 4, 1, 2).reshape(maps, 1, args.num_points * rows, columns)
    points_NCPHW = (samples * weights).reshape(num_images, channels, -1, rows, columns)
    return points_NCPHW.sum(2).permute(0, 2, 3, 1)


def _grid_NGPHW2(x: Tensor, offset: Tensor, args: ConvArgs) -> Tensor:
    """The sampling positions as (x, y), from -1 at the left and upper edge of the map to 1."""
    rows, columns = offset.shape[1:3]
    offset_NHWGP2 = offset.reshape(*offset.shape[:3], args.groups, args.num_points, 2)
    first = args.half_extent - args.padding
    axes = (
        (0, torch.arange(columns, device=x.device)[:, None, None], x.shape[2]),
        (1, torch.arange(rows, device=x.device)[:, None, None, None], x.shape[1]),
    )
    taps = _taps(args, x.device)
    grid = []
    for axis, pixel, size in axes:
        step = taps[axis] * args.dilation - args.half_extent
        shift = (offset_NHWGP2[..., axis] + step) * args.offset_scale
        grid.append((2 * (pixel * args.stride + first + shift) + 1) / size - 1)
    return torch.stack(grid, -1).permute(0, 3, 4, 1, 2, 5)


def _taps(args: ConvArgs, device: torch.device) -> tuple[Tensor, Tensor]:
    """Column and row of every point, as `ConvArgs.taps`; an export allows no constant tensors."""
    index = torch.arange(args.num_points, device=device)
    if args.remove_center:
        index = index + (index >= args.kernel_size**2 // 2)
    return index // args.kernel_size, index % args.kernel_size
