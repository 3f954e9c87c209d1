"""The fused operators of a CPU against their compositions in float64: values, modes, layouts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, jvp, vmap
from torch.utils.flop_counter import FlopCounterMode

from cuda_ops import fused, native
from cuda_ops.fused import bias_gelu, composed_bias_gelu, composed_side_branch, side_branch

EPS = 1e-6
Call = Callable[..., Tensor]

# N, H, W, C, K: runs of four pixels, single ones, edges, chunks of channels and their padding.
SHAPES = {
    "runs inside": (2, 7, 13, 16, 3),
    "several chunks": (1, 5, 9, 144, 3),
    "padded channels": (2, 6, 8, 30, 3),
    "one channel": (1, 4, 6, 1, 3),
    "one pixel": (5, 1, 1, 64, 3),
    "two pixels": (3, 2, 2, 48, 3),
    "one row": (2, 1, 11, 16, 3),
    "one column": (2, 11, 1, 16, 3),
    "kernel 1": (2, 3, 7, 16, 1),
    "kernel 5": (2, 8, 14, 80, 5),
    "kernel 7, smaller map": (1, 4, 5, 16, 7),
    "many ranges": (3, 61, 53, 4, 3),
}
TOLERANCE = {
    torch.float64: 1e-11,
    torch.float32: 3e-6,
    torch.float16: 3e-3,
    torch.bfloat16: 2e-2,
}


def tensors(name: str, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor]:
    """The five leaves of a call and a gradient, with the same values in every dtype."""
    images, height, width, channels, kernel = SHAPES[name]
    source = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64).bfloat16().to(dtype)

    x, gradient = (normal(images, height, width, channels) for _ in range(2))
    weight = normal(channels, 1, kernel, kernel) / kernel
    vectors = [normal(channels), 1 + normal(channels) / 4, normal(channels)]
    return [tensor.requires_grad_() for tensor in (x, weight, *vectors)], gradient


def results(
    function: Call, leaves: list[Tensor], gradient: Tensor, *numbers: float
) -> list[Tensor]:
    """The output and the gradient of every leaf."""
    out = function(*leaves, *numbers)
    return [out.detach(), *torch.autograd.grad(out, leaves, gradient)]


def exact(function: Call, leaves: list[Tensor], gradient: Tensor, *numbers: float) -> list[Tensor]:
    doubles = [leaf.detach().double().requires_grad_() for leaf in leaves]
    return results(function, doubles, gradient.double(), *numbers)


def distance(got: Tensor, wanted: Tensor) -> float:
    return float((got.double() - wanted).abs().max() / wanted.abs().max().clamp_min(1))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", SHAPES)
def test_the_side_branch_equals_its_composition(name: str, dtype: torch.dtype) -> None:
    leaves, gradient = tensors(name, dtype)
    wanted = exact(composed_side_branch, leaves, gradient, EPS)
    got = results(side_branch, leaves, gradient, EPS)
    assert [g.dtype for g in got] == [dtype] * 6
    assert [g.shape for g in got] == [w.shape for w in wanted]
    assert max(map(distance, got, wanted)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 64), (97, 2, 33), (5,)], ids=str)
def test_bias_and_gelu_equal_their_composition(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, gradient = (3 * torch.randn(shape).to(dtype) for _ in range(2))
    leaves = [x.requires_grad_(), torch.randn(shape[-1:]).to(dtype).requires_grad_()]
    wanted = exact(composed_bias_gelu, leaves, gradient)
    got = results(bias_gelu, leaves, gradient)
    assert max(map(distance, got, wanted)) < TOLERANCE[dtype]


def test_the_kernels_are_at_least_as_accurate_as_the_compositions() -> None:
    """Root mean square errors in float32, each relative to the exact result's own."""

    def errors(function: Call, leaves: list[Tensor], wanted: list[Tensor]) -> list[float]:
        got = results(function, leaves, gradient, EPS)
        return [
            float((g.double() - w).square().mean().sqrt() / w.square().mean().sqrt())
            for g, w in zip(got, wanted, strict=True)
        ]

    leaves, gradient = tensors("kernel 5", torch.float32)
    wanted = exact(composed_side_branch, leaves, gradient, EPS)
    ours, theirs = (errors(f, leaves, wanted) for f in (side_branch, composed_side_branch))
    assert all(a <= 1.2 * b for a, b in zip(ours, theirs, strict=True))


def test_gelu_and_its_slope_are_exact_to_float_precision_and_in_their_limits() -> None:
    x = torch.linspace(-9, 9, 20001, requires_grad=True)
    exact_x = x.detach().double().requires_grad_()
    wanted, got = F.gelu(exact_x), bias_gelu(x[:, None], torch.zeros(1))[:, 0]
    assert ((got - wanted).abs() <= 1e-7 + 1.5e-7 * x.abs()).all()
    slopes = [
        torch.autograd.grad(out.sum(), leaf)[0] for out, leaf in ((got, x), (wanted, exact_x))
    ]
    assert (slopes[0] - slopes[1]).abs().max() < 3e-7
    far = torch.tensor([[-1e4], [-6.0], [6.0], [1e4], [torch.inf], [torch.nan]])
    values = bias_gelu(far, torch.zeros(1)).flatten()
    assert values.tolist()[:5] == [0, 0, 6, 1e4, torch.inf]
    assert values[5].isnan()


@pytest.mark.parametrize("name", ["runs inside", "padded channels", "one pixel"])
def test_gradcheck_in_every_mode(name: str) -> None:
    leaves, _ = tensors(name)

    def call(*inputs: Tensor) -> Tensor:
        return side_branch(*inputs, EPS)  # type: ignore[call-arg]

    assert torch.autograd.gradcheck(call, leaves, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True)


def test_gradcheck_of_bias_and_gelu() -> None:
    leaves = [torch.randn(*shape, dtype=torch.float64) for shape in ((3, 2, 5), (5,))]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    assert torch.autograd.gradcheck(bias_gelu, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(bias_gelu, leaves)


def test_the_operators_called_directly_keep_a_tangent() -> None:
    leaves, _ = tensors("padded channels")
    direction = torch.ones_like(leaves[0])
    wanted = jvp(lambda x: composed_side_branch(x, *leaves[1:], EPS), (leaves[0],), (direction,))[1]
    with forward_ad.dual_level():
        x = forward_ad.make_dual(leaves[0], direction)
        dual = torch.ops.archsearch.side_branch(x, *leaves[1:], EPS)
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, wanted)
    got = jvp(
        lambda x: torch.ops.archsearch.side_branch(x, *leaves[1:], EPS), (leaves[0],), (direction,)
    )[1]
    torch.testing.assert_close(got, wanted)


def test_gradients_per_sample_are_those_of_single_images() -> None:
    leaves, _ = tensors("two pixels")
    x, *weights = (leaf.detach() for leaf in leaves)

    def loss(weight: Tensor, image: Tensor) -> Tensor:
        return side_branch(image[None], weight, *weights[1:], EPS).square().sum()

    got = vmap(grad(loss), in_dims=(None, 0))(weights[0], x)
    torch.testing.assert_close(got, torch.stack([grad(loss)(weights[0], image) for image in x]))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_opcheck() -> None:
    leaves, gradient = tensors("padded channels", torch.float32)
    biased = [torch.randn(2, 3, 5).requires_grad_(), torch.randn(5).requires_grad_()]
    operators = torch.ops.archsearch
    torch.library.opcheck(operators.side_branch.default, (*leaves, EPS))
    torch.library.opcheck(operators.bias_gelu.default, tuple(biased))
    checks = ("test_schema", "test_faketensor")
    detached = [leaf.detach() for leaf in leaves]
    torch.library.opcheck(
        operators.side_branch_backward.default, (gradient, *detached, EPS), test_utils=checks
    )
    plain = [leaf.detach() for leaf in biased]
    torch.library.opcheck(
        operators.bias_gelu_backward.default, (torch.ones(2, 3, 5), *plain), test_utils=checks
    )


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    leaves, gradient = tensors("many ranges", torch.float32)
    threads, calls = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            calls.append(
                results(side_branch, leaves, gradient, EPS)
                + results(bias_gelu, [leaves[0], leaves[2]], gradient)
            )
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, *calls))


def test_inputs_and_gradients_of_any_layout_are_accepted() -> None:
    leaves, gradient = tensors("runs inside")
    wanted = results(side_branch, leaves, torch.ones_like(gradient), EPS)
    x = leaves[0].detach().permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1).requires_grad_()
    weight = leaves[1].detach().to(memory_format=torch.channels_last).requires_grad_()
    expanded = torch.ones((), dtype=torch.float64).expand_as(gradient)
    got = results(side_branch, [x, weight, *leaves[2:]], expanded, EPS)
    assert all(map(torch.equal, got, wanted))


def test_an_empty_batch_gives_an_empty_result_and_zero_gradients() -> None:
    leaves, _ = tensors("padded channels")
    empty = leaves[0].detach()[:0].requires_grad_()
    out, to_x, *to_weights = results(side_branch, [empty, *leaves[1:]], empty.detach(), EPS)
    assert out.shape == to_x.shape == empty.shape
    assert all(not gradient.any() for gradient in to_weights)


def test_a_nan_reaches_only_the_pixels_whose_taps_read_it() -> None:
    leaves, _ = tensors("runs inside", torch.float32)
    x = leaves[0].detach().clone()
    x[0, 3, 6, 2] = torch.nan
    touched = side_branch(x, *leaves[1:], EPS).isnan().any(-1)
    assert touched[0, 2:5, 5:8].all()
    assert touched.sum() == 9


def test_a_backward_pass_needs_only_the_inputs() -> None:
    leaves, _ = tensors("runs inside", torch.float32)
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: saved.append(tensor.data_ptr()) or tensor, lambda tensor: tensor
    ):
        side_branch(*leaves, EPS)  # type: ignore[call-arg]
    assert set(saved) == {leaf.data_ptr() for leaf in leaves}


def test_without_a_native_library_the_compositions_run(monkeypatch: pytest.MonkeyPatch) -> None:
    leaves, gradient = tensors("padded channels")
    wanted = results(composed_side_branch, leaves, gradient, EPS)
    monkeypatch.setattr(native, "load", lambda _: False)
    assert not fused.runs_native(*leaves)
    assert all(map(torch.equal, results(side_branch, leaves, gradient, EPS), wanted))


def test_the_gradients_by_formula_are_those_of_the_compositions() -> None:
    leaves, gradient = tensors("kernel 5")
    detached = [leaf.detach() for leaf in leaves]
    wanted = results(composed_side_branch, leaves, gradient, EPS)[1:]
    torch.testing.assert_close(fused._side_branch_backward(gradient, *detached, EPS), tuple(wanted))
    biased = [leaves[0], leaves[2]]
    wanted = results(composed_bias_gelu, biased, gradient)[1:]
    got = fused._bias_gelu_backward(gradient, *(leaf.detach() for leaf in biased))
    torch.testing.assert_close(got, tuple(wanted))


def test_the_side_branch_counts_as_its_convolution() -> None:
    leaves, gradient = tensors("kernel 5", torch.float32)
    forward = 2 * leaves[0].numel() * 25
    for function in (side_branch, composed_side_branch):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            function(*leaves, EPS)
        assert counter.get_total_flops() == forward
    with FlopCounterMode(display=False) as counter:
        results(side_branch, leaves, gradient, EPS)
    assert counter.get_total_flops() == 3 * forward  # of input, weights and itself


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_runs_the_composition(dtype: torch.dtype) -> None:
    leaves, _ = tensors("runs inside", torch.float32)
    with torch.autocast("cpu", dtype):
        assert not fused.runs_native(*leaves)
        assert torch.equal(side_branch(*leaves, EPS), composed_side_branch(*leaves, EPS))  # type: ignore[call-arg]


def test_one_error_names_every_wrong_shape() -> None:
    x, vector = torch.zeros(2, 3, 4, 5), torch.zeros(5)
    with pytest.raises(ValueError, match="invalid call of side_branch") as error:
        side_branch(x, torch.zeros(5, 1, 2, 2), torch.zeros(4), vector, torch.zeros(1, 5), EPS)
    message = str(error.value)
    assert "weight: wanted shape (5, 1, K, K) with an odd K, got (5, 1, 2, 2)" in message
    assert "bias: wanted shape (5,), got (4,)" in message
    assert "norm_bias: wanted shape (5,), got (1, 5)" in message
    assert "norm_weight" not in message


@pytest.mark.parametrize(
    ("position", "problem"), [(0, "4 axes"), (1, "odd K"), (2, "one number per channel")]
)
def test_a_direct_call_cannot_read_outside_its_tensors(position: int, problem: str) -> None:
    leaves, _ = tensors("runs inside", torch.float32)
    inputs = [leaf.detach() for leaf in leaves]
    side_branch(*inputs, EPS)  # type: ignore[call-arg]  # loads the library
    inputs[position] = {0: inputs[0][0], 1: inputs[1][..., :2, :2], 2: inputs[2][:3]}[position]
    with pytest.raises(RuntimeError, match=problem):
        torch.ops.archsearch.side_branch(*inputs, EPS)
