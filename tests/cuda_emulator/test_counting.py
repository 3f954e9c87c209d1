"""The counts behind cuda_ops/results/cuda-counts.md, on maps small enough for every run."""

from __future__ import annotations

import pytest
import torch

from cuda_ops import ConvArgs
from tests.cuda_emulator.counting import bytes_read, turns
from tests.cuda_emulator.library import Emulator
from tests.cuda_ops.op_cases import Case

SOFTMAX = 9 * 2  # bytes of a pair's logits in bfloat16
OFFSETS, CHANNELS = 2 * SOFTMAX, 16 * 2


@pytest.mark.parametrize(("groups", "most"), [(4, 210), (8, 210), (7, 260)])
def test_pixels_of_a_block_share_what_they_read(
    emulator: Emulator, groups: int, most: float
) -> None:
    """In blocks of one row and all groups a pair reads 320 to 350 bytes from L2."""
    case = Case(ConvArgs(groups, softmax=True), 1, 28, 28, 16, spread=1.5)
    sizes = bytes_read(emulator, case, torch.bfloat16)
    forward, in_all = sizes["forward"]
    assert in_all == pytest.approx(CHANNELS + OFFSETS + SOFTMAX, rel=0.01)
    assert forward <= most
    backward, in_all = sizes["offset and mask gradients"]
    assert in_all == pytest.approx(2 * CHANNELS + OFFSETS + SOFTMAX, rel=0.01)
    assert backward == pytest.approx(forward + CHANNELS, rel=0.01)


def test_one_warp_adds_a_small_map(emulator: Emulator) -> None:
    case = Case(ConvArgs(1, softmax=True), 2, 14, 14, 16, spread=1.5)
    per_chunk, slowest, mean = turns(emulator, case)
    assert per_chunk == 1
    assert slowest == mean <= 22


def test_four_warps_share_a_large_map(emulator: Emulator) -> None:
    case = Case(ConvArgs(1, softmax=True), 1, 28, 28, 16, spread=1.5)
    _, slowest, mean = turns(emulator, case)
    assert mean <= 11
    assert slowest <= 13.5
