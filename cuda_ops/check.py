"""What is wrong with a call, in words: every problem at once, the same from every backend."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cuda_ops.geometry import Window

BACKENDS = ("loops", "torch", "cpu", "cuda")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def require_valid(
    x: Tensor, offset: Tensor, mask: Tensor, window: Window, backend: str | None
) -> None:
    """Raises one ValueError that lists every problem of the call with wanted and got."""
    problems = _window_problems(window) + _backend_problems(x, backend)
    if x.dim() != 4:
        problems.append(f"x: wanted 4 dimensions (N, H, W, C), got shape {tuple(x.shape)}")
    elif not problems:
        problems += _shape_problems(x, offset, mask, window)
    problems += _dtype_problems(x, offset, mask) + _device_problems(x, offset, mask)
    if problems:
        raise ValueError("dcnv3 was called wrongly:" + "".join(f"\n  - {p}" for p in problems))


def _window_problems(window: Window) -> list[str]:
    lowest = {"groups": 1, "kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
    problems = []
    for name, least in lowest.items():
        value = getattr(window, name)
        if not isinstance(value, int) or value < least:
            problems.append(f"{name}: wanted a whole number >= {least}, got {value!r}")
    size = window.kernel_size
    if window.remove_center and isinstance(size, int) and (size % 2 == 0 or size < 3):
        problems.append(f"remove_center: wanted an odd kernel_size >= 3, got kernel_size {size}")
    if not -math.inf < window.offset_scale < math.inf:
        problems.append(f"offset_scale: wanted a finite number, got {window.offset_scale!r}")
    return problems


def _backend_problems(x: Tensor, backend: str | None) -> list[str]:
    if backend is not None and backend not in BACKENDS:
        return [f"backend: wanted None or one of {', '.join(BACKENDS)}, got {backend!r}"]
    if backend in ("cpu", "cuda") and x.device.type != backend:
        return [f"backend: {backend!r} wants tensors on {backend}, got x on {x.device}"]
    return []


def _shape_problems(x: Tensor, offset: Tensor, mask: Tensor, window: Window) -> list[str]:
    num_images, height, width, channels = x.shape
    problems = []
    if channels < 1 or channels % window.groups != 0:
        problems.append(
            f"x: wanted channels (last axis) in {window.groups} equal groups, got {channels}"
        )
    out_height, out_width = window.output_size(height, width)
    if height < 1 or width < 1 or out_height < 1 or out_width < 1:
        reach = window.dilation * (window.kernel_size - 1) + 1
        problems.append(
            f"x: wanted an image that, with padding {window.padding}, holds the window of "
            f"{reach}x{reach} pixels, got {height}x{width}"
        )
        return problems
    pixels = (num_images, out_height, out_width)
    points = window.groups * window.num_points
    for name, tensor, last in (("offset", offset, points * 2), ("mask", mask, points)):
        if tensor.shape != (*pixels, last):
            problems.append(f"{name}: wanted shape {(*pixels, last)}, got {tuple(tensor.shape)}")
    return problems


def _dtype_problems(x: Tensor, offset: Tensor, mask: Tensor) -> list[str]:
    if x.dtype not in DTYPES:
        return [f"x: wanted dtype float16, bfloat16, float32 or float64, got {x.dtype}"]
    wanted = (x.dtype,) if x.dtype == torch.float64 else (x.dtype, torch.float32)
    words = " or ".join(dict.fromkeys(str(dtype) for dtype in wanted))
    return [
        f"{name}: wanted dtype {words} beside x of {x.dtype}, got {tensor.dtype}"
        for name, tensor in (("offset", offset), ("mask", mask))
        if tensor.dtype not in wanted
    ]


def _device_problems(x: Tensor, offset: Tensor, mask: Tensor) -> list[str]:
    return [
        f"{name}: wanted device {x.device} where x is, got {tensor.device}"
        for name, tensor in (("offset", offset), ("mask", mask))
        if tensor.device != x.device
    ]
