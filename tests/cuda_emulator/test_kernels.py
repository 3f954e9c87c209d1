"""The CUDA kernels under the emulator: what only it can vary, and what only it can see.

`tests/cuda_ops` compares them with the definition, as every other backend.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from cuda_ops import ConvArgs
from tests.cuda_emulator.library import (
    MULTIPROCESSOR_BYTES,
    Emulator,
    Settings,
    emulated,
    settings,
)
from tests.cuda_ops.op_cases import (
    CASES,
    LARGER_CASES,
    TOLERANCE,
    Case,
    compute,
    distance,
    expected,
)

TILED = ("tiles by rows", "tiles by rows and columns", "tiles, kernel 5")


def run(
    emulator: Emulator, case: Case, dtype: torch.dtype, values: Settings | None = None
) -> list[Tensor]:
    with emulated(emulator, values):
        return compute(case, *case.leaves(dtype), "cpu")


def equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.fixture
def filled_with_nan() -> Iterator[None]:
    """Memory of new tensors: an element that a kernel does not write is NaN."""
    assert torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("filled_with_nan")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "name", ["all at once", "30 channels a group", "kernel 5", "tiles by rows and columns"]
)
def test_neither_schedule_nor_old_memory_matters(
    emulator: Emulator, name: str, dtype: torch.dtype
) -> None:
    case = (CASES | LARGER_CASES)[name]
    emulator.take_counts()
    first = run(emulator, case, dtype)
    assert emulator.take_counts()["launches"] >= 3  # the kernels, not what they replace
    assert not any(tensor.isnan().any() for tensor in first)
    for others in (
        settings(order="last", poison=0x7F, reverse_blocks=True),
        settings(order="random", seed=20240607, poison=0x00),
    ):
        assert equal(run(emulator, case, dtype, others), first)


@pytest.mark.parametrize("name", TILED)
def test_tiles_fit_the_device_and_do_not_matter(emulator: Emulator, name: str) -> None:
    first = None
    for device, shared_bytes in MULTIPROCESSOR_BYTES.items():
        emulator.take_counts()
        got = run(emulator, LARGER_CASES[name], torch.float32, settings(device=device))
        largest = emulator.take_counts()["largest_shared_bytes"]
        blocks_at_once = 2 if device == "sm_89" else 3
        assert blocks_at_once * (largest + 1024) <= shared_bytes
        assert first is None or equal(got, first)
        first = got


@pytest.mark.parametrize("name", ["all at once", "16 channels a group", "softmax"])
def test_a_call_split_into_launches_is_the_same(emulator: Emulator, name: str) -> None:
    """A launch numbers its threads with 32 bits; a larger call is split by output rows."""
    emulator.take_counts()
    whole = run(emulator, CASES[name], torch.float32)
    num_launches = emulator.take_counts()["launches"]
    split = run(emulator, CASES[name], torch.float32, settings(max_slots=40))
    assert emulator.take_counts()["launches"] > num_launches
    assert equal(split, whole)


def test_a_row_with_more_threads_than_a_launch_is_refused(emulator: Emulator) -> None:
    """The threads of a row count, which may be more than 32 for a pixel and group."""
    case = LARGER_CASES["600 channels a group"]
    lanes = 75  # of 8 channels
    run(emulator, case, torch.float32, settings(max_slots=case.width * lanes))
    with pytest.raises(RuntimeError, match="rows of that many pixels, groups and channels"):
        run(emulator, case, torch.float32, settings(max_slots=case.width * lanes - 1))


def test_an_endless_kernel_is_stopped(emulator: Emulator) -> None:
    with pytest.raises(RuntimeError, match="a block has not ended after 100 turns"):
        run(emulator, CASES["plain"], torch.float32, settings(max_turns=100))


def test_a_pointer_without_the_alignment_of_vectors(emulator: Emulator) -> None:
    name = "16 channels a group"
    (x, *others), grad = CASES[name].leaves(torch.float32)
    moved = torch.empty(x.numel() + 1)[1:].view(x.shape).copy_(x.detach()).requires_grad_()
    assert moved.data_ptr() % 16
    with emulated(emulator):
        got = compute(CASES[name], [moved, *others], grad, "cpu")
    for ours, wanted in zip(got, expected(name), strict=True):
        assert distance(ours, wanted) <= TOLERANCE[torch.float32]


def test_a_nan_position_gives_nan_gradients(emulator: Emulator) -> None:
    case = Case(ConvArgs(2), num_images=1, group_channels=16)
    (x, offset, mask), grad = case.leaves(torch.float32)
    with torch.no_grad():
        offset[0, 1, 2, 5], offset[0, 0, 0, 4] = math.nan, math.inf
    with emulated(emulator):
        _, grad_x, *_ = compute(case, [x, offset, mask], grad, "cpu")
    assert grad_x[..., :16].isnan().any()
    assert not grad_x[..., 16:].isnan().any()


def test_the_kernels_own_backend_runs_again_afterwards(emulator: Emulator) -> None:
    with emulated(emulator):
        pass
    emulator.take_counts()
    compute(CASES["plain"], *CASES["plain"].leaves(torch.float32), "cpu")
    assert emulator.take_counts()["launches"] == 0
