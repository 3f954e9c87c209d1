"""What running a trial costs beyond its work: ``python -m archsearch.benchmarks.overhead``.

No-op trials go through each runner, with everything a trial has on disk (spec, lock, record, each
flushed), beside a plain Optuna loop (in memory, and in the SQLite file that makes it durable) and a
plain Ray loop over no-op tasks (which keeps nothing). Then a study of finished trials: how long its
status takes, and what it costs the driver in memory. One run, one machine: read the ratios.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from archsearch.core.cell import Cell
from archsearch.core.recipe import Recipe
from archsearch.core.task import Data
from archsearch.families.internimage import Variant
from archsearch.running.run import run_study
from archsearch.running.runners import Name
from archsearch.running.work import Stop
from archsearch.storage.study_folder import StudyFolder, TrialFolder
from archsearch.study import Record, Study

WORK = "archsearch.benchmarks.overhead:no_op"
WORKERS = 2
WARM_UP = 10
"""Trials before the clock starts: workers start and import, Ray starts its own."""

Row = dict[str, float | str]


def no_op(folder: Path, device: str, stop: Stop) -> None:
    """A trial that only has a record."""
    del device, stop
    trial = TrialFolder(folder)
    trial.write_record(Record(trial.id, "complete", {"val_accuracy": 1.0}))


def folder_of(path: Path, num: int) -> StudyFolder:
    """A study of ``num`` trials: one network, as many seeds."""
    recipe = Recipe("no-op", epochs=1, batch_size=2, image_size=8, lr=0.1)
    cell = Cell({"l1": 1}, "exact", Variant(16, 16, 1, 1), None)
    data = Data("none", "0" * 16, 1, 1, 1, 1, 1)
    seeds = tuple(range(num))
    study = Study("no-op", "What does a trial cost?", "", (cell,), recipe, "none", seeds)
    return StudyFolder(path).create(study, data)


def through(runner: Name, path: Path, num: int) -> Row:
    """Milliseconds per trial from the first record after the warm-up to the last."""
    folder = folder_of(path, num + WARM_UP)
    began, times = time.perf_counter(), list[float]()
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
    return {"what": f"archsearch, {runner}", "start_s": times[0] - began, "per_trial_ms": each}


def plain_optuna(storage: str | None, num: int) -> Row:
    """Ask, one suggestion, tell."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    began = time.perf_counter()
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(storage=storage, sampler=sampler)
    ready = time.perf_counter()
    for _ in range(num):
        trial = study.ask()
        study.tell(trial, float(trial.suggest_int("l1", 1, 5)))
    each = 1000 * (time.perf_counter() - ready) / num
    where = "in SQLite" if storage else "in memory"
    return {"what": f"plain Optuna, {where}", "start_s": ready - began, "per_trial_ms": each}


def nothing() -> None:
    """What a plain Ray task does."""


def plain_ray(num: int) -> Row:
    """No-op tasks, as many at once as the runners have workers."""
    from archsearch.running.runners import Place
    from archsearch.running.runners.on_ray import OnRay

    began = time.perf_counter()
    runner = OnRay(Place(workers=WORKERS, device="cpu"))
    try:
        import ray

        task = ray.remote(max_retries=0)(nothing)
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
    return {"what": "plain Ray", "start_s": ready - began, "per_trial_ms": each}


def megabytes() -> float:
    """The most memory this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def many_finished(path: Path, num: int) -> list[Row]:
    """A study of ``num`` trials, run in this process: its memory, then the status of it all."""
    folder = folder_of(path, num)
    trials = folder.trials()
    before = megabytes()
    counts = run_study(folder, trials, runner="inline", work=WORK)
    assert counts == {"complete": num}
    grown = megabytes() - before
    from archsearch.storage.status import overview

    seconds = min(seconds_of(lambda: overview(path)) for _ in range(3))
    command = [sys.executable, "-c", "from archsearch.cli import main; main()", "status", str(path)]
    whole = min(seconds_of(lambda: _quietly(command)) for _ in range(3))
    return [
        {"what": f"driver's memory over {num} trials", "megabytes": grown},
        {"what": f"status of {num} finished trials, read", "seconds": seconds},
        {"what": f"status of {num} finished trials, the command", "seconds": whole},
    ]


def _quietly(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def seconds_of(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def rows(parent: Path, num: int, num_finished: int) -> Iterator[Row]:
    yield plain_optuna(None, num)
    yield plain_optuna(f"sqlite:///{parent}/optuna.db", num)
    yield through("inline", parent / "inline", num)
    yield through("local", parent / "local", num)
    yield plain_ray(num)
    yield through("ray", parent / "ray", num)
    yield from many_finished(parent / "many", num_finished)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=200, help="no-op trials per loop")
    parser.add_argument("--finished", type=int, default=10_000, help="trials of the large study")
    parser.add_argument("--json", action="store_true", help="a JSON list instead of a table")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        found = []
        for row in rows(Path(parent), chosen.trials, chosen.finished):
            found.append(row)
            if not chosen.json:
                print(_line(row), flush=True)
    if chosen.json:
        print(json.dumps(found, indent=1))


def _line(row: Row) -> str:
    numbers = [f"{k}={v:.3g}" for k, v in row.items() if isinstance(v, float)]
    return f"{row['what']:<48}" + "  ".join(numbers)


if __name__ == "__main__":
    main()
