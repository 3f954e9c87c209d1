"""Forward-mode, per-sample and higher derivatives: every backend against the reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.func import grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap

from cuda_ops import ConvArgs, dcnv3
from tests.cuda_ops.op_cases import Case

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
BACKENDS = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]
Inputs = tuple[Tensor, Tensor, Tensor]
Call = Callable[..., Tensor]


def case(softmax: bool = True) -> Case:
    return Case(
        ConvArgs(2, softmax=softmax, offset_scale=1.5), num_images=2, height=3, group_channels=2
    )


def calls(backend: str, softmax: bool = True) -> tuple[Call, Call, Inputs, Inputs]:
    """The operator on a backend, the reference, inputs and a direction, in float64."""
    arguments = case(softmax).args._asdict()
    device = "cuda" if backend == "cuda" else "cpu"
    inputs = tuple(tensor.to(device) for tensor in case(softmax).tensors()[:3])
    torch.manual_seed(0)
    directions = tuple(torch.randn_like(tensor) for tensor in inputs)
    on_backend, reference = (partial(dcnv3, **arguments, backend=b) for b in (backend, "torch"))
    return on_backend, reference, inputs, directions  # type: ignore[return-value]


def assert_equal(got: object, wanted: object) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_directional_derivatives_are_those_of_the_reference(backend: str, softmax: bool) -> None:
    op, reference, inputs, directions = calls(backend, softmax)
    wanted = jvp(reference, inputs, directions)
    assert all(tangent.abs().sum() > 0 for tangent in wanted)
    assert_equal(jvp(op, inputs, directions), wanted)
    for i in range(3):

        def alone(function: Call, value: Tensor) -> Tensor:
            return function(*inputs[:i], value, *inputs[i + 1 :])  # noqa: B023

        got = jvp(partial(alone, op), (inputs[i],), (directions[i],))
        assert_equal(got, jvp(partial(alone, reference), (inputs[i],), (directions[i],)))


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # of linearize itself
def test_each_way_to_a_forward_derivative() -> None:
    op, reference, inputs, directions = calls("cpu")
    tangent = jvp(reference, inputs, directions)[1]
    assert_equal(linearize(op, *inputs)[1](*directions), tangent)
    with forward_ad.dual_level(), torch.no_grad():
        duals = (forward_ad.make_dual(*pair) for pair in zip(inputs, directions, strict=True))
        assert_equal(forward_ad.unpack_dual(op(*duals)).tangent, tangent)
    assert_equal(jacfwd(op)(*inputs), jacrev(reference)(*inputs))
    jacobian = torch.autograd.functional.jacobian
    got = jacobian(op, inputs, strategy="forward-mode", vectorize=True)
    assert_equal(got, jacobian(reference, inputs))


def test_the_torch_operator_called_directly_has_forward_derivatives() -> None:
    _, reference, inputs, directions = calls("cpu")

    def direct(*tensors: Tensor) -> Tensor:
        return torch.ops.archsearch.dcnv3(*tensors, *case().args)  # type: ignore[no-any-return]

    assert_equal(jvp(direct, inputs, directions), jvp(reference, inputs, directions))


def test_a_backward_pass_passes_on_the_tangent_of_its_gradient() -> None:
    """The graph is older than the dual number, so only the backward pass meets it."""
    op, reference, inputs, directions = calls("cpu")
    tangents = []
    for call in (op, reference):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        out = call(*leaves)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(torch.ones_like(out), directions[0])
            grads = torch.autograd.grad(out, leaves, dual)
            tangents.append([forward_ad.unpack_dual(g).tangent for g in grads])
    assert_equal(*tangents)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck_forward_and_twice(backend: str) -> None:
    op, _, inputs, _ = calls(backend)
    x, offset, mask = (tensor[:1, :2, :2] for tensor in inputs)
    # Away from pixels, where the derivative by the offset jumps.
    offset = (offset.round() + 0.2 + 0.2 * torch.rand_like(offset)) / 1.5
    leaves = [tensor.clone().requires_grad_() for tensor in (x, offset, mask)]
    assert torch.autograd.gradcheck(op, leaves, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(op, leaves, fast_mode=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_penalty_is_that_of_the_reference(backend: str) -> None:
    op, reference, inputs, _ = calls(backend)

    def penalty_gradients(call: Call) -> list[Tensor]:
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        grads = torch.autograd.grad(call(*leaves).sin().sum(), leaves, create_graph=True)
        penalty = sum(g.square().sum() for g in grads)
        return [*grads, *torch.autograd.grad(penalty, leaves)]  # type: ignore[arg-type]

    assert_equal(penalty_gradients(op), penalty_gradients(reference))


def test_derivatives_of_higher_order_and_mixed_modes() -> None:
    op, reference, inputs, directions = calls("cpu")

    def loss(call: Call, *tensors: Tensor) -> Tensor:
        return call(*tensors).sin().sum()

    results = []
    for call in (op, reference):
        first = grad(partial(loss, call), (0, 1, 2))
        second = jvp(first, inputs, directions)  # forward over reverse
        reverse = vjp(first, *inputs)[1](directions)  # reverse over reverse
        third = vjp(lambda *t: jvp(first, t, directions)[1], *inputs)[1](directions)  # noqa: B023
        matrix = hessian(lambda m: loss(call, *inputs[:2], m))(inputs[2])  # noqa: B023
        results.append((second, reverse, third, matrix))
    assert_equal(*results)


@pytest.mark.parametrize("batched", [(0, 0, 0), (0, None, None), (None, 1, 3), (4, 2, None)])
def test_vmap_equals_a_loop(batched: tuple[int | None, ...]) -> None:
    op, _, inputs, _ = calls("cpu")
    scale = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    copies = [[tensor * s for s in scale] for tensor in inputs]
    stacked = [
        tensor if dim is None else torch.stack(copy, dim)
        for tensor, copy, dim in zip(inputs, copies, batched, strict=True)
    ]

    def example(i: int) -> list[Tensor]:
        chosen = zip(inputs, copies, batched, strict=True)
        return [tensor if dim is None else copy[i] for tensor, copy, dim in chosen]

    assert_equal(vmap(op, batched)(*stacked), torch.stack([op(*example(i)) for i in range(3)]))
    first = grad(lambda *tensors: op(*tensors).sin().sum(), (0, 1, 2))
    got = vmap(first, batched)(*stacked)
    wanted = zip(*(first(*example(i)) for i in range(3)), strict=True)
    assert_equal(got, tuple(map(torch.stack, wanted)))


def test_vmap_of_a_gradient_that_needs_one_input_only() -> None:
    op, reference, (x, offset, mask), _ = calls("cpu")
    many = torch.stack([mask, 2 * mask])

    def by_mask(call: Call) -> Tensor:
        return vmap(grad(lambda m: call(x, offset, m).sin().sum()))(many)  # type: ignore[no-any-return]

    assert_equal(by_mask(op), by_mask(reference))


def test_transforms_run_the_native_kernels() -> None:
    """Per-sample gradients cost one native call forward and one backward."""
    op, _, inputs, _ = calls("cpu")
    per_sample = vmap(grad(lambda *tensors: op(*(t[None] for t in tensors)).sum()))
    with torch.profiler.profile() as profiler:
        per_sample(*inputs)
    names = {event.key for event in profiler.key_averages()}
    assert "archsearch::dcnv3_backward" in names
    assert "aten::index_select" not in names


def test_a_jvp_of_a_compiled_function_is_right() -> None:
    op, reference, inputs, directions = calls("cpu")

    @torch.compile(backend="aot_eager")
    def tangent(*tensors: Tensor) -> Tensor:
        return jvp(op, tensors, directions)[1]  # type: ignore[no-any-return]

    assert_equal(tangent(*inputs), jvp(reference, inputs, directions)[1])
