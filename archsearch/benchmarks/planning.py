"""The time of planning 1,000 cells of a family without a closed form.

Run ``python -m archsearch.benchmarks.planning``. Each row is ``archsearch grid --plan`` on a file
of `archsearch.benchmarks.own_families` in a process of its own, with an empty cache of costs
("first") and again ("kept"). With "torch at the top" the same file imports torch when it is read.
Seconds are of the clock, from the start of Python to its end, and of the processor, which a busy
machine changes less.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from archsearch.benchmarks.output import print_measured
from archsearch.core.cost_cache import VARIABLE

Row = Mapping[str, str | float | int]

FILES = Path(__file__).parent / "own_families"


@dataclass(frozen=True)
class Plan:
    """A file, the class of its family, a budget, and 1,000 cells by name and values."""

    file: str
    name: str
    budget: str
    axes: Mapping[str, range]

    def options(self, num_cells: int) -> list[str]:
        """The options of the command; the first axis is cut to plan about ``num_cells``."""
        axes = [f"{name}={','.join(map(str, values))}" for name, values in self.axes.items()]
        first, values = next(iter(self.axes.items()))
        num = max(1, len(values) * num_cells // 1000)
        axes[0] = f"{first}={','.join(map(str, values[:num]))}"
        return ["--budget", self.budget, "--set-axis", *axes]


PLANS = (
    Plan("cnn", "CNN", "1M", {"width": range(48, 148), "kernel": range(3, 7, 2),
                              "patch": range(4, 9)}),
    Plan("resnet", "ResNet", "25M", {"width": range(48, 88, 2), "l1": range(1, 6),
                                     "stem": range(24, 64, 4)}),
    Plan("vit", "ViT", "22M", {"heads": range(6, 16), "head_dim": range(48, 80, 16),
                               "ratio": range(1, 6), "patch": range(12, 22)}),
    Plan("vit", "ViT", "5G", {"heads": range(6, 16), "head_dim": range(48, 80, 16),
                              "ratio": range(1, 6), "patch": range(12, 22)}),
)  # fmt: skip
"""A ResNet-50 and a ViT-S have about 25M and 22M parameters, and a ViT-S 5G multiply-adds."""


def rows(num_cells: int) -> Iterator[Row]:
    """Measure every plan, first and kept; the smallest also with torch at the top of its file."""
    for plan in PLANS:
        text = (FILES / f"{plan.file}.py").read_text()
        yield from _measured(plan, text, "", num_cells)
        if plan is PLANS[0]:
            yield from _measured(plan, f"import torch\n{text}", ", torch at the top", num_cells)


def _measured(plan: Plan, text: str, note: str, num_cells: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{plan.file}.py"
        file.write_text(text)
        family = ["--family", f"{file}:{plan.name}"]
        command = ["grid", *family, *plan.options(num_cells), "--plan", "--format", "json"]
        environment = {**os.environ, VARIABLE: str(Path(folder) / "costs")}
        runs = [_planned(command, environment) for _ in range(2)]
    statuses = [cell["status"] for cell in runs[1].cells]
    yield {
        "family": f"{plan.name}{note}", "budget": plan.budget, "cells": len(statuses),
        "exact": statuses.count("exact"),
        "first_seconds": runs[0].seconds, "first_cpu_seconds": runs[0].cpu_seconds,
        "kept_seconds": runs[1].seconds, "kept_cpu_seconds": runs[1].cpu_seconds,
    }  # fmt: skip


@dataclass(frozen=True)
class Planned:
    """The cells that a process planned, and its seconds by the clock and of the processor."""

    cells: list[dict[str, str]]
    seconds: float
    cpu_seconds: float


def _planned(command: list[str], environment: Mapping[str, str]) -> Planned:
    code = "from archsearch.cli import main; main()"
    start, cpu = time.perf_counter(), _cpu_seconds()
    output = subprocess.run(
        [sys.executable, "-c", code, *command], env=environment, stdout=subprocess.PIPE, check=True
    ).stdout
    return Planned(json.loads(output), time.perf_counter() - start, _cpu_seconds() - cpu)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--cells", type=int, default=1000, help="about how many cells to plan")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    options = parser.parse_args()
    print_measured(rows(options.cells), _line, options.json)


def _line(row: Row) -> str:
    head = f"{row['family']:<22}{row['budget']:>5}{row['cells']:>6} cells{row['exact']:>6} exact"
    times = (
        f"   {which} {row[f'{which}_seconds']:6.2f} s, CPU {row[f'{which}_cpu_seconds']:6.2f} s"
        for which in ("first", "kept")
    )
    return head + "".join(times)


if __name__ == "__main__":
    main()
