"""`python -m cuda_ops.gpu_session`: all that a GPU has to show, in steps.

    build        compiles for the GPUs that are there, and the rivals of --rivals
    tests        the tests marked gpu
    bench        every stage shape, forward and backward (cuda_ops.bench), as bench.json
    step         a training step of InternImage-T at 224 and 32 pixels, as step.json
    sanitizers   small calls under each of compute-sanitizer's tools

They run in this order, those that --steps names. Each command of a step has a limit in seconds of
its own; one that fails or passes it stops no other. The folder of --out holds one log per step, the
JSON files, and summary.json, which is written anew after every command and keeps what it says of
steps that were run before. The exit status is the number of steps that failed.

On a machine that is lent for ten minutes a command, and gives back a folder of few files, these two
command lines are one after the other within the limits; the second builds by itself what it needs:

    python -m cuda_ops.gpu_session --out DIR --steps build,tests,bench
    python -m cuda_ops.gpu_session --out DIR --steps step,sanitizers

To both, --rivals FOLDER adds the official operators. Nothing but torch, numpy, safetensors, ninja,
pytest and the CUDA toolkit is needed. To keep a result in the repository, copy bench.json and
step.json to cuda_ops/results/ under the device's name.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch

from cuda_ops.bench import write_json
from cuda_ops.toolchain import find_cuda_program

ROOT = Path(__file__).parents[1]
TESTS = ("tests/cuda_ops/test_op.py", "tests/cuda_ops/test_cuda_gpu.py")
SANITIZER_TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
NUM_TOLD_LINES = 15
PYTHON = (sys.executable, "-m")


@dataclass(frozen=True)
class Command:
    """One command of a step, and how long it may take."""

    name: str
    arguments: tuple[str, ...]
    seconds: float
    environment: dict[str, str] = field(default_factory=dict)


def build(options: argparse.Namespace) -> list[Command]:
    commands = [
        Command("build", (*PYTHON, "cuda_ops", "build", "--backend", "cuda"), 100),
        Command("doctor", (*PYTHON, "cuda_ops", "doctor"), 20),
    ]
    if options.rivals:
        commands.append(
            Command("rivals", (*PYTHON, "cuda_ops.baselines", str(options.rivals)), 120)
        )
    return commands


def tests(_options: argparse.Namespace) -> list[Command]:
    arguments = (*PYTHON, "pytest", "-q", "-m", "gpu", "--tb=short", *TESTS)
    return [Command("tests", arguments, 150)]


def bench(options: argparse.Namespace) -> list[Command]:
    arguments = (*PYTHON, "cuda_ops.bench", "--device", "cuda", "--json")
    return [Command("bench", (*arguments, str(options.out / "bench.json"), *rivals(options)), 190)]


def step(options: argparse.Namespace) -> list[Command]:
    precisions = "fp32,bf16,fp16" if options.rivals else "fp32,bf16"  # the official one has no bf16
    arguments = (
        *(*PYTHON, "archsearch.benchmarks.train_step", "--device", "cuda", "--model", "T"),
        *("--batch", "64", "--image-size", "224,32", "--precision", precisions, "--rounds", "10"),
        *("--out", str(options.out / "step.json")),
    )
    return [Command("step", (*arguments, *rivals(options)), 280)]


def rivals(options: argparse.Namespace) -> tuple[str, ...]:
    return ("--rivals", str(options.rivals)) if options.rivals else ()


def sanitizers(_options: argparse.Namespace) -> list[Command]:
    program = find_cuda_program("compute-sanitizer") or "compute-sanitizer"
    known = sanitizer_help(program)
    # Every tensor an allocation of its own, or the sanitizer sees one large block.
    apart = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return [
        Command(
            tool,
            (
                *(program, "--tool", tool, "--error-exitcode", "1"),
                *sanitizer_options(tool, known),
                *(*PYTHON, "cuda_ops.sanitizer_calls"),
            ),
            75,
            apart,
        )
        for tool in SANITIZER_TOOLS
    ]


def sanitizer_help(program: str) -> str:
    """What the program says of its options; nothing where it cannot be run."""
    try:
        told = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return told.stdout + told.stderr


def sanitizer_options(tool: str, known: str) -> list[str]:
    """What limits a tool to our own faults, of the options that its help `known` names.

    Only kernels in whose mangled name `dcnv3` stands are checked: libraries' own are not ours to
    mend. Nor are the calls of CUDA's API that torch makes to find something out and expects to
    fail, which memcheck reports. What the program does not know is said, and left out.
    """
    # The filter's name today, and in older releases.
    spellings = [name for name in ("--kernel-name", "--kernel-regex") if name in known]
    chosen = [spellings[0], "kns=dcnv3"] if spellings else []
    if not spellings:
        print(f"{tool}: no option to choose kernels, so all are checked, torch's too", flush=True)
    if tool == "memcheck":
        if "--report-api-errors" in known:
            return [*chosen, "--report-api-errors", "no"]
        print("memcheck: no option to leave out API errors, torch's may be reported", flush=True)
    return chosen


STEPS: dict[str, Callable[[argparse.Namespace], list[Command]]] = {
    "build": build,
    "tests": tests,
    "bench": bench,
    "step": step,
    "sanitizers": sanitizers,
}


def outcome_of(command: Command, log: IO[str]) -> str:
    """Runs it with its output in `log`: "succeeded", or what happened instead."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | command.environment
    try:
        process = subprocess.Popen(
            command.arguments,
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return f"{command.arguments[0]} cannot be run: {error.strerror}"
    try:
        status = process.wait(timeout=command.seconds)
    except subprocess.TimeoutExpired:
        return f"timed out after {command.seconds:g} s"
    finally:
        if process.poll() is None:  # with its children, also when this process is told to end
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return "succeeded" if status == 0 else f"failed with status {status}"


def run_step(name: str, commands: list[Command], out: Path) -> dict[str, Any]:
    """The step's record: of each command the outcome and seconds; tells them, and the log's end."""
    found: dict[str, Any] = {}
    write_record(out, name, found)
    with (out / f"{name}.log").open("w") as log:
        for command in commands:
            print(f"== {name}: {' '.join(command.arguments)}", file=log, flush=True)
            started = time.perf_counter()
            outcome = outcome_of(command, log)
            seconds = round(time.perf_counter() - started, 1)
            found[command.name] = {"outcome": outcome, "seconds": seconds}
            print(f"== {command.name}: {outcome}, {seconds:.0f} s", file=log, flush=True)
            print(f"== {name}, {command.name}: {outcome}, {seconds:.0f} s", flush=True)
            write_record(out, name, found)
    lines = (out / f"{name}.log").read_text(errors="replace").splitlines()
    print("\n".join(lines[-NUM_TOLD_LINES:]), flush=True)
    return found


def write_record(out: Path, name: str, found: dict[str, Any]) -> None:
    """Puts a step into summary.json; before its first command has ended, as an empty record."""
    path = out / "summary.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, {**dict.fromkeys(STEPS), **before, name: found})


def succeeded(found: dict[str, Any]) -> bool:
    return all(record["outcome"] == "succeeded" for record in found.values())


def run(planned: dict[str, list[Command]], out: Path) -> int:
    """Runs all steps and tells which failed; returns their number."""
    out.mkdir(parents=True, exist_ok=True)
    failed = [
        name for name, commands in planned.items() if not succeeded(run_step(name, commands, out))
    ]
    print(f"failed: {', '.join(failed)}" if failed else "all steps succeeded", flush=True)
    return len(failed)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m cuda_ops.gpu_session",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("gpu_session"), help="default: %(default)s"
    )
    parser.add_argument("--steps", default=",".join(STEPS), help="default: %(default)s")
    parser.add_argument("--rivals", type=Path, help="as for cuda_ops.bench")
    options = parser.parse_args(arguments)
    named = options.steps.split(",")
    unknown = [name for name in named if name not in STEPS]
    if unknown:
        parser.error(f"--steps: wanted some of {', '.join(STEPS)}, got {', '.join(unknown)}")
    if not torch.cuda.is_available():
        parser.error("torch sees no GPU here")
    options.steps = [name for name in STEPS if name in named]
    options.out = options.out.absolute()  # commands run in the repository's root
    options.rivals = options.rivals and options.rivals.absolute()
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a running command ends too
    return run({name: STEPS[name](options) for name in options.steps}, options.out)


if __name__ == "__main__":
    sys.exit(main())
