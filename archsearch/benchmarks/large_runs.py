"""What commands on a large finished run cost: ``python -m archsearch.benchmarks.large_runs``.

It makes runs of finished trials without training (the networks exist, their numbers are random but
fixed) and measures each command in a process of its own: CPU seconds and peak memory of status,
load, report, report --verify, both exports and resume. CPU seconds depend on the machine, so
compare how they grow with the number of trials.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice, product
from pathlib import Path
from unittest.mock import patch

import numpy as np

from archsearch.benchmarks.output import print_measured
from archsearch.core.cell import Cell
from archsearch.core.recipe import Recipe
from archsearch.core.task import Data
from archsearch.families.internimage import Variant
from archsearch.running.run import run_study
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record, Study, Trial

DATA = Data("synthetic", "0" * 16, 10, 3, 45_000, 5_000, 10_000)
EPOCHS = 6
COMMAND = "import sys; from archsearch.cli import main; sys.argv[0] = 'archsearch'; main()"
LOAD = "import sys; from archsearch.results import load; load(sys.argv[1])"
RESUME = "import sys; from archsearch.benchmarks.large_runs import resume; resume(sys.argv[1])"

Row = dict[str, float | str]


def networks(num: int) -> Iterator[Cell]:
    """Yield ``num`` cells with different networks, each exactly as requested."""
    widths = range(16, 16 + 16 * 40, 16)
    for l1, l3, c1 in islice(product(range(1, 11), range(10, 40), widths), num):
        variant = Variant(c1, 16, l1, l3)
        requested = {"c1": c1, "group_channels": 16, "l1": l1, "l3": l3}
        yield Cell(requested, "exact", variant, variant.cost())


def finished_run(path: Path, num_networks: int, num_seeds: int) -> StudyFolder:
    """Make a run in which every network is trained with every seed."""
    recipe = Recipe("synthetic", epochs=EPOCHS, batch_size=100, image_size=32, lr=0.001)
    study = Study(
        name="synthetic",
        question="What does a report of many trials cost?",
        source="archsearch.benchmarks.large_runs",
        cells=tuple(networks(num_networks)),
        recipe=recipe,
        data="synthetic",
        seeds=tuple(range(num_seeds)),
        axes=("l1", "l3", "c1"),
    )
    folder = StudyFolder(path).create(study, DATA, ("archsearch", "run", "synthetic.py"))
    with patch("os.fsync"):  # these files need not survive a power cut
        for trial in folder.trials():
            folder.trial(trial.id).write_spec(trial)
            folder.trial(trial.id).write_record(_record(trial))
    return folder


def _record(trial: Trial) -> Record:
    """Return a made-up record: deeper networks are better, and seeds differ."""
    rng = np.random.default_rng(int(trial.id, 16))
    accuracy = 90 + 0.05 * trial.variant.params()["l3"] + rng.normal()
    curve = tuple(_epoch(epoch, accuracy) for epoch in range(1, EPOCHS + 1))
    metrics = {"val_accuracy": accuracy, "val_loss": 2 - accuracy / 100, "train_loss": 1.0}
    metrics |= {"test_accuracy": accuracy - rng.random(), "images_per_second": 100.0}
    cost = trial.variant.cost(32, num_classes=10)
    versions = {"archsearch": "0.1.0", "torch": "2.14.1"}
    return Record(
        trial.id, "complete", metrics, curve, cost, seconds=2.0 * EPOCHS, device="cpu",
        versions=versions,
    )  # fmt: skip


def _epoch(epoch: int, accuracy: float) -> dict[str, float]:
    value = accuracy * epoch / EPOCHS
    losses = {"train_loss": 2 - value / 100, "val_loss": 2 - value / 100, "lr": 0.001}
    norms = {"grad_norm": 2.0, "grad_norm_max": 5.0, "seconds": 2.0, "images_per_second": 100.0}
    return {"epoch": epoch, "epochs": EPOCHS, "val_accuracy": value, **losses, **norms}


def resume(path: str) -> None:
    """Do what the command of a finished run does when it is repeated, without a report."""
    folder = StudyFolder(path)
    folder.create(folder.study(), folder.data())
    run_study(folder, folder.trials(), runner="inline", device="cpu")


def measures(path: Path) -> dict[str, Sequence[str]]:
    """Return the arguments of Python for every command, by name; a report precedes its check."""
    run, database = str(path), f"sqlite:///{path.parent}/{path.name}.db"
    records = str(path.with_name(path.name + "-records"))
    return {
        "status": (COMMAND, "status", run),
        "load": (LOAD, run),
        "report": (COMMAND, "report", run),
        "report --verify": (COMMAND, "report", run, "--verify"),
        "export --records": (COMMAND, "export", run, "--records", records),
        "export --optuna": (COMMAND, "export", run, "--optuna", database),
        "resume": (RESUME, run),
    }


def measure(arguments: Sequence[str]) -> tuple[float, float]:
    """Return CPU seconds and peak megabytes of Python with these arguments.

    Raises:
        RuntimeError: the command failed.
    """
    with tempfile.TemporaryFile() as output:
        command = [sys.executable, "-c", *arguments]
        process = subprocess.Popen(command, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        if process.returncode:
            raise RuntimeError(f"{arguments} failed:\n{output.read().decode(errors='replace')}")
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit


def rows(parent: Path, num: int, num_seeds: int, only: Sequence[str]) -> Iterator[Row]:
    """Yield the cost of every command on a run of ``num`` trials."""
    path = parent / f"run-{num}"
    finished_run(path, max(1, num // num_seeds), num_seeds)
    for name, arguments in measures(path).items():
        if not only or name in only:
            seconds, megabytes = measure(arguments)
            row: Row = {"trials": num, "seeds": num_seeds, "command": name}
            yield row | {"cpu_seconds": seconds, "megabytes": megabytes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument(
        "--trials", type=int, nargs="+", default=[110, 1000, 10_000], help="sizes of the runs"
    )
    parser.add_argument("--seeds", type=int, default=5, help="seeds of every network")
    parser.add_argument("--only", nargs="+", default=[], help="measure these commands only")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        measured = (
            row
            for num in options.trials
            for row in rows(Path(parent), num, options.seeds, options.only)
        )
        print_measured(measured, _line, options.json)


def _line(row: Row) -> str:
    head = f"{row['trials']:>6} trials, {row['seeds']} seeds  {row['command']:<18}"
    return f"{head}{row['cpu_seconds']:8.2f} s{row['megabytes']:8.0f} MB"


if __name__ == "__main__":
    main()
