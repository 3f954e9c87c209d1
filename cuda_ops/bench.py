"""`python -m cuda_ops.bench`: compare the native operator with PyTorch's own means, in one run.

Per stage shape and direction it prints the seconds of the vectorized reference, of the same sum
written with `grid_sample` (the usual fallback) and of ours, and the memory floor. The floor is the
number of bytes to move (x, offset, mask and the output once; backward also the gradients) over the
bandwidth of a large copy in the same run. Softmax is part of every call. Each time is the best of
several rounds in which the operators take turns, so that noise affects all of them equally. On a
GPU a large buffer is overwritten before each call, so the cache is cold. On a CPU a small shape may
fit the cache and be faster than the floor, which is that of main memory.

An operator other than ours that fails at a shape has a dash there, and its reason is printed once.
The file of `--json` is rewritten after every shape.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from cuda_ops.baselines import find_baselines
from cuda_ops.timing import DTYPES, STAGES, bandwidth, measure, shapes
from cuda_ops.toolchain import cpu_model


def table_row(row: dict[str, Any], columns: list[str]) -> str:
    """One row of the table: microseconds, then the ratios; a dash for an operator that failed."""
    cells = [f"{row['name']:14}", f"{row['dtype']:9}", f"{row['direction']:9}"]
    for name in [*columns, "floor"]:
        seconds = row["seconds"][name]
        cells.append(f"{'-':>11}" if seconds is None else f"{seconds * 1e6:11.1f}")
    for name in columns:
        if name != "ours":
            ratio = row["times_faster"][name]
            cells.append(f"{'-':>9}" if ratio is None else f"{ratio:8.1f}x")
    return " ".join([*cells, f"{row['times_the_floor']:8.2f}x"])


def table_header(columns: list[str]) -> str:
    cells = [f"{'shape':14}", f"{'dtype':9}", f"{'direction':9}"]
    cells += [f"{name + ' us':>11}" for name in [*columns, "floor"]]
    cells += [f"{'/' + name[:8]:>9}" for name in columns if name != "ours"]
    return " ".join([*cells, f"{'floor x':>9}"])


def machine(device: str, rate: float) -> dict[str, Any]:
    """The machine and the software of the measurement."""
    cpu = cpu_model() or platform.processor()
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu,
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "bytes_per_second": rate,
    }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cuda_ops.bench", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument(
        "--json", type=Path, help="also write the rows to this file, shape by shape"
    )
    parser.add_argument("--batch", type=int, help="images per call, instead of each shape's own")
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's own number")
    parser.add_argument(
        "--shapes", default="t224,b800,t32", help="some of t224,b800,t32; default: all"
    )
    parser.add_argument(
        "--dtypes",
        help="some of fp32,bf16,fp16; default: fp32; also bf16 on a GPU, fp16 with --baselines",
    )
    parser.add_argument(
        "--baselines",
        type=Path,
        help="folder with the sources of the official DCNv3 or DCNv4 operators (GPU only)",
    )
    options = parser.parse_args(arguments)
    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    options.shapes = options.shapes.split(",")
    default = "fp32,bf16" if options.device == "cuda" else "fp32"
    default += ",fp16" if options.baselines else ""  # their half-precision type
    options.dtypes = (options.dtypes or default).split(",")
    unknown = [name for name in options.shapes if name not in STAGES]
    unknown += [name for name in options.dtypes if name not in DTYPES]
    if unknown:
        parser.error(f"unknown shapes or dtypes: {', '.join(unknown)}")
    if options.baselines and options.device == "cpu":
        parser.error("--baselines: the official operators have no CPU kernels")
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    folder = options.baselines
    baselines, left_out = find_baselines(folder) if folder else ({}, {})
    rate = bandwidth(options.device)
    info = machine(options.device, rate)
    print(", ".join(f"{name} {value}" for name, value in info.items()))
    columns = ["torch", "grid_sample", *baselines, "ours"]
    print(table_header(columns))
    rows: list[dict[str, Any]] = []
    printed: set[tuple[str, str]] = set()
    for name in options.dtypes:
        for shape in shapes(options.shapes, options.device, options.batch):
            measured = measure(shape, DTYPES[name], options.device, rate, baselines)
            rows += measured
            for row in measured:
                print(table_row(row, columns), flush=True)
                print_failures(row, printed)
            if options.json:
                write_json(options.json, {**info, "left_out": left_out, "rows": rows})


def print_failures(row: dict[str, Any], printed: set[tuple[str, str]]) -> None:
    """Prints on stderr each reason of each operator that is not yet in `printed`, and adds it."""
    for name, reason in row["failures"].items():
        if (name, reason) not in printed:
            printed.add((name, reason))
            print(f"{name} fails at {row['name']} {row['dtype']}: {reason}", file=sys.stderr)


def write_json(path: Path, content: Any) -> None:
    """Replaces the file completely or not at all, even if the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(path)


if __name__ == "__main__":
    main()
