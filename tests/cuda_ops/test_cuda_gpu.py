"""Tests that need a GPU; test_op.py has those that are common to all backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from cuda_ops import ConvArgs, dcnv3
from tests.cuda_ops import op_cases
from tests.cuda_ops.op_cases import LARGER_CASES, STAGES, TOLERANCE, Case, distance, reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

LARGE = STAGES | LARGER_CASES


def on_gpu(case: Case, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    return case.leaves(dtype, "cuda")


compute = partial(op_cases.compute, backend="cuda")


def equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("name", LARGE)
def test_real_sizes_equal_the_reference(name: str, dtype: torch.dtype) -> None:
    inputs, grad = on_gpu(LARGE[name], dtype)
    got, wanted = compute(LARGE[name], inputs, grad), reference(LARGE[name], inputs, grad)
    for ours, theirs in zip(got, wanted, strict=True):
        # These sums have many more terms than those of the small cases.
        assert distance(ours, theirs.cpu()) <= 8 * TOLERANCE[dtype], tuple(ours.shape)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(
    "name", ["T stage 1", "T stage 4", "tiles, kernel 5", "B stage 1 at 800x1333"]
)
def test_every_run_gives_the_same_bits(name: str) -> None:
    inputs, grad = on_gpu(LARGE[name], torch.bfloat16)
    first = compute(LARGE[name], inputs, grad)
    for _ in range(5):
        assert equal(compute(LARGE[name], inputs, grad), first)


@pytest.mark.parametrize("name", ["T stage 3", "T stage 4", "kernel 9, no center"])
def test_an_images_result_does_not_depend_on_its_batch(name: str) -> None:
    case = LARGE[name]
    inputs, grad = on_gpu(case, torch.float32)
    together = compute(case, inputs, grad)
    for i in range(case.num_images):
        one = [tensor[i : i + 1].detach().requires_grad_() for tensor in inputs]
        assert equal(
            compute(case, one, grad[i : i + 1]), [tensor[i : i + 1] for tensor in together]
        )


def test_runs_on_the_current_stream() -> None:
    case = STAGES["T stage 1"]
    inputs, grad = on_gpu(case, torch.float32)
    wanted = compute(case, inputs, grad)
    big = torch.randn(8192, 8192, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        busy = big
        for _ in range(20):
            busy = busy @ big  # delays what follows on this stream
        delayed = [(tensor + 0 * busy.sum().nan_to_num(0, 0, 0)).detach() for tensor in inputs]
        got = compute(case, [tensor.requires_grad_() for tensor in delayed], grad)
    stream.synchronize()
    assert equal(got, wanted)


@pytest.mark.parametrize("name", ["T stage 1", "T stage 4"])
def test_a_graph_replays_with_new_values(name: str) -> None:
    case = LARGE[name]
    inputs, grad = on_gpu(case, torch.bfloat16)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            compute(case, inputs, grad)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = compute(case, inputs, grad)
    for _ in range(2):
        with torch.no_grad():
            for tensor in (*inputs, grad):
                tensor.copy_(torch.randn_like(tensor))
        graph.replay()
        assert equal(captured, compute(case, inputs, grad))


def test_one_graph_contains_tiles_of_two_sizes() -> None:
    """Both use the same kernel, the second with less shared memory; the first must keep its own."""
    cases = [LARGE["T stage 1"], LARGE["tiles by rows"]]
    calls = [(case, *on_gpu(case, torch.float32)) for case in cases]
    wanted = [compute(*call) for call in calls]  # the second size is set last before capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = [compute(*call) for call in calls]
    for tensors in captured:
        for tensor in tensors:
            tensor.zero_()
    for _ in range(2):
        graph.replay()
        assert all(equal(got, same) for got, same in zip(captured, wanted, strict=True))
        assert equal(compute(*calls[1]), wanted[1])  # sets the smaller size between replays


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("view", [views_of_one_projection, views_at_odd_positions, permuted])
def test_views_and_copies_give_the_same_result(
    view: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], dtype: torch.dtype
) -> None:
    case = Case(ConvArgs(3, softmax=True), 2, 9, 8, 16)
    (x, offset, mask), grad = on_gpu(case, dtype)
    wanted = compute(case, [x, offset, mask], grad)
    views = [tensor.detach().requires_grad_() for tensor in view(offset, mask)]
    assert equal(compute(case, [x, *views], grad), wanted)


def test_gradients_of_any_layout_are_accepted() -> None:
    case = Case(ConvArgs(2, softmax=True), 2, 9, 8, 16)
    inputs, grad = on_gpu(case, torch.float32)
    expanded = torch.full((), 0.7, device="cuda").expand_as(grad)
    assert equal(compute(case, inputs, expanded), compute(case, inputs, expanded.contiguous()))
    permuted_grad = grad.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert equal(compute(case, inputs, permuted_grad), compute(case, inputs, grad))
    x, *others = inputs
    strided = x.detach().permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1).requires_grad_()
    assert equal(compute(case, [strided, *others], grad), compute(case, inputs, grad))


@pytest.mark.parametrize("needed", [(0,), (1,), (2,), (1, 2), (0, 2)])
@pytest.mark.parametrize("name", ["T stage 4", "kernel 5, 40 channels"])
def test_each_set_of_gradients(name: str, needed: tuple[int, ...]) -> None:
    case = LARGE[name]
    inputs, grad = on_gpu(case, torch.float32)
    everything = compute(case, inputs, grad)[1:]
    some = [tensor.detach().requires_grad_(i in needed) for i, tensor in enumerate(inputs)]
    out = dcnv3(*some, **case.args._asdict(), backend="cuda")
    grads = torch.autograd.grad(out, [some[i] for i in needed], grad)
    assert equal(list(grads), [everything[i] for i in needed])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 1)])
def test_maps_of_one_row_or_column(size: tuple[int, int]) -> None:
    case = Case(ConvArgs(2), 3, *size, 16, spread=0.6)
    inputs, grad = on_gpu(case, torch.float32)
    for ours, theirs in zip(
        compute(case, inputs, grad), reference(case, inputs, grad), strict=True
    ):
        assert distance(ours, theirs.cpu()) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5])
def test_gradcheck(kernel_size: int, softmax: bool) -> None:
    args = ConvArgs(2, kernel_size, 1, kernel_size // 2, softmax=softmax, offset_scale=1.3)
    case = Case(args, 1, 3, 4, 5)
    (x, offset, mask), _ = on_gpu(case, torch.float64)
    # Away from pixels, where the derivative by the offset jumps: adding 0.1 to 0.2 brings none of
    # the kernel's own positions -2.6, -1.3, 0, 1.3 and 2.6 to a pixel.
    shift = torch.rand(offset.shape, generator=torch.Generator().manual_seed(7)).to(offset)
    offset = (offset.detach().round() + 0.1 + 0.1 * shift) / 1.3
    call = lambda *tensors: dcnv3(*tensors, **args._asdict(), backend="cuda")  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, offset.requires_grad_(), mask))


def test_tensors_of_more_than_32_bit_sizes() -> None:
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
    got = compute(case, inputs, grad)
    wanted = compute(case, [tensor.requires_grad_() for tensor in few[:3]], few[3])
    for ours, theirs in zip(got, wanted, strict=True):
        for i in (0, num_images // 2, num_images - 1):
            assert torch.equal(ours[i], theirs[i % 7])


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_a_second_gpu_is_used_and_the_current_device_is_unchanged() -> None:
    case = STAGES["T stage 4"]
    inputs, grad = on_gpu(case, torch.float32)
    wanted = compute(case, inputs, grad)
    moved = [tensor.detach().to("cuda:1").requires_grad_() for tensor in inputs]
    got = compute(case, moved, grad.to("cuda:1"))
    assert torch.cuda.current_device() == 0
    assert equal([tensor.to("cuda:0") for tensor in got], wanted)


def test_a_launch_that_is_not_supported_is_an_error() -> None:
    args = ConvArgs(1, kernel_size=127, padding=63, softmax=True)
    (x, offset, mask), _ = on_gpu(Case(args, 1, 1, 1, 1), torch.float32)
    out = dcnv3(x, offset, mask, **args._asdict(), backend="cuda")
    with pytest.raises(
        RuntimeError, match="kernel size is too large for the gradient of a softmax"
    ):
        out.sum().backward()


def test_opcheck() -> None:
    (x, offset, mask), grad = on_gpu(Case(ConvArgs(2, softmax=True), 1, 3, 4, 8), torch.float32)
    args = tuple(ConvArgs(2, softmax=True))
    torch.library.opcheck(torch.ops.archsearch.dcnv3.default, (x, offset, mask, *args))
    detached = [tensor.detach() for tensor in (grad, x, offset, mask)]
    torch.library.opcheck(
        torch.ops.archsearch.dcnv3_backward.default, (*detached, *args, True, True, True)
    )
