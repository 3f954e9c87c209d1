"""The CUDA kernels, on a GPU and emulated; test_op.py has the tests common to all backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from cuda_ops import ConvArgs, dcnv3, self_check
from tests.cuda_ops.op_cases import (
    LARGER_CASES,
    STAGES,
    TOLERANCE,
    Case,
    compute,
    device_of,
    distance,
    reference,
)

LARGE = STAGES | LARGER_CASES
ON_GPU = pytest.param("cuda", marks=pytest.mark.gpu)

everywhere = pytest.mark.parametrize("backend", ["emulator", ON_GPU], indirect=True)
on_gpu = pytest.mark.parametrize("backend", [ON_GPU], indirect=True)


def large_cases(*names: str) -> Any:
    """Parametrizes `name` and `backend`; a stage is too large for the emulator's fast part."""
    emulated = (
        pytest.param(name, "emulator", marks=[pytest.mark.slow] if name in STAGES else [])
        for name in names
    )
    on_gpus = (pytest.param(name, "cuda", marks=pytest.mark.gpu) for name in names)
    return pytest.mark.parametrize(("name", "backend"), [*emulated, *on_gpus], indirect=["backend"])


def equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: str(dtype).removeprefix("torch."))
@large_cases(*LARGE)
def test_real_sizes_equal_the_reference(name: str, dtype: torch.dtype, backend: str) -> None:
    inputs, grad = LARGE[name].leaves(dtype, device_of(backend))
    got, wanted = compute(LARGE[name], inputs, grad, backend), reference(LARGE[name], inputs, grad)
    for ours, theirs in zip(got, wanted, strict=True):
        # These sums have many more terms than those of the small cases.
        assert distance(ours, theirs.cpu()) <= 8 * TOLERANCE[dtype], tuple(ours.shape)


@on_gpu
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(
    "name", ["T stage 1", "T stage 4", "tiles, kernel 5", "B stage 1 at 800x1333"]
)
def test_every_run_gives_the_same_bits(name: str, backend: str) -> None:
    inputs, grad = LARGE[name].leaves(torch.bfloat16, device_of(backend))
    first = compute(LARGE[name], inputs, grad, backend)
    for _ in range(5):
        assert equal(compute(LARGE[name], inputs, grad, backend), first)


@large_cases("T stage 3", "T stage 4", "kernel 9, no center", "tiles by rows")
def test_an_images_result_does_not_depend_on_its_batch(name: str, backend: str) -> None:
    case = LARGE[name]
    inputs, grad = case.leaves(torch.float32, device_of(backend))
    together = compute(case, inputs, grad, backend)
    for i in range(case.num_images):
        one = [tensor[i : i + 1].detach().requires_grad_() for tensor in inputs]
        assert equal(
            compute(case, one, grad[i : i + 1], backend), [tensor[i : i + 1] for tensor in together]
        )


@on_gpu
def test_runs_on_the_current_stream(backend: str) -> None:
    case = STAGES["T stage 1"]
    inputs, grad = case.leaves(torch.float32, device_of(backend))
    wanted = compute(case, inputs, grad, backend)
    big = torch.randn(8192, 8192, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        busy = big
        for _ in range(20):
            busy = busy @ big  # delays what follows on this stream
        delayed = [(tensor + 0 * busy.sum().nan_to_num(0, 0, 0)).detach() for tensor in inputs]
        got = compute(case, [tensor.requires_grad_() for tensor in delayed], grad, backend)
    stream.synchronize()
    assert equal(got, wanted)


@on_gpu
@pytest.mark.parametrize("name", ["T stage 1", "T stage 4"])
def test_a_graph_replays_with_new_values(name: str, backend: str) -> None:
    case = LARGE[name]
    inputs, grad = case.leaves(torch.bfloat16, device_of(backend))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            compute(case, inputs, grad, backend)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = compute(case, inputs, grad, backend)
    for _ in range(2):
        with torch.no_grad():
            for tensor in (*inputs, grad):
                tensor.copy_(torch.randn_like(tensor))
        graph.replay()
        assert equal(captured, compute(case, inputs, grad, backend))


@on_gpu
def test_one_graph_contains_tiles_of_two_sizes(backend: str) -> None:
    """Both use the same kernel, the second with less shared memory; the first must keep its own."""
    cases = [LARGE["T stage 1"], LARGE["tiles by rows"]]
    calls = [(case, *case.leaves(torch.float32, device_of(backend))) for case in cases]
    wanted = [
        compute(*call, backend) for call in calls
    ]  # the second size is set last before capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = [compute(*call, backend) for call in calls]
    for tensors in captured:
        for tensor in tensors:
            tensor.zero_()
    for _ in range(2):
        graph.replay()
        assert all(equal(got, same) for got, same in zip(captured, wanted, strict=True))
        assert equal(
            compute(*calls[1], backend), wanted[1]
        )  # sets the smaller size between replays


def views_of_one_projection(offset: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    both = torch.cat([offset, mask], -1)
    return both[..., : offset.shape[-1]], both[..., offset.shape[-1] :]


def views_at_odd_positions(offset: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    odd = torch.cat([mask[..., :1], offset, mask, mask[..., :1]], -1)
    end = 1 + offset.shape[-1]
    return odd[..., 1:end], odd[..., end : end + mask.shape[-1]]


def permuted(offset: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return (
        offset.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        mask.transpose(1, 2).contiguous().transpose(1, 2),
    )


@everywhere
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("view", [views_of_one_projection, views_at_odd_positions, permuted])
def test_views_and_copies_give_the_same_result(
    view: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], dtype: torch.dtype, backend: str
) -> None:
    case = Case(ConvArgs(3, softmax=True), 2, 9, 8, 16)
    (x, offset, mask), grad = case.leaves(dtype, device_of(backend))
    wanted = compute(case, [x, offset, mask], grad, backend)
    views = [tensor.detach().requires_grad_() for tensor in view(offset, mask)]
    assert equal(compute(case, [x, *views], grad, backend), wanted)


@everywhere
def test_gradients_of_any_layout_are_accepted(backend: str) -> None:
    case = Case(ConvArgs(2, softmax=True), 2, 9, 8, 16)
    inputs, grad = case.leaves(torch.float32, device_of(backend))
    expanded = torch.full((), 0.7, device=device_of(backend)).expand_as(grad)
    assert equal(
        compute(case, inputs, expanded, backend),
        compute(case, inputs, expanded.contiguous(), backend),
    )
    permuted_grad = grad.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert equal(
        compute(case, inputs, permuted_grad, backend), compute(case, inputs, grad, backend)
    )
    x, *others = inputs
    strided = x.detach().permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1).requires_grad_()
    assert equal(
        compute(case, [strided, *others], grad, backend), compute(case, inputs, grad, backend)
    )


@pytest.mark.parametrize("needed", [(0,), (1,), (2,), (1, 2), (0, 2)])
@large_cases("T stage 4", "kernel 5, 40 channels", "tiles by rows")
def test_each_set_of_gradients(name: str, needed: tuple[int, ...], backend: str) -> None:
    case = LARGE[name]
    inputs, grad = case.leaves(torch.float32, device_of(backend))
    everything = compute(case, inputs, grad, backend)[1:]
    some = [tensor.detach().requires_grad_(i in needed) for i, tensor in enumerate(inputs)]
    out = dcnv3(*some, **case.args._asdict(), backend=backend)
    grads = torch.autograd.grad(out, [some[i] for i in needed], grad)
    assert equal(list(grads), [everything[i] for i in needed])


@everywhere
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 1)])
def test_maps_of_one_row_or_column(size: tuple[int, int], backend: str) -> None:
    case = Case(ConvArgs(2), 3, *size, 16, spread=0.6)
    inputs, grad = case.leaves(torch.float32, device_of(backend))
    for ours, theirs in zip(
        compute(case, inputs, grad, backend), reference(case, inputs, grad), strict=True
    ):
        assert distance(ours, theirs.cpu()) <= TOLERANCE[torch.float32]


@everywhere
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5])
def test_gradcheck(kernel_size: int, softmax: bool, backend: str) -> None:
    args = ConvArgs(2, kernel_size, 1, kernel_size // 2, softmax=softmax, offset_scale=1.3)
    case = Case(args, 1, 3, 4, 5)
    (x, offset, mask), _ = case.leaves(torch.float64, device_of(backend))
    # Away from pixels, where the derivative by the offset jumps: adding 0.1 to 0.2 brings none of
    # the kernel's own positions -2.6, -1.3, 0, 1.3 and 2.6 to a pixel.
    shift = torch.rand(offset.shape, generator=torch.Generator().manual_seed(7)).to(offset)
    offset = (offset.detach().round() + 0.1 + 0.1 * shift) / 1.3
    call = lambda *tensors: dcnv3(*tensors, **args._asdict(), backend=backend)  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, offset.requires_grad_(), mask))


@on_gpu
def test_tensors_of_more_than_32_bit_sizes(backend: str) -> None:
    shape, groups = (56, 56), 4
    num_images = (1 << 31) // (56 * 56 * groups * 16) + 40  # x, and offset, which is larger
    if torch.cuda.mem_get_info()[0] < 40 << 30:
        pytest.skip("needs 40 GiB of free GPU memory")
    case = Case(ConvArgs(groups, softmax=True), num_images, *shape, 16)
    few = [tensor[:7].cuda() for tensor in Case(case.args, 7, *shape, 16).tensors(torch.bfloat16)]
    x, offset, mask, grad = (
        tensor.repeat(-(-num_images // 7), 1, 1, 1)[:num_images] for tensor in few
    )
    inputs = [tensor.requires_grad_() for tensor in (x, offset, mask)]
    got = compute(case, inputs, grad, backend)
    wanted = compute(case, [tensor.requires_grad_() for tensor in few[:3]], few[3], backend)
    for ours, theirs in zip(got, wanted, strict=True):
        for i in (0, num_images // 2, num_images - 1):
            assert torch.equal(ours[i], theirs[i % 7])


@on_gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_a_second_gpu_is_used_and_the_current_device_is_unchanged(backend: str) -> None:
    case = STAGES["T stage 4"]
    inputs, grad = case.leaves(torch.float32, device_of(backend))
    wanted = compute(case, inputs, grad, backend)
    moved = [tensor.detach().to("cuda:1").requires_grad_() for tensor in inputs]
    got = compute(case, moved, grad.to("cuda:1"), backend)
    assert torch.cuda.current_device() == 0
    assert equal([tensor.to("cuda:0") for tensor in got], wanted)


@everywhere
def test_a_launch_that_is_not_supported_is_an_error(backend: str) -> None:
    args = ConvArgs(1, kernel_size=127, padding=63, softmax=True)
    (x, offset, mask), _ = Case(args, 1, 1, 1, 1).leaves(torch.float32, device_of(backend))
    out = dcnv3(x, offset, mask, **args._asdict(), backend=backend)
    with pytest.raises(
        RuntimeError, match="kernel size is too large for the gradient of a softmax"
    ):
        out.sum().backward()


@on_gpu
def test_the_self_check_finds_nothing(backend: str) -> None:
    assert self_check.differences(torch.device(device_of(backend))) == []


# torch 2.14's own check reads .grad of what is no leaf
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@everywhere
def test_opcheck(backend: str) -> None:
    (x, offset, mask), grad = Case(ConvArgs(2, softmax=True), 1, 3, 4, 8).leaves(
        torch.float32, device_of(backend)
    )
    args = tuple(ConvArgs(2, softmax=True))
    torch.library.opcheck(torch.ops.archsearch.dcnv3.default, (x, offset, mask, *args))
    detached = [tensor.detach() for tensor in (grad, x, offset, mask)]
    torch.library.opcheck(
        torch.ops.archsearch.dcnv3_backward.default, (*detached, *args, True, True, True)
    )
