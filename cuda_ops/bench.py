"""`python -m cuda_ops.bench`: the native operator beside what PyTorch offers, in one run.

Per stage shape and direction: seconds of the vectorised reference, of the same sum written with
`grid_sample` (the usual fallback), of ours, and the floor: the bytes that have to be moved (x,
offset, mask and the output once; backward also the gradients) over the bandwidth of a large copy
measured in the same run. Softmax is part of every call. Each time is the best of several rounds in
which all take turns, so that noise meets all alike. On a GPU a large buffer is overwritten before
each call, so nothing is found in the cache; on a CPU small shapes may lie in it, and may fall below
a floor that is the main memory's.

An operator that fails at a shape, our own apart, has a dash there, and its reason is told once. The
file of `--json` is written anew after every shape.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from cuda_ops.baselines import find_rivals
from cuda_ops.timing import DTYPES, STAGES, bandwidth, measure, shapes


def line(row: dict[str, Any], columns: list[str]) -> str:
    """One row of the table: microseconds, then the ratios; a dash for what failed."""
    cells = [f"{row['name']:14}", f"{row['dtype']:9}", f"{row['direction']:9}"]
    for name in [*columns, "floor"]:
        seconds = row["seconds"][name]
        cells.append(f"{'-':>11}" if seconds is None else f"{seconds * 1e6:11.1f}")
    for name in columns:
        if name != "ours":
            ratio = row["times_faster"][name]
            cells.append(f"{'-':>9}" if ratio is None else f"{ratio:8.1f}x")
    return " ".join([*cells, f"{row['times_the_floor']:8.2f}x"])


def header(columns: list[str]) -> str:
    cells = [f"{'shape':14}", f"{'dtype':9}", f"{'direction':9}"]
    cells += [f"{name + ' us':>11}" for name in [*columns, "floor"]]
    cells += [f"{'/' + name[:8]:>9}" for name in columns if name != "ours"]
    return " ".join([*cells, f"{'floor x':>9}"])


def about(device: str, rate: float) -> dict[str, Any]:
    """Where the rows were measured."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else _cpu_name(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "bytes_per_second": rate,
    }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cuda_ops.bench", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("--json", type=Path, help="write the rows there too, shape by shape")
    parser.add_argument("--batch", type=int, help="images per call in place of each shape's own")
    parser.add_argument("--threads", type=int, help="CPU threads; default: as many as torch takes")
    parser.add_argument("--shapes", default="t224,b800,t32", help="of t224, b800, t32")
    parser.add_argument(
        "--dtypes",
        help="of fp32, bf16, fp16; default fp32, on a GPU also bf16, with --rivals also fp16",
    )
    parser.add_argument(
        "--rivals",
        type=Path,
        help="folder with the sources of the official DCNv3 or DCNv4 operators (GPU only)",
    )
    options = parser.parse_args(arguments)
    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    options.shapes = options.shapes.split(",")
    default = "fp32,bf16" if options.device == "cuda" else "fp32"
    default += ",fp16" if options.rivals else ""  # the half precision that the rivals have
    options.dtypes = (options.dtypes or default).split(",")
    unknown = [name for name in options.shapes if name not in STAGES]
    unknown += [name for name in options.dtypes if name not in DTYPES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    if options.rivals and options.device == "cpu":
        parser.error("--rivals: they have no CPU kernels")
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    more, left_out = find_rivals(options.rivals) if options.rivals else ({}, {})
    rate = bandwidth(options.device)
    where = about(options.device, rate)
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    columns = ["torch", "grid_sample", *more, "ours"]
    print(header(columns))
    rows: list[dict[str, Any]] = []
    told: set[tuple[str, str]] = set()
    for name in options.dtypes:
        for shape in shapes(options.shapes, options.device, options.batch):
            measured = measure(shape, DTYPES[name], options.device, rate, more)
            rows += measured
            for row in measured:
                print(line(row, columns), flush=True)
                tell_failures(row, told)
            if options.json:
                write_json(options.json, {**where, "left_out": left_out, "rows": rows})


def tell_failures(row: dict[str, Any], told: set[tuple[str, str]]) -> None:
    """On stderr, each reason of each operator once."""
    for failure in row["failures"].items():
        if failure not in told:
            told.add(failure)
            print(
                f"{failure[0]} fails at {row['name']} {row['dtype']}: {failure[1]}", file=sys.stderr
            )


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all, however the process ends: what was there before stays till then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(path)


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
