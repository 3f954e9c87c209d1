"""The operator in torch: compile, export, autocast, counting, views, threads, gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from cuda_ops import ConvArgs, dcnv3, dcnv3_macs, dcnv3_macs_handle
from tests.cuda_ops.op_cases import Case, compute

ARGS = ConvArgs(2, softmax=True)
CASE = Case(ARGS, group_channels=16)


def leaves(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return CASE.leaves(dtype)[0]


class Layer(torch.nn.Module):
    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        return dcnv3(x, offset, mask, groups=2, softmax=True)


# torch 2.14's own check reads .grad of what is no leaf
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_opcheck() -> None:
    inputs = leaves()
    torch.library.opcheck(torch.ops.archsearch.dcnv3.default, (*inputs, *ARGS))
    detached = [tensor.detach() for tensor in inputs]
    grad = CASE.tensors(torch.float32)[3]
    for needs in ((True, True, True), (False, True, False)):
        torch.library.opcheck(
            torch.ops.archsearch.dcnv3_backward.default,
            (grad, *detached, *ARGS, *needs),
            test_utils=("test_schema", "test_faketensor"),
        )


def test_compiles_without_a_graph_break_and_differentiates() -> None:
    inputs = leaves()
    compiled = torch.compile(Layer(), fullgraph=True, backend="aot_eager")
    out, wanted = compiled(*inputs), Layer()(*inputs)
    assert torch.equal(out, wanted)
    got = torch.autograd.grad(out.square().sum(), inputs)
    for ours, theirs in zip(got, torch.autograd.grad(wanted.square().sum(), inputs), strict=True):
        assert torch.equal(ours, theirs)


def test_compiles_for_sizes_that_change() -> None:
    compiled = torch.compile(Layer(), fullgraph=True, backend="aot_eager", dynamic=True)
    for height, width in ((4, 3), (6, 5)):
        inputs = Case(ARGS, height=height, width=width).tensors(torch.float32)[:3]
        assert torch.equal(compiled(*inputs), Layer()(*inputs))


def test_exports_as_one_node() -> None:
    inputs = CASE.tensors(torch.float32)[:3]
    program = torch.export.export(Layer(), tuple(inputs))
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert targets == [torch.ops.archsearch.dcnv3.default]
    assert torch.equal(program.module()(*inputs), Layer()(*inputs))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fvcore scripts and traces when imported
def test_counts_five_multiply_adds_per_sampled_element() -> None:
    from fvcore.nn import FlopCountAnalysis

    inputs = leaves()
    wanted = 5 * (2 * 4 * 3) * 9 * 32  # pixels, points, channels
    assert dcnv3_macs(2 * 4 * 3, 32) == wanted
    assert dcnv3_macs(2 * 4 * 3, 32, remove_center=True) == wanted * 8 // 9
    analysis = FlopCountAnalysis(Layer(), tuple(inputs))
    analysis.set_op_handle("archsearch::dcnv3", dcnv3_macs_handle)
    assert analysis.total() == wanted
    with FlopCounterMode(display=False) as counter:
        out = Layer()(*inputs)
    assert counter.get_total_flops() == 2 * wanted
    with FlopCounterMode(display=False) as counter:
        out.sum().backward()
    assert counter.get_total_flops() == 4 * wanted


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_changes_no_result(dtype: torch.dtype) -> None:
    x, offset, mask, _ = CASE.tensors(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = Layer()(x.to(dtype), offset, mask)
    assert inside.dtype == dtype
    assert torch.equal(inside, Layer()(x.to(dtype), offset, mask))


def test_offset_and_mask_of_different_dtypes_are_converted_to_float32() -> None:
    x, offset, mask, _ = CASE.tensors(torch.bfloat16)
    finer = offset.float() + 1e-3
    assert torch.equal(Layer()(x, finer, mask), Layer()(x, finer, mask.float()))
    assert not torch.equal(Layer()(x, finer, mask), Layer()(x, offset, mask))


def merged_views() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, a projection with padding between and after its parts, and its offset and mask."""
    x, offset, mask, _ = CASE.tensors(torch.float32)
    merged = torch.full((2, 4, 3, 36 + 2 + 18 + 3), float("nan"))
    merged[..., :36], merged[..., 38:56] = offset, mask
    return x, merged, merged[..., :36], merged[..., 38:56]


def test_slices_of_a_merged_projection_are_not_copied() -> None:
    x, _, offset, mask = merged_views()
    wanted = Layer()(x, offset.contiguous(), mask.contiguous())
    Layer()(x, offset, mask)
    with profile(acc_events=True) as events:
        out = Layer()(x, offset, mask)
    assert torch.equal(out, wanted)
    names = {event.key for event in events.key_averages()}
    assert "archsearch::dcnv3" in names
    assert not names & {"aten::clone", "aten::copy_"}


def test_gradients_reach_a_merged_projection() -> None:
    x, offset, mask = leaves()
    wanted = torch.autograd.grad(Layer()(x, offset, mask).square().sum(), (offset, mask))
    merged = torch.cat([offset, mask], -1).detach().requires_grad_()
    out = Layer()(x, *merged.split([36, 18], -1))
    (grad,) = torch.autograd.grad(out.square().sum(), merged)
    assert torch.equal(grad, torch.cat(wanted, -1))


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_a_crop_of_a_larger_map_is_read_correctly(backend: str) -> None:
    x, offset, mask, _ = CASE.tensors(torch.float32)
    larger = []
    for tensor in (x, offset, mask):
        map_ = torch.full((2, 6, 5, tensor.shape[-1]), float("nan"))
        map_[:, :4, 1:4] = tensor
        larger.append(map_[:, :4, 1:4])
    got = dcnv3(*larger, groups=2, backend=backend)
    assert torch.equal(got, dcnv3(x, offset, mask, groups=2, backend=backend))


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_inputs_and_gradients_of_any_layout_are_accepted(backend: str) -> None:
    inputs = leaves()
    x, offset, mask = inputs
    wanted = dcnv3(x, offset, mask, groups=2, backend=backend)
    strided = [
        tensor.detach().permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0) for tensor in inputs
    ]
    for tensor in strided:
        assert not tensor.is_contiguous()
        tensor.requires_grad_()
    out = dcnv3(*strided, groups=2, backend=backend)
    assert torch.allclose(out, wanted)
    for grad in (torch.ones(1).expand(out.shape), torch.randn(3, 4, 2, 32).transpose(0, 2)):
        got = torch.autograd.grad(out, strided, grad, retain_graph=True)
        expected = torch.autograd.grad(wanted, inputs, grad.contiguous(), retain_graph=True)
        for ours, theirs in zip(got, expected, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-6)


class Calls(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.needs: list[tuple[bool, ...]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is torch.ops.archsearch.dcnv3_backward.default:
            self.needs.append(tuple(args[-3:]))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "needs", [(True, False, False), (False, True, False), (False, False, True)]
)
def test_only_needed_gradients_are_computed(needs: tuple[bool, bool, bool]) -> None:
    everything = leaves()
    wanted = torch.autograd.grad(Layer()(*everything).square().sum(), everything)
    inputs = [
        tensor.detach().requires_grad_(needed)
        for tensor, needed in zip(everything, needs, strict=True)
    ]
    out = Layer()(*inputs).square().sum()
    with Calls() as calls:
        out.backward()
    assert calls.needs == [needs]
    for tensor, needed, grad in zip(inputs, needs, wanted, strict=True):
        assert (tensor.grad is not None) == needed
        assert not needed or torch.equal(tensor.grad, grad)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    num_threads = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(num_threads)


@pytest.mark.parametrize("height", [9, 70])  # small and large maps
def test_results_do_not_depend_on_the_number_of_threads(
    height: int, threads: Callable[[int], None]
) -> None:
    case = Case(ConvArgs(6, softmax=True), height=height, width=height - 3, group_channels=16)
    call = (case, *case.leaves(torch.float32))
    threads(1)
    alone = compute(*call, "cpu")
    for ours, theirs in zip(alone, compute(*call, "torch"), strict=True):
        assert torch.allclose(ours, theirs, atol=2e-4, rtol=1e-4)
    for number in (2, 5):
        threads(number)
        for ours, theirs in zip(alone, compute(*call, "cpu"), strict=True):
            assert torch.equal(ours, theirs)
