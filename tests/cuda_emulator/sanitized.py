"""The emulated kernels in a program of their own, under AddressSanitizer or ThreadSanitizer."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cuda_ops import build
from cuda_ops.build import Recipe
from tests.cuda_emulator.library import (
    FLAGS,
    HERE,
    MISSING,
    ORDERS,
    Settings,
    core_recipe,
    find_gcc,
    linked_to,
    settings,
)
from tests.cuda_emulator.rewrite import Fault, rewritten, source_texts, with_fault, write_sources
from tests.cuda_ops.op_cases import TOLERANCE, Case, distance, reference

CODES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.float64: 3}
POISONS = (0xFF, 0x7F, 0x00)


@dataclass(frozen=True)
class Sanitizer:
    """One of g++'s sanitizers, the macro for the scheduler, and the sanitizer's options."""

    name: str
    define: str
    variable: str
    options: str


FOUND = 66
"""The exit status of a program in which a sanitizer found something."""

ADDRESS = Sanitizer(
    "address,undefined", "EMULATOR_ADDRESS_SANITIZER", "ASAN_OPTIONS", f"exitcode={FOUND}"
)
THREAD = Sanitizer(
    "thread", "EMULATOR_THREAD_SANITIZER", "TSAN_OPTIONS", f"history_size=4:exitcode={FOUND}"
)


@functools.cache
def missing(sanitizer: Sanitizer) -> str | None:
    """Why a sanitizer cannot be used here, or None: a program with it is compiled and run."""
    if MISSING:
        return MISSING
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "empty.cpp"), Path(folder, "empty")
        source.write_text("int main() {}\n")
        command = ["g++", f"-fsanitize={sanitizer.name}", str(source), "-o", str(program)]
        for step in (command, [str(program)]):
            result = subprocess.run(step, capture_output=True, text=True, check=False)
            if result.returncode != 0:
                return f"-fsanitize={sanitizer.name} does not work here: {result.stderr.strip()}"
    return None


class Geometry(ctypes.Structure):
    """`Geometry` of geometry.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n", "h", "w", "ho", "wo")),
        *((name, ctypes.c_int64) for name in ("groups", "group_channels")),
        *((name, ctypes.c_int64) for name in ("offset_stride", "mask_stride")),
        *((name, ctypes.c_int) for name in ("kernel", "stride", "pad", "dilation", "points")),
        *((name, ctypes.c_bool) for name in ("remove_center", "softmax")),
        ("offset_scale", ctypes.c_double),
    )


class Head(ctypes.Structure):
    """`Request` of program.cpp, which the bytes of the four inputs follow."""

    _fields_ = (
        ("type", ctypes.c_int64),
        ("float_weights", ctypes.c_int64),
        ("bytes", ctypes.c_int64 * 4),
        ("shift", ctypes.c_int64 * 4),
        ("settings", Settings),
        ("geometry", Geometry),
    )


@dataclass(frozen=True)
class Call:
    """One call of the operator and its gradients, in one type and on one device.

    `number` chooses the schedule, the poison, the alignment and the type of offset and mask.
    """

    case: Case
    dtype: torch.dtype
    device: str
    number: int

    def inputs(self) -> list[Tensor]:
        """x, offset, mask and the output's gradient."""
        x, offset, mask, grad = self.case.tensors(self.dtype)
        if self.number % 3 == 1 and self.dtype in (torch.float16, torch.bfloat16):
            offset, mask = offset.float(), mask.float()
        return [x, offset, mask, grad]

    def content(self) -> bytes:
        """The call as `program` reads it."""
        inputs = self.inputs()
        x, offset, mask, _ = inputs
        args, which = self.case.args, self.number % 3
        aligned = self.number % 5 != 2
        shift = [0 if aligned else t.element_size() * (2 if t is offset else 1) for t in inputs]
        head = Head(
            CODES[self.dtype],
            offset.dtype == torch.float32,
            (ctypes.c_int64 * 4)(*(t.numel() * t.element_size() for t in inputs)),
            (ctypes.c_int64 * 4)(*shift),
            settings(
                order=ORDERS[which],
                seed=77 + self.number,
                poison=POISONS[which],
                reverse_blocks=self.number % 2 == 1,
                device=self.device,
            ),
            Geometry(
                *x.shape[:3],
                *offset.shape[1:3],
                *(args.groups, self.case.group_channels, offset.stride(2), mask.stride(2)),
                *(args.kernel_size, args.stride, args.padding, args.dilation, args.num_points),
                *(args.remove_center, args.softmax, args.offset_scale),
            ),
        )
        return bytes(head) + b"".join(t.view(torch.uint8).numpy().tobytes() for t in inputs)

    def require_right(self, results: bytearray) -> None:
        """Compares and removes this call's results from the front of the program's."""
        x, offset, mask, grad = self.inputs()
        exact = [tensor.double().requires_grad_() for tensor in (x, offset, mask)]
        for like, wanted in zip(
            (grad, x, offset, mask), reference(self.case, exact, grad), strict=True
        ):
            size = like.numel() * like.element_size()
            got = torch.frombuffer(results[:size], dtype=like.dtype).view(like.shape)
            assert not got.isnan().any(), (self, tuple(like.shape))
            assert distance(got, wanted) <= 4 * TOLERANCE[self.dtype], (self, tuple(like.shape))
            del results[:size]


def program(sanitizer: Sanitizer, cache: Path, *, float_only: bool, fault: Fault | None) -> Path:
    """The program's path; builds it if `cache` does not have it."""
    texts = with_fault(source_texts(), fault) if fault else source_texts()
    sources = write_sources(rewritten(texts), cache)
    flags = (f"-fsanitize={sanitizer.name}", "-fno-sanitize-recover=all")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        core = build.build(core_recipe(sanitizer.define))
        recipe = Recipe(
            backend=f"emulator-program-{sanitizer.name.replace(',', '-')}",
            find_compiler=find_gcc,
            sources=(
                *sorted(sources.glob(f"cuda/{'float_' if float_only else ''}*.cu.cpp")),
                HERE / "program.cpp",
            ),
            flags=(
                *(*FLAGS, "-O1", "-g1", "-fno-omit-frame-pointer", *flags),
                *(f"-I{sources}", f"-I{sources / 'cuda'}"),
                *(("-DFLOAT_ONLY",) if float_only else ()),
            ),
            link_flags=(*flags, *linked_to(core)),
        )
        return build.build(recipe)


def run(
    path: Path, sanitizer: Sanitizer, calls: list[Call], folder: Path
) -> tuple[subprocess.CompletedProcess[str], bytearray]:
    """Runs the program; returns the process, with the sanitizer's report, and the results."""
    requests, results = folder / "calls", folder / "results"
    requests.write_bytes(b"".join(call.content() for call in calls))
    command = [str(path), str(requests), str(results)]
    if setarch := shutil.which("setarch"):  # a random layout may lack the room that it needs
        command = [setarch, "-R", *command]
    process = subprocess.run(
        command,
        env=os.environ | {sanitizer.variable: sanitizer.options},
        capture_output=True,
        text=True,
        check=False,
    )
    return process, bytearray(results.read_bytes())
