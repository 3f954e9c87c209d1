"""`python -m tests.cuda_emulator.instructions`: the instructions of the bfloat16 kernels at K = 3.

Compiles them for sm_90 with nvcc, disassembles them with nvdisasm (both of the CUDA toolkit), and
counts along the shortest path through the code that computes a softmax. Of two branches, such as
that for whole and for partial runs of channels, the path takes the shorter.
"""

from __future__ import annotations

import heapq
import itertools
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cuda_ops.build import SOURCES
from cuda_ops.toolchain import BuildError, find_cuda_program, find_nvcc

SOFTMAX, BARRIER, END, STORE, BOX = "MUFU.EX2", "BAR.SYNC", "EXIT", "STS.128", "LDG.E.128 "
POINTS = 9


@dataclass(frozen=True)
class Code:
    """A kernel's instructions, and the position of each label."""

    instructions: list[str]
    labels: dict[str, int]

    def next_positions(self, position: int) -> list[int]:
        """Where the kernel may continue after an instruction."""
        text = self.instructions[position]
        may_fall_through = text.startswith("@") or re.search(r"BRA !?U?P\d", text) is not None
        if target := self.branch_target(position):
            return [target, position + 1] if may_fall_through else [target]
        return [position + 1] if may_fall_through or END not in text else []

    def branch_target(self, position: int) -> int | None:
        """The position that a branch names; None for other instructions."""
        match = re.search(r"\bBRA\b.*`\((\.L_\w+)\)", self.instructions[position])
        return self.labels[match[1]] if match else None

    def all_of(self, kind: str, first: int = 0, last: int | None = None) -> list[int]:
        """The positions of a kind of instruction, such as "EXIT", from `first` to `last`."""
        end = len(self.instructions) if last is None else last + 1
        return [i for i in range(first, end) if kind in self.instructions[i]]

    def loops(self) -> list[tuple[int, int]]:
        """The first and the last instruction of each loop, shortest first."""
        targets = ((self.branch_target(i), i) for i in range(len(self.instructions)))
        pairs = [(first, last) for first, last in targets if first is not None and first < last]
        return sorted(pairs, key=lambda loop: loop[1] - loop[0])

    def shortest(self, *stops: int) -> int:
        """The instructions of the shortest path over the stops, with both ends."""
        parts = itertools.pairwise(stops)
        return 1 + sum(self._distance(first, last) for first, last in parts)

    def _distance(self, first: int, last: int) -> int:
        seen, heap = {first: 0}, [(0, first)]
        while heap:
            steps, position = heapq.heappop(heap)
            if position == last:
                return steps
            for following in self.next_positions(position):
                if steps + 1 < seen.get(following, len(self.instructions)):
                    seen[following] = steps + 1
                    heapq.heappush(heap, (steps + 1, following))
        raise ValueError(f"instruction {last} cannot be reached from {first}")


def grad_x(code: Code) -> dict[str, int]:
    """Instructions of a warp that writes a step, of one that adds it, and per turn of adding."""
    loops = code.loops()
    turn = next(loop for loop in loops if len(code.all_of(STORE, *loop)) >= POINTS)
    step = next(loop for loop in loops if code.all_of(SOFTMAX, *loop))
    softmax, barrier = code.all_of(SOFTMAX, *step)[0], code.all_of(BARRIER, *step)[0]
    box = code.all_of(BOX, *step)[0]
    turns = len(code.all_of(STORE, *turn)) // POINTS  # in one round of the loop
    before, after = code.shortest(step[0], turn[0]) - 1, code.shortest(barrier, step[1])
    return {
        "writing warp, per step, map of one tile": code.shortest(
            step[0], softmax, barrier, step[1]
        ),
        "writing warp, per step, several tiles": code.shortest(
            step[0], softmax, box, barrier, step[1]
        ),
        "adding warp, per step": before + code.shortest(turn[1], barrier) - 2 + after,
        "adding warp, per turn": code.shortest(*turn) // turns,
    }


def whole(code: Code) -> dict[str, int]:
    """Instructions of a warp from begin to end."""
    softmax = code.all_of(SOFTMAX)[:1]
    end = code.all_of(END)[-1]
    return {"a warp": code.shortest(0, *softmax, end)}


KERNELS: dict[str, tuple[str, str, Callable[[Code], dict[str, int]]]] = {
    "forward": ("forward", "forward_kernelINS0_8BFloat16ELi8ELi2ELi3E", whole),
    "grad_weights": ("backward", "grad_weights_kernelINS0_8BFloat16ELi8ELi2ELi3E", whole),
    "boxes": ("backward", "boxes_kernelINS0_8BFloat16ELi3E", whole),
    "grad_x": ("backward", "grad_x_kernelINS0_5SliceINS0_8BFloat16ELi4EEELi3E", grad_x),
}
"""The source, a part of the mangled name, and what is counted."""


def disassembled(source: str) -> str:
    """The sm_90 code of `bfloat16_<source>.cu`. Raises BuildError without nvcc or nvdisasm."""
    nvdisasm = find_cuda_program("nvdisasm")
    if nvdisasm is None:
        raise BuildError("nvdisasm was not found; it is a part of the CUDA toolkit")
    with tempfile.TemporaryDirectory() as folder:
        cubin = str(Path(folder, "out.cubin"))
        path = str(SOURCES / f"cuda/bfloat16_{source}.cu")
        command = [find_nvcc(), "-std=c++17", "-O3", "-arch=sm_90", f"-I{SOURCES}", "-cubin", path]
        subprocess.run([*command, "-o", cubin], check=True)
        result = subprocess.run([nvdisasm, "-c", cubin], capture_output=True, text=True, check=True)
    return result.stdout


def code_of(text: str, symbol: str) -> Code:
    """The code of the kernel whose mangled name contains `symbol`."""
    sections = re.split(r"^\s*\.section\s+\.text\.", text, flags=re.MULTILINE)[1:]
    (section,) = (text for text in sections if symbol in text.partition("\n")[0])
    code = Code([], {})
    for line in section.splitlines():
        if label := re.match(r"(\.L_\w+):", line):
            code.labels[label[1]] = len(code.instructions)
        elif instruction := re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line):
            code.instructions.append(instruction[1])
    return code


def main() -> None:
    texts = {source: disassembled(source) for source in ("forward", "backward")}
    for name, (source, symbol, count) in KERNELS.items():
        for part, instructions in count(code_of(texts[source], symbol)).items():
            print(f"{name}, {part}: {instructions}")


if __name__ == "__main__":
    main()
