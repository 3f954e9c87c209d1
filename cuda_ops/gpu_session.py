"""`python -m cuda_ops.gpu_session`, in the repository's root: all that a GPU has to show, at once.

Builds for the GPU that is there, runs the tests marked gpu, runs small calls under
compute-sanitizer, then times every stage shape, beside the official operators where their sources
are given, and keeps the rows as JSON under `cuda_ops/results/` by the GPU's name. A step that fails
does not stop the next; the last line says which did, and the exit status is their number.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from cuda_ops.geometry import Window
from cuda_ops.ops import dcnv3

RESULTS = Path(__file__).parent / "results"
TESTS = ("tests/test_op.py", "tests/test_cuda_gpu.py", "tests/test_cuda_host.py")
SANITIZER_TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
# (window, height, width, channels a group): vectors and none, one tile and several, every K.
EXERCISES = (
    (Window(2, softmax=True), 9, 8, 16),
    (Window(1), 40, 34, 16),
    (Window(2, remove_center=True, softmax=True), 7, 7, 12),
    (Window(1, 5, 1, 2, softmax=True), 9, 8, 30),
    (Window(1, 7, 2, 3, softmax=True), 9, 8, 32),
    (Window(2, 2, dilation=2), 6, 5, 1),
)


def steps(rivals: Path | None, gpu: str) -> dict[str, list[str]]:
    """Command lines by name, in order."""
    python = [sys.executable, "-m"]
    result = RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', gpu.lower()).strip('-')}.json"
    bench = [*python, "cuda_ops.bench", "--device", "cuda", "--json", str(result)]
    exercise = [*python, "cuda_ops.gpu_session", "--exercise"]
    sanitizer = shutil.which("compute-sanitizer") or "compute-sanitizer"
    return {
        "build": [*python, "cuda_ops", "build", "--backend", "cuda"],
        "doctor": [*python, "cuda_ops", "doctor"],
        "tests": [*python, "pytest", "-q", *TESTS],
        **{
            tool: [sanitizer, "--tool", tool, "--error-exitcode", "1", *exercise]
            for tool in SANITIZER_TOOLS
        },
        "bench": [*bench, *(["--rivals", str(rivals)] if rivals else [])],
    }


def exercise() -> None:
    """Small calls of every kind, forward and backward, for a sanitizer to watch."""
    for window, height, width, group_channels in EXERCISES:
        out_height, out_width = window.output_size(height, width)
        points = window.groups * window.num_points
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            x, offset, mask = (
                torch.randn(2, *shape, device="cuda", dtype=dtype).requires_grad_()
                for shape in (
                    (height, width, window.groups * group_channels),
                    (out_height, out_width, points * 2),
                    (out_height, out_width, points),
                )
            )
            out = dcnv3(x, offset, mask, **window._asdict(), backend="cuda")
            torch.autograd.grad(out, (x, offset, mask), torch.randn_like(out))
    torch.cuda.synchronize()


def run(name: str, command: list[str]) -> bool:
    """Whether the step succeeded; its output goes where ours goes."""
    print(f"== {name}: {' '.join(command)}", flush=True)
    # Every tensor an allocation of its own, or the sanitizer sees one large block.
    apart = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"} if name in SANITIZER_TOOLS else {}
    started = time.perf_counter()
    try:
        status = subprocess.run(command, env=os.environ | apart, check=False).returncode
    except FileNotFoundError:
        print(f"{command[0]} was not found")
        status = 127
    print(f"== {name}: status {status}, {time.perf_counter() - started:.0f} s", flush=True)
    return status == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m cuda_ops.gpu_session", description=__doc__)
    parser.add_argument("--rivals", type=Path, help="as for cuda_ops.bench")
    parser.add_argument("--exercise", action="store_true", help="only the calls for a sanitizer")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch sees no GPU here")
    if options.exercise:
        exercise()
        return 0
    RESULTS.mkdir(exist_ok=True)
    commands = steps(options.rivals, torch.cuda.get_device_name())
    failed = [name for name, command in commands.items() if not run(name, command)]
    print(f"failed: {', '.join(failed)}" if failed else "all steps succeeded")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
