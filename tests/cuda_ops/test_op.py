"""Every backend against the definition in float64 loops: outputs and all three gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cuda_ops import ConvArgs, dcnv3
from cuda_ops.reference import dcnv3_torch_backward
from tests.cuda_ops.op_cases import (
    CASES,
    LARGER_CASES,
    STAGES,
    TOLERANCE,
    Case,
    compute,
    device_of,
    distance,
    expected,
    reference,
)

BACKENDS = ["torch", "cpu", "emulator", pytest.param("cuda", marks=pytest.mark.gpu)]
ALL_CASES = CASES | LARGER_CASES | STAGES


def tensors(case: Case, dtype: torch.dtype, backend: str) -> list[Tensor]:
    return [tensor.to(device_of(backend)) for tensor in case.tensors(dtype)]


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("name", CASES)
def test_equals_the_loops(name: str, dtype: torch.dtype, backend: str) -> None:
    case = CASES[name]
    got = compute(case, *case.leaves(dtype, device_of(backend)), backend)
    for result, ours, wanted in zip(
        ("output", "grad x", "grad offset", "grad mask"), got, expected(name), strict=True
    ):
        assert ours.dtype == dtype, result
        assert ours.shape == wanted.shape, result
        assert distance(ours, wanted) <= TOLERANCE[dtype], result


def cells(case: Case, dtype: torch.dtype) -> Tensor:
    """The pixel to the upper left of every sample, from positions computed in `dtype`."""
    _, offset, _, _ = case.tensors(dtype)
    args, half = case.args, case.args.half_extent
    taps = torch.tensor(args.taps(), dtype=dtype) * args.dilation - half
    rows, columns = (torch.arange(size) for size in offset.shape[1:3])
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1) * args.stride
    moved = taps + offset.unflatten(-1, (args.groups, args.num_points, 2))
    origin = (pixels - args.padding + half).to(dtype)[None, :, :, None, None]
    return (origin + moved * args.offset_scale).floor()


@pytest.mark.parametrize("name", ALL_CASES)
def test_every_dtype_samples_in_the_same_cells(name: str) -> None:
    """If float32 rounds a position onto a pixel, the derivative differs and the case is invalid."""
    case = ALL_CASES[name]
    assert torch.equal(cells(case, torch.float64), cells(case, torch.float32).double())


@pytest.mark.parametrize("name", CASES)
def test_gradients_by_formula_equal_the_loops(name: str) -> None:
    x, offset, mask, grad = CASES[name].tensors()
    got = dcnv3_torch_backward(grad, x, offset, mask, CASES[name].args)
    for ours, wanted in zip(got, expected(name)[1:], strict=True):
        assert distance(ours, wanted) <= 1e-12


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("backend", BACKENDS[1:], indirect=True)
def test_gradcheck(backend: str, softmax: bool) -> None:
    args = ConvArgs(2, softmax=softmax, offset_scale=1.5)
    case = Case(args, num_images=1, height=3, width=2, group_channels=2)
    x, offset, mask, _ = tensors(case, torch.float64, backend)
    # Away from pixels, where the derivative by the offset jumps.
    offset = (offset.round() + 0.2 + 0.2 * torch.rand_like(offset)) / args.offset_scale
    inputs = [tensor.requires_grad_() for tensor in (x, offset, mask)]
    assert torch.autograd.gradcheck(
        lambda *tensors: dcnv3(*tensors, **args._asdict(), backend=backend), inputs
    )


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_float32_offsets_for_a_half_x_keep_their_precision(
    backend: str, dtype: torch.dtype
) -> None:
    case = Case(ConvArgs(2, softmax=True), group_channels=16)
    x, offset, mask, grad = tensors(case, torch.float32, backend)
    x, grad = x.to(dtype), grad.to(dtype)
    inputs = [tensor.requires_grad_() for tensor in (x, offset, mask)]
    got, wanted = compute(case, inputs, grad, backend), reference(case, inputs, grad)
    assert [tensor.dtype for tensor in got] == [dtype, dtype, torch.float32, torch.float32]
    assert distance(got[0], wanted[0].cpu()) <= TOLERANCE[dtype]
    assert distance(got[2], wanted[2].cpu()) <= 1e-5
    assert distance(got[3], wanted[3].cpu()) <= 1e-5


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_a_batch_equals_its_images_alone(backend: str) -> None:
    # 21 output pixels per image, so that blocks of pixels span two images.
    case = Case(ConvArgs(3), num_images=7, height=7, width=3, group_channels=16)
    x, offset, mask, _ = tensors(case, torch.float32, backend)
    together = dcnv3(x, offset, mask, groups=3, backend=backend)
    for i in range(7):
        alone = dcnv3(x[i : i + 1], offset[i : i + 1], mask[i : i + 1], groups=3, backend=backend)
        assert torch.equal(together[i], alone[0])


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_an_empty_batch_gives_an_empty_result_and_empty_gradients(backend: str) -> None:
    inputs, _ = Case(num_images=0).leaves(torch.float32, device_of(backend))
    out = dcnv3(*inputs, groups=2, backend=backend)
    assert out.shape == (0, 4, 3, 6)
    grads = torch.autograd.grad(out.sum(), inputs)
    assert [tensor.shape for tensor in grads] == [tensor.shape for tensor in inputs]


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_a_nan_affects_only_its_pixel_and_infinity_is_outside(backend: str) -> None:
    x, offset, mask, _ = tensors(Case(), torch.float32, backend)
    clean = dcnv3(x, offset, mask, groups=2, backend=backend)
    offset[1, 2, 1, 0] = float("nan")  # group 0
    offset[0, 0, 0, 18] = float("inf")  # group 1, point 0
    out = dcnv3(x, offset, mask, groups=2, backend=backend)
    assert out[1, 2, 1, :3].isnan().all()
    assert out.isnan().sum() == 3
    mask[0, 0, 0, 9] = 0.0
    without = dcnv3(x, offset.nan_to_num(0.0, 0.0), mask, groups=2, backend=backend)
    assert torch.allclose(out[0, 0, 0], without[0, 0, 0], atol=1e-6)
    assert torch.equal(out[0, 1:], clean[0, 1:])


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_softmax_of_large_and_infinite_logits(backend: str) -> None:
    x, offset, mask, _ = tensors(Case(), torch.float32, backend)
    mask = mask * 60
    mask[0, 0, 0, 3] = -float("inf")
    got = dcnv3(x, offset, mask, groups=2, softmax=True, backend=backend)
    weights = mask.unflatten(-1, (2, 9)).softmax(-1).flatten(-2)
    wanted = dcnv3(x, offset, weights, groups=2, backend="torch")
    assert torch.allclose(got, wanted, atol=1e-5)


def test_point_order_and_axes_are_those_of_the_released_checkpoints() -> None:
    # One point at a time on a map of coordinates: x in channel 0, y in channel 1.
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    x = torch.stack([columns, rows], -1)[None].double()
    offset = torch.zeros(1, 5, 6, 18, dtype=torch.float64)
    for k in range(9):
        mask = torch.zeros(1, 5, 6, 9, dtype=torch.float64)
        mask[..., k] = 1
        for backend in ("loops", "torch", "cpu"):
            at = dcnv3(x, offset, mask, groups=1, backend=backend)[0, 2, 3]
            assert at.tolist() == [3 + k // 3 - 1, 2 + k % 3 - 1]  # i over x is the slow index
    offset[..., 2 * 4] = 1.5  # the center's x, then its y
    offset[..., 2 * 4 + 1] = -0.25
    mask = torch.zeros(1, 5, 6, 9, dtype=torch.float64)
    mask[..., 4] = 1
    for backend in ("loops", "torch", "cpu"):
        at = dcnv3(x, offset, mask, groups=1, backend=backend)[0, 2, 3]
        assert at.tolist() == [4.5, 1.75]
