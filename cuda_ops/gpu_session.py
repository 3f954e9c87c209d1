"""`python -m cuda_ops.gpu_session`: build, test, time and sanitize the CUDA backend on a GPU.

    build        compiles for the visible GPUs; with --baselines the official operators too
    tests        the tests marked gpu
    bench        every stage shape, forward and backward (cuda_ops.bench), as bench.json
    step         a training step of InternImage-T at 224 and 32 pixels, as step.json
    sanitizers   small calls under each of compute-sanitizer's tools

The steps of --steps run in this order. Each command of a step has its own limit in seconds; if it
fails or exceeds the limit, the other commands still run. The folder of --out holds one log per
step, the JSON files, and summary.json. summary.json is rewritten after every command and keeps the
records of steps that ran earlier. The exit status is the number of steps that failed.

Each of these two commands takes at most ten minutes; the second builds what it needs by itself:

    python -m cuda_ops.gpu_session --out DIR --steps build,tests,bench
    python -m cuda_ops.gpu_session --out DIR --steps step,sanitizers

With --baselines FOLDER both include the official operators. build, bench and sanitizers need torch
and the CUDA toolkit, step also numpy and safetensors, tests also pytest: without pytest, tests runs
the kernels' self-check and small calls of every kind instead. To keep a result in the repository,
copy bench.json and step.json to cuda_ops/results/ under the device's name.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch

from cuda_ops import check_mode
from cuda_ops.bench import write_json
from cuda_ops.toolchain import find_cuda_program

ROOT = Path(__file__).parents[1]
TESTS = ("tests/cuda_ops/test_op.py", "tests/cuda_ops/test_cuda_gpu.py")
SANITIZER_TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
NUM_LOG_LINES = 15
PYTHON = (sys.executable, "-m")


@dataclass(frozen=True)
class Command:
    """One command of a step, and its time limit in seconds."""

    name: str
    arguments: tuple[str, ...]
    seconds: float
    environment: dict[str, str] = field(default_factory=dict)


def build(options: argparse.Namespace) -> list[Command]:
    commands = [
        Command("build", (*PYTHON, "cuda_ops", "build", "--backend", "cuda"), 100),
        Command("doctor", (*PYTHON, "cuda_ops", "doctor"), 20),
    ]
    if options.baselines:
        arguments = (*PYTHON, "cuda_ops.baselines", str(options.baselines))
        commands.append(Command("baselines", arguments, 120))
    return commands


def tests(_options: argparse.Namespace) -> list[Command]:
    if importlib.util.find_spec("pytest") is None:
        print("tests: pytest is not installed, so only the self-check runs", flush=True)
        always = {check_mode.VARIABLE: "always"}
        return [Command("self-check", (*PYTHON, "cuda_ops.sanitizer_calls"), 100, always)]
    arguments = (*PYTHON, "pytest", "-q", "-m", "gpu", "--tb=short", *TESTS)
    # A plugin of the machine's own may warn, and warnings are errors.
    return [Command("tests", arguments, 150, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})]


def bench(options: argparse.Namespace) -> list[Command]:
    arguments = (
        *(*PYTHON, "cuda_ops.bench", "--device", "cuda"),
        *("--json", str(options.out / "bench.json"), *baselines(options)),
    )
    return [Command("bench", arguments, 190)]


def step(options: argparse.Namespace) -> list[Command]:
    precisions = "fp32,bf16,fp16" if options.baselines else "fp32,bf16"  # DCNv3 lacks bf16
    arguments = (
        *(*PYTHON, "archsearch.benchmarks.train_step", "--device", "cuda", "--model", "T"),
        *("--batch", "64", "--image-size", "224,32", "--precision", precisions, "--rounds", "10"),
        *("--out", str(options.out / "step.json"), *baselines(options)),
    )
    return [Command("step", arguments, 280)]


def baselines(options: argparse.Namespace) -> tuple[str, ...]:
    return ("--baselines", str(options.baselines)) if options.baselines else ()


def sanitizers(_options: argparse.Namespace) -> list[Command]:
    program = find_cuda_program("compute-sanitizer") or "compute-sanitizer"
    help_text = sanitizer_help(program)
    # Allocates every tensor separately; otherwise the sanitizer sees one large block.
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return [
        Command(
            tool,
            (
                *(program, "--tool", tool, "--error-exitcode", "1"),
                *sanitizer_options(tool, help_text),
                *(*PYTHON, "cuda_ops.sanitizer_calls"),
            ),
            75,
            environment,
        )
        for tool in SANITIZER_TOOLS
    ]


def sanitizer_help(program: str) -> str:
    """The program's help text, which names its options; empty if it cannot be run."""
    try:
        result = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return result.stdout + result.stderr


def sanitizer_options(tool: str, help_text: str) -> list[str]:
    """The options in `help_text` that limit a tool to errors of our own kernels.

    Only kernels with `dcnv3` in their mangled name are checked, because we cannot fix those of
    libraries. For memcheck, CUDA API errors are not reported: torch makes some calls as probes and
    expects them to fail. An option that the program lacks is left out, with a message.
    """
    # The filter's name in current and in older releases.
    filters = [name for name in ("--kernel-name", "--kernel-regex") if name in help_text]
    options = [filters[0], "kns=dcnv3"] if filters else []
    if not filters:
        print(f"{tool}: no option to select kernels, so torch's are checked too", flush=True)
    if tool == "memcheck":
        if "--report-api-errors" in help_text:
            return [*options, "--report-api-errors", "no"]
        print("memcheck: no option to ignore API errors, so torch's may be reported", flush=True)
    return options


STEPS: dict[str, Callable[[argparse.Namespace], list[Command]]] = {
    "build": build,
    "tests": tests,
    "bench": bench,
    "step": step,
    "sanitizers": sanitizers,
}


def outcome_of(command: Command, log: IO[str]) -> str:
    """Runs the command with its output in `log`; returns "succeeded" or what went wrong."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | command.environment
    process: subprocess.Popen[bytes] | None = None
    try:
        with sigterm_held():
            process = subprocess.Popen(
                command.arguments,
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        status = process.wait(timeout=command.seconds)
    except OSError as error:
        return f"{command.arguments[0]} cannot be run: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"timed out after {command.seconds:g} s"
    finally:
        # Kill its children too; also on this process's SIGTERM.
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return "succeeded" if status == 0 else f"failed with status {status}"


@contextmanager
def sigterm_held() -> Iterator[None]:
    """Handles a SIGTERM at the end of the block, when a command that starts in it is known."""
    received: list[int] = []
    handler = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        if received:
            signal.raise_signal(signal.SIGTERM)


def run_step(name: str, commands: list[Command], out: Path) -> dict[str, Any]:
    """Runs a step, prints the end of its log and returns each command's outcome and seconds."""
    record: dict[str, Any] = {}
    write_record(out, name, record)
    with (out / f"{name}.log").open("w") as log:
        for command in commands:
            print(f"== {name}: {' '.join(command.arguments)}", file=log, flush=True)
            started = time.perf_counter()
            outcome = outcome_of(command, log)
            seconds = round(time.perf_counter() - started, 1)
            record[command.name] = {"outcome": outcome, "seconds": seconds}
            print(f"== {command.name}: {outcome}, {seconds:.0f} s", file=log, flush=True)
            print(f"== {name}, {command.name}: {outcome}, {seconds:.0f} s", flush=True)
            write_record(out, name, record)
    lines = (out / f"{name}.log").read_text(errors="replace").splitlines()
    print("\n".join(lines[-NUM_LOG_LINES:]), flush=True)
    return record


def write_record(out: Path, name: str, record: dict[str, Any]) -> None:
    """Adds a step's record to summary.json; it is empty until the first command has ended."""
    path = out / "summary.json"
    summary = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, {**dict.fromkeys(STEPS), **summary, name: record})


def run(steps: dict[str, list[Command]], out: Path) -> int:
    """Runs all steps and prints which failed; returns their number."""
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name, commands in steps.items():
        record = run_step(name, commands, out)
        if any(command["outcome"] != "succeeded" for command in record.values()):
            failed.append(name)
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
    parser.add_argument("--baselines", type=Path, help="as for cuda_ops.bench")
    options = parser.parse_args(arguments)
    named = options.steps.split(",")
    unknown = [name for name in named if name not in STEPS]
    if unknown:
        parser.error(f"--steps: wanted some of {', '.join(STEPS)}, got {', '.join(unknown)}")
    if not torch.cuda.is_available():
        parser.error("torch sees no GPU here")
    options.steps = [name for name in STEPS if name in named]
    options.out = options.out.absolute()  # commands run in the repository's root
    options.baselines = options.baselines and options.baselines.absolute()
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    # It raises, so that a running command is killed too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return run({name: STEPS[name](options) for name in options.steps}, options.out)


if __name__ == "__main__":
    sys.exit(main())
