"""Validation of a call: one error lists all problems, the same for every backend."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cuda_ops.geometry import ConvArgs

BACKENDS = ("loops", "torch", "cpu", "cuda")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def require_valid(
    x: Tensor, offset: Tensor, mask: Tensor, args: ConvArgs, backend: str | None
) -> None:
    """Raises one ValueError that lists every problem of the call with wanted and got."""
    problems = _argument_problems(args) + _backend_problems(x, backend)
    if x.dim() != 4:
        problems.append(f"x: wanted 4 dimensions (N, H, W, C), got shape {tuple(x.shape)}")
    elif not problems:
        problems += _shape_problems(x, offset, mask, args)
    problems += _dtype_problems(x, offset, mask) + _device_problems(x, offset, mask)
    if problems:
        raise ValueError("invalid call of dcnv3:" + "".join(f"\n  - {p}" for p in problems))


def _argument_problems(args: ConvArgs) -> list[str]:
    lowest = {"groups": 1, "kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
    problems = []
    for name, least in lowest.items():
        value = getattr(args, name)
        if not isinstance(value, int) or value < least:
            problems.append(f"{name}: wanted a whole number >= {least}, got {value!r}")
    size = args.kernel_size
    if args.remove_center and isinstance(size, int) and (size % 2 == 0 or size < 3):
        problems.append(f"remove_center: wanted an odd kernel_size >= 3, got kernel_size {size}")
    if not -math.inf < args.offset_scale < math.inf:
        problems.append(f"offset_scale: wanted a finite number, got {args.offset_scale!r}")
    return problems


def _backend_problems(x: Tensor, backend: str | None) -> list[str]:
    if backend is not None and backend not in BACKENDS:
        return [f"backend: wanted None or one of {', '.join(BACKENDS)}, got {backend!r}"]
    if backend in ("cpu", "cuda") and x.device.type != backend:
        return [f"backend: {backend!r} needs tensors on {backend}, got x on {x.device}"]
    return []


def _shape_problems(x: Tensor, offset: Tensor, mask: Tensor, args: ConvArgs) -> list[str]:
    num_images, height, width, channels = x.shape
    problems = []
    if channels < 1 or channels % args.groups != 0:
        problems.append(
            f"x: wanted channels (last axis) in {args.groups} equal groups, got {channels}"
        )
    out_height, out_width = args.output_size(height, width)
    if height < 1 or width < 1 or out_height < 1 or out_width < 1:
        reach = args.dilation * (args.kernel_size - 1) + 1
        problems.append(
            f"x: wanted an image that, with padding {args.padding}, is at least as large as the "
            f"kernel's {reach}x{reach} pixels, got {height}x{width}"
        )
        return problems
    pixels = (num_images, out_height, out_width)
    points = args.groups * args.num_points
    for name, tensor, last in (("offset", offset, points * 2), ("mask", mask, points)):
        if tensor.shape != (*pixels, last):
            problems.append(f"{name}: wanted shape {(*pixels, last)}, got {tuple(tensor.shape)}")
    return problems


def _dtype_problems(x: Tensor, offset: Tensor, mask: Tensor) -> list[str]:
    if x.dtype not in DTYPES:
        return [f"x: wanted dtype float16, bfloat16, float32 or float64, got {x.dtype}"]
    allowed = (x.dtype,) if x.dtype == torch.float64 else (x.dtype, torch.float32)
    names = " or ".join(dict.fromkeys(str(dtype) for dtype in allowed))
    return [
        f"{name}: wanted dtype {names} beside x of {x.dtype}, got {tensor.dtype}"
        for name, tensor in (("offset", offset), ("mask", mask))
        if tensor.dtype not in allowed
    ]


def _device_problems(x: Tensor, offset: Tensor, mask: Tensor) -> list[str]:
    return [
        f"{name}: wanted device {x.device}, that of x, got {tensor.device}"
        for name, tensor in (("offset", offset), ("mask", mask))
        if tensor.device != x.device
    ]
