"""What running a trial costs beyond its work: ``python -m archsearch.benchmarks.overhead``.

No-op trials go through each runner, with all files of a trial (spec, lock, record, each flushed).
They are compared with a plain Optuna loop (in memory, and with an SQLite file, which makes it
durable) and a plain Ray loop over no-op tasks (which stores nothing). Then a study of finished
trials is measured: the time of its status, and the driver's memory. This is one run on one machine,
so compare ratios.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from archsearch.benchmarks.output import print_measured
from archsearch.core.cell import Cell
from archsearch.core.interrupted import Stop
from archsearch.core.recipe import Recipe
from archsearch.core.task import Data
from archsearch.families.internimage import Variant
from archsearch.running.run import run_study
from archsearch.running.runners import RunnerName
from archsearch.storage.study_folder import StudyFolder, TrialFolder
from archsearch.study import Record, Study

WORK = "archsearch.benchmarks.overhead:no_op"
WORKERS = 2
WARM_UP = 10
"""Untimed trials at the start, while workers start and import, and Ray starts its own."""

Row = dict[str, float | str]


def no_op(folder: Path, device: str, stop: Stop) -> None:
    """Write a record and do nothing else."""
    del device, stop
    trial = TrialFolder(folder)
    trial.write_record(Record(trial.id, "complete", {"val_accuracy": 1.0}))


def folder_of(path: Path, num: int) -> StudyFolder:
    """Return a study of ``num`` trials: one network with that many seeds."""
    recipe = Recipe("no-op", epochs=1, batch_size=2, image_size=8, lr=0.1)
    cell = Cell({"l1": 1}, "exact", Variant(16, 16, 1, 1), None)
    data = Data("none", "0" * 16, 1, 1, 1, 1, 1)
    seeds = tuple(range(num))
    study = Study("no-op", "What does a trial cost?", "", (cell,), recipe, "none", seeds)
    return StudyFolder(path).create(study, data)


def through(runner: RunnerName, path: Path, num: int) -> Row:
    """Measure milliseconds per trial, from the first record after the warm-up to the last."""
    folder = folder_of(path, num + WARM_UP)
    start, times = time.perf_counter(), list[float]()
    run_study(
        folder,
        folder.trials(),
        runner=runner,
        workers=1 if runner == "inline" else WORKERS,
        device="cpu",
        work=WORK,
        on_record=lambda *_: times.append(time.perf_counter()),
    )
    each = 1000 * (times[-1] - times[WARM_UP - 1]) / num
    return {"what": f"archsearch, {runner}", "start_s": times[0] - start, "per_trial_ms": each}


def plain_optuna(storage: str | None, num: int) -> Row:
    """Measure Optuna: ask, one suggestion, tell."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    start = time.perf_counter()
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(storage=storage, sampler=sampler)
    ready = time.perf_counter()
    for _ in range(num):
        trial = study.ask()
        study.tell(trial, float(trial.suggest_int("l1", 1, 5)))
    each = 1000 * (time.perf_counter() - ready) / num
    medium = "in SQLite" if storage else "in memory"
    return {"what": f"plain Optuna, {medium}", "start_s": ready - start, "per_trial_ms": each}


def do_nothing() -> None:
    """Do nothing, as a plain Ray task."""


def plain_ray(num: int) -> Row:
    """Measure Ray: no-op tasks, as many at the same time as the runners have workers."""
    from archsearch.running.runners import RunnerOptions
    from archsearch.running.runners.on_ray import RayRunner

    start = time.perf_counter()
    runner = RayRunner(RunnerOptions(workers=WORKERS, device="cpu"))
    try:
        import ray

        task = ray.remote(max_retries=0)(do_nothing)
        ray.get([task.remote() for _ in range(WARM_UP)])
        ready = time.perf_counter()
        running = [task.remote() for _ in range(WORKERS)]
        for _ in range(num - WORKERS):
            done, running = ray.wait(running, num_returns=1)
            ray.get(done)
            running.append(task.remote())
        ray.get(running)
        each = 1000 * (time.perf_counter() - ready) / num
    finally:
        runner.close()
    return {"what": "plain Ray", "start_s": ready - start, "per_trial_ms": each}


def megabytes() -> float:
    """Return the peak memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def many_finished(path: Path, num: int) -> list[Row]:
    """Run a study of ``num`` trials in this process; measure its memory, then its status."""
    folder = folder_of(path, num)
    trials = folder.trials()
    megabytes_before = megabytes()
    counts = run_study(folder, trials, runner="inline", work=WORK)
    assert counts == {"complete": num}
    growth = megabytes() - megabytes_before
    from archsearch.storage.status import study_status

    seconds = min(seconds_of(lambda: study_status(path)) for _ in range(3))
    command = [sys.executable, "-c", "from archsearch.cli import main; main()", "status", str(path)]
    command_seconds = min(seconds_of(lambda: _run_quietly(command)) for _ in range(3))
    return [
        {"what": f"driver's memory over {num} trials", "megabytes": growth},
        {"what": f"status of {num} finished trials, read", "seconds": seconds},
        {"what": f"status of {num} finished trials, the command", "seconds": command_seconds},
    ]


def _run_quietly(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def seconds_of(action: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def rows(parent: Path, num: int, num_finished: int) -> Iterator[Row]:
    """Yield every measurement; ``num`` trials per loop, ``num_finished`` in the large study."""
    yield plain_optuna(None, num)
    yield plain_optuna(f"sqlite:///{parent}/optuna.db", num)
    yield through("inline", parent / "inline", num)
    yield through("local", parent / "local", num)
    yield plain_ray(num)
    yield through("ray", parent / "ray", num)
    yield from many_finished(parent / "many", num_finished)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument(
        "--trials", type=int, default=200, help="run this many no-op trials per loop"
    )
    parser.add_argument(
        "--finished", type=int, default=10_000, help="give the large study this many trials"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        measured = rows(Path(parent), options.trials, options.finished)
        print_measured(measured, _line, options.json)


def _line(row: Row) -> str:
    numbers = [f"{k}={v:.3g}" for k, v in row.items() if isinstance(v, float)]
    return f"{row['what']:<48}" + "  ".join(numbers)


if __name__ == "__main__":
    main()
