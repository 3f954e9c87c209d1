"""`python -m tests.cuda_emulator.counting`: how evenly the gradient of x divides its work.

In one turn a warp adds a pixel's nine points. A block waits for its slowest warp after each step of
32 pixels, so the time of a step is that warp's turns; the mean shows how many a perfect division
would leave. Counted by the emulator, per step, on one image and group.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from cuda_ops import ConvArgs
from tests.cuda_emulator import library
from tests.cuda_emulator.library import Emulator, emulated, settings
from tests.cuda_ops.op_cases import Case

POINTS = 9  # of a turn, each followed by one __syncwarp

# Standard deviation of the offsets in pixels: 1.5 as in the tests, and of a network at its start.
CASES = {
    "56x56": Case(ConvArgs(1, softmax=True), 1, 56, 56, 16, spread=1.5),
    "56x56, offsets of 0.5": Case(ConvArgs(1, softmax=True), 1, 56, 56, 16, spread=0.5),
    "28x28": Case(ConvArgs(1, softmax=True), 1, 28, 28, 16, spread=1.5),
    "14x14": Case(ConvArgs(1, softmax=True), 4, 14, 14, 16, spread=1.5),
    "7x7": Case(ConvArgs(1, softmax=True), 8, 7, 7, 16, spread=1.5),
    "40x40, 32 channels": Case(ConvArgs(1, softmax=True), 1, 40, 40, 32, spread=1.5),
    "64x111": Case(ConvArgs(1, softmax=True), 1, 64, 111, 16, spread=1.5),
}


def turns(emulator: Emulator, case: Case, device: str = "sm_90") -> tuple[float, float, float]:
    """Steps per chunk of 32 pixels, and the slowest warp's and the mean warp's turns per step."""
    x, offset, mask, grad = case.tensors(torch.bfloat16)
    with emulated(emulator, settings(device=device)):
        emulator.take_counts()
        needs = (True, False, False)
        torch.ops.archsearch.dcnv3_backward(grad, x, offset, mask, *case.args, *needs)
        counts = emulator.take_counts()
    chunks = case.num_images * -(-(case.height * case.width) // 32)
    box_blocks = -(-chunks // 4) if counts["launches"] == 2 else 0
    blocks = counts["blocks"] - box_blocks
    steps = counts["barriers"] - blocks  # the last barrier of a block finds that there is no step
    warps = (counts["threads"] - 128 * box_blocks) / blocks / 32 - 1  # that add
    slowest, all_turns = (counts[n] / POINTS for n in ("slowest_warp_syncs", "warp_syncs"))
    return steps / chunks, slowest / steps, all_turns / warps / steps


def main() -> None:
    emulator = library.load(Path(tempfile.gettempdir()))
    print("| map | steps per chunk | slowest warp's turns | mean turns | turns per chunk |")
    print("|---|---|---|---|---|")
    for name, case in CASES.items():
        per_chunk, slowest, mean = turns(emulator, case)
        print(
            f"| {name} | {per_chunk:.2f} | {slowest:.1f} | {mean:.1f} | {per_chunk * slowest:.1f} |"
        )


if __name__ == "__main__":
    main()
