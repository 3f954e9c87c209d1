"""The kernels under AddressSanitizer and ThreadSanitizer, and mistakes that must be found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cuda_ops import ConvArgs
from tests.cuda_emulator import sanitized
from tests.cuda_emulator.rewrite import Fault
from tests.cuda_emulator.sanitized import ADDRESS, FOUND, THREAD, Call, Sanitizer
from tests.cuda_ops.op_cases import TOLERANCE, Case

pytestmark = pytest.mark.slow

SMALL = (
    Case(ConvArgs(2)),
    Case(ConvArgs(2, softmax=True, remove_center=True, offset_scale=2.0)),
    Case(ConvArgs(2), group_channels=12, num_images=1),
    Case(ConvArgs(1), group_channels=1, num_images=1),
    Case(ConvArgs(2, softmax=True), group_channels=16),
    Case(ConvArgs(1), group_channels=30, num_images=1),
    Case(ConvArgs(1, softmax=True), group_channels=64, num_images=1),
    Case(ConvArgs(1, 5, 1, 2, softmax=True), 1, 5, 4, 16),
    Case(ConvArgs(1, 5, 2, 2, softmax=True, remove_center=True), 1, 7, 6, 40),
    Case(ConvArgs(1, 7, 1, 3, softmax=True), 1, 5, 4, 16),
    Case(ConvArgs(1, 7, 1, 3), 1, 4, 5, 3),
    Case(ConvArgs(2, 2, 1, 1, 3), 1, 6, 5, 8),
    Case(ConvArgs(1, 9, 1, 4, softmax=True, remove_center=True), 1, 4, 4, 8),
    Case(ConvArgs(3, 3, 2, 2, 2, 1.5, True, True), 2, 8, 9, 16),
    Case(ConvArgs(2), 2, 5, 6, 16, spread=40.0),
    Case(ConvArgs(1), 3, 1, 1, 16),
    Case(ConvArgs(2), 1, 1, 9, 8),
    Case(ConvArgs(2), 1, 9, 1, 8),
    Case(ConvArgs(1, softmax=True), 1, 3, 3, 600),
    Case(ConvArgs(1, softmax=True), 1, 3, 3, 151),
)
TILED = (
    Case(ConvArgs(1, softmax=True), 1, 22, 23, 16, spread=1.5),
    Case(ConvArgs(1), 1, 24, 40, 16, spread=12.0),
    Case(ConvArgs(1), 1, 21, 47, 20, spread=2.0),
    Case(ConvArgs(1, 5, 1, 2, softmax=True), 1, 22, 23, 8),
    Case(ConvArgs(1, 3, 1, 0, 1), 1, 3, 300, 5, spread=2.0),
    Case(ConvArgs(1, 3, 2, 1, 1), 2, 31, 29, 32, spread=1.0),
    # Most chunks reach no tile. ThreadSanitizer has at most 8128 threads a launch.
    Case(ConvArgs(1, 3, 1, 30, 1), 1, 22, 23, 4, spread=0.5),
    Case(ConvArgs(1, 3, 40, 1, 1), 1, 60, 61, 16, spread=0.1),  # no chunk reaches some tiles
)


def calls(*dtypes: torch.dtype) -> list[Call]:
    pairs = [(case, "sm_90") for case in SMALL] + [(case, "sm_89") for case in TILED]
    every = [(case, device, dtype) for case, device in pairs for dtype in dtypes]
    return [Call(case, dtype, device, i) for i, (case, device, dtype) in enumerate(every)]


def cache_of(request: pytest.FixtureRequest, sanitizer: Sanitizer) -> Path:
    if reason := sanitized.missing(sanitizer):
        pytest.skip(reason)
    return request.config.cache.mkdir("cuda_emulator")


def test_no_access_outside_a_buffer(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    cache = cache_of(request, ADDRESS)
    path = sanitized.program(ADDRESS, cache, float_only=False, fault=None)
    every = calls(*TOLERANCE)
    process, results = sanitized.run(path, ADDRESS, every, tmp_path)
    assert process.returncode == 0, process.stderr[:4000]
    for call in every:
        call.require_right(results)
    assert not results


def test_no_two_threads_race(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    cache = cache_of(request, THREAD)
    path = sanitized.program(THREAD, cache, float_only=True, fault=None)
    every = calls(torch.float32)
    process, results = sanitized.run(path, THREAD, every, tmp_path)
    assert process.returncode == 0, process.stderr[:4000]
    for call in every:
        call.require_right(results)
    assert not results


# A mistake, the sanitizer under which it is found, its status, and what the report must contain.
FAULTS = {
    "no __syncwarp between two points": (
        Fault("grad_x.cuh", "      __syncwarp();  // in the next point", "      // in the next"),
        *(THREAD, FOUND, ("data race", "grad_x_kernel")),
    ),
    "no wait for a team's sums": (
        Fault("grad_weights.cuh", "  team.wait();", ""),
        *(THREAD, FOUND, ("data race", "grad_weights_kernel")),
    ),
    "two blocks write one row": (
        Fault("grad_x.cuh", "y < tile.height;", "y < tile.height + (tile.y0 == 0);"),
        *(THREAD, FOUND, ("data race", "grad_x_kernel")),
    ),
    "an early return": (
        Fault("grad_weights.cuh", "thread < c.slots;", "thread < c.slots; if (!active) return;"),
        # The emulator's own check. ThreadSanitizer would also report the stacks that it gives up.
        *(ADDRESS, 1, ("a lane ends while others of its warp wait",)),
    ),
    "an offset too far": (
        Fault("sample.cuh", "early.offset) + 2 * full)", "early.offset) + 2 * full + 2)"),
        *(ADDRESS, FOUND, ("heap-buffer-overflow",)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    fault, sanitizer, status, messages = FAULTS[name]
    path = sanitized.program(sanitizer, cache_of(request, sanitizer), float_only=True, fault=fault)
    # Several points of one pixel, teams that keep the sums of a softmax, and a map of two tiles.
    few = [Call(SMALL[i], torch.float32, "sm_90", 3 * i) for i in (0, 4, 12, 13)]
    few.append(Call(TILED[0], torch.float32, "sm_89", 0))
    process, _ = sanitized.run(path, sanitizer, few, tmp_path)
    assert process.returncode == status, process.stderr[:4000]
    assert all(message in process.stderr for message in messages), process.stderr[:4000]
