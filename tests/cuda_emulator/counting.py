"""`python -m tests.cuda_emulator.counting`: the work of the gradient of x, and the bytes read.

In one turn a warp adds a pixel's nine points. A block waits for its slowest warp after each step of
32 pixels, so the time of a step is that warp's turns; the mean shows how many a perfect division
would leave. Counted by the emulator, per step, on one image and group.

The second table has the bytes that each kernel's blocks read, per pixel and group, in sectors of 32
bytes: from L2 if no two blocks share a sector in L1, and from memory if L2 keeps every sector.
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


MAPS = {
    "56x56": Case(ConvArgs(4, softmax=True), 1, 56, 56, 16, spread=1.5),
    "28x28": Case(ConvArgs(8, softmax=True), 2, 28, 28, 16, spread=1.5),
    "14x14": Case(ConvArgs(16, softmax=True), 4, 14, 14, 16, spread=1.5),
    "7x7": Case(ConvArgs(32, softmax=True), 8, 7, 7, 16, spread=1.5),
    "64x111": Case(ConvArgs(7, softmax=True), 1, 64, 111, 16, spread=1.5),
}
"""T's stages, and a map whose 7 groups are one bundle."""

CALLS = {
    "forward": (False, False, False),
    "offset and mask gradients": (False, True, True),
    "gradient of x": (True, False, False),
}
"""The kernels, by the gradients that they compute."""


def bytes_read(
    emulator: Emulator, case: Case, dtype: torch.dtype
) -> dict[str, tuple[float, float]]:
    """Per kernel, the bytes that its blocks read, each sector once per block and once in all."""
    *inputs, grad = (on_sector(tensor) for tensor in case.tensors(dtype))
    pairs = case.num_images * case.height * case.width * case.args.groups
    sizes = {}
    with emulated(emulator, settings(count_reads=True)):
        for name, needs in CALLS.items():
            emulator.take_counts()
            if any(needs):
                torch.ops.archsearch.dcnv3_backward(grad, *inputs, *case.args, *needs)
            else:
                torch.ops.archsearch.dcnv3(*inputs, *case.args)
            counts = emulator.take_counts()
            by_block, in_all = (32 * counts[n] / pairs for n in ("block_sectors", "launch_sectors"))
            sizes[name] = (by_block, in_all)
    return sizes


def on_sector(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that begins at a multiple of 256 bytes, as allocations on a GPU do."""
    size = tensor.element_size()
    memory = torch.empty(tensor.numel() + 256 // size, dtype=tensor.dtype)
    first = -memory.data_ptr() % 256 // size
    return memory[first : first + tensor.numel()].view(tensor.shape).copy_(tensor)


def main() -> None:
    emulator = library.load(Path(tempfile.gettempdir()))
    print_turns(emulator)
    print("\n| map, dtype | kernel | bytes from L2 | bytes from memory |")
    print("|---|---|---|---|")
    for name, case in MAPS.items():
        for dtype in (torch.bfloat16, torch.float32):
            for kernel, (by_block, in_all) in bytes_read(emulator, case, dtype).items():
                print(f"| {name}, {dtype} | {kernel} | {by_block:.0f} | {in_all:.0f} |")


def print_turns(emulator: Emulator) -> None:
    print("| map | steps per chunk | slowest warp's turns | mean turns | turns per chunk |")
    print("|---|---|---|---|---|")
    for name, case in CASES.items():
        per_chunk, slowest, mean = turns(emulator, case)
        print(
            f"| {name} | {per_chunk:.2f} | {slowest:.1f} | {mean:.1f} | {per_chunk * slowest:.1f} |"
        )


if __name__ == "__main__":
    main()
