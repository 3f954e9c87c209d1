"""Wrong calls: one ValueError names every problem, the same for every backend."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cuda_ops import dcnv3

BACKENDS = [None, "loops", "torch", "cpu"]


def problems(*tensors: Tensor, **arguments: Any) -> list[str]:
    with pytest.raises(ValueError, match="invalid call of dcnv3") as caught:
        dcnv3(*tensors, **arguments)
    return str(caught.value).splitlines()[1:]


def tensors(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.zeros(2, 4, 3, last, dtype=dtype) for last in (6, 36, 18)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_error_names_every_problem_of_the_arguments(backend: str | None) -> None:
    x, offset, mask = tensors()
    arguments: dict[str, Any] = {
        "groups": 0,
        "kernel_size": 4,
        "stride": 0,
        "padding": -1,
        "dilation": 1.5,
        "offset_scale": float("inf"),
        "remove_center": True,
    }
    assert problems(x[0], offset, mask, **arguments, backend=backend) == [
        "  - groups: wanted a whole number >= 1, got 0",
        "  - stride: wanted a whole number >= 1, got 0",
        "  - padding: wanted a whole number >= 0, got -1",
        "  - dilation: wanted a whole number >= 1, got 1.5",
        "  - remove_center: wanted an odd kernel_size >= 3, got kernel_size 4",
        "  - offset_scale: wanted a finite number, got inf",
        "  - x: wanted 4 dimensions (N, H, W, C), got shape (4, 3, 6)",
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_shapes(backend: str | None) -> None:
    x, offset, mask = tensors()
    assert problems(x[..., :5], offset[:, :3], mask[0], groups=2, backend=backend) == [
        "  - x: wanted channels (last axis) in 2 equal groups, got 5",
        "  - offset: wanted shape (2, 4, 3, 36), got (2, 3, 3, 36)",
        "  - mask: wanted shape (2, 4, 3, 18), got (4, 3, 18)",
    ]
    assert problems(x, offset, mask, groups=2, padding=0, dilation=2, backend=backend) == [
        "  - x: wanted an image that, with padding 0, is at least as large as the kernel's 5x5 "
        "pixels, got 4x3"
    ]
    assert problems(x, offset, mask, groups=2, remove_center=True, backend=backend) == [
        "  - offset: wanted shape (2, 4, 3, 32), got (2, 4, 3, 36)",
        "  - mask: wanted shape (2, 4, 3, 16), got (2, 4, 3, 18)",
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_dtypes(backend: str | None) -> None:
    x, offset, mask = tensors()
    assert problems(x.int(), offset, mask, groups=2, backend=backend) == [
        "  - x: wanted dtype float16, bfloat16, float32 or float64, got torch.int32"
    ]
    assert problems(x.double(), offset, mask.half(), groups=2, backend=backend) == [
        "  - offset: wanted dtype torch.float64 beside x of torch.float64, got torch.float32",
        "  - mask: wanted dtype torch.float64 beside x of torch.float64, got torch.float16",
    ]
    assert problems(x.half(), offset.bfloat16(), mask, groups=2, backend=backend) == [
        "  - offset: wanted dtype torch.float16 or torch.float32 beside x of torch.float16, "
        "got torch.bfloat16"
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_devices(backend: str | None) -> None:
    x, offset, mask = tensors()
    assert problems(x, offset.to("meta"), mask, groups=2, backend=backend) == [
        "  - offset: wanted device cpu, that of x, got meta"
    ]


def test_backends() -> None:
    assert problems(*tensors(), groups=2, backend="gpu") == [
        "  - backend: wanted None or one of loops, torch, cpu, cuda, got 'gpu'"
    ]
    assert problems(*tensors(), groups=2, backend="cuda") == [
        "  - backend: 'cuda' needs tensors on cuda, got x on cpu"
    ]


@pytest.mark.parametrize("change", ["offset", "mask", "dtype"])
def test_the_torch_operator_refuses_offsets_and_masks_that_do_not_fit(change: str) -> None:
    x, offset, mask = tensors()
    dcnv3(x, offset, mask, groups=2)  # loads the native kernels
    offset = offset[:, :2] if change == "offset" else offset
    mask = {"mask": mask[..., :9], "dtype": mask.double()}.get(change, mask)
    with pytest.raises(RuntimeError, match="dcnv3: offset"):
        torch.ops.archsearch.dcnv3(x, offset, mask, 2, 3, 1, 1, 1, 1.0, False, False)


def direct_call(shape: tuple[int, ...], *args: Any, backward: bool = False) -> Tensor:
    """Calls the torch operator directly.

    Offset and mask get the shapes of an earlier output-size formula, which rounded toward zero, so
    that only the operator's own checks can refuse them.
    """
    n, height, width, channels = shape
    groups, kernel, stride, padding, dilation, _, remove_center, _ = args
    reach, points = dilation * (kernel - 1) + 1, groups * (kernel**2 - remove_center)
    pixels = (n, *(int((size + 2 * padding - reach) / stride) + 1 for size in (height, width)))
    x, offset, mask, grad = (
        torch.zeros(*(max(size, 0) for size in axes))
        for axes in (shape, (*pixels, points * 2), (*pixels, points), (*pixels, channels))
    )
    if backward:
        gx, _, _ = torch.ops.archsearch.dcnv3_backward(
            grad, x, offset, mask, *args, True, True, True
        )
        return gx
    return torch.ops.archsearch.dcnv3(x, offset, mask, *args)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(
    ("shape", "args", "message"),
    [
        ((2, 4, 3, 0), (2, 3, 1, 1, 1), "wanted channels in 2 equal groups, got 0"),
        ((2, 4, 3, 5), (2, 3, 1, 1, 1), "wanted channels in 2 equal groups, got 5"),
        ((2, 0, 3, 6), (2, 3, 1, 2, 1), "at least one pixel that, padded, holds the window, got 0"),
        ((2, 4, 0, 6), (2, 3, 1, 2, 1), "got 4x0 for an output of 6x2"),
        ((2, 4, 3, 6), (2, 3, 1, 0, 2), "got 4x3 for an output of 0x0"),
        ((2, 4, 4, 6), (2, 3, 2, 0, 2), "got 4x4 for an output of 0x0"),  # one short of fitting
    ],
)
def test_the_torch_operator_refuses_shapes_that_no_kernel_supports(
    shape: tuple[int, ...], args: tuple[int, ...], message: str, backward: bool
) -> None:
    dcnv3(*tensors(), groups=2)  # loads the native kernels
    with pytest.raises(RuntimeError, match=message):
        direct_call(shape, *args, 1.0, False, False, backward=backward)


@pytest.mark.parametrize(
    ("args", "remove_center", "message"),
    [
        ((2, 1, 1, 0, 1), True, "an odd kernel size of 3 or more, got 1"),
        ((2, 2, 1, 1, 1), True, "an odd kernel size of 3 or more, got 2"),
        (
            (0, 3, 1, 1, 1),
            False,
            "stride and dilation of 1 or more and padding of 0 or more, got 0",
        ),
        ((2, 3, 1, 1 << 30, 1 << 30), False, "beyond what a kernel can count"),
        ((2, (1 << 32) + 3, 1, 1, 1), False, "beyond what a kernel can count"),
    ],
)
def test_the_torch_operator_refuses_impossible_arguments(
    args: tuple[int, ...], remove_center: bool, message: str
) -> None:
    dcnv3(*tensors(), groups=2)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.archsearch.dcnv3(*tensors(), *args, 1.0, remove_center, False)


def test_the_torch_operator_accepts_an_empty_batch() -> None:
    dcnv3(*tensors(), groups=2)
    args = (2, 3, 1, 1, 1, 1.0, False, False)
    assert direct_call((0, 4, 3, 6), *args).shape == (0, 4, 3, 6)
    assert direct_call((0, 4, 3, 6), *args, backward=True).shape == (0, 4, 3, 6)
