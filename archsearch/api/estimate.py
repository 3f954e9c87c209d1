"""The estimate of a study's time and memory, and how it compares with what the study took."""

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.api.live import clock, say
from archsearch.api.options import Launch
from archsearch.api.power import power_line
from archsearch.api.twin import first_look
from archsearch.running.stopping import StudyStopped
from archsearch.study import Record, Trial

if TYPE_CHECKING:
    from archsearch.running.estimate import Estimate
    from archsearch.running.runners import RunnerOptions
    from archsearch.storage.study_folder import StudyFolder

FAILURE = 1
"""The exit code of a study that stopped, but not by a signal."""

MIN_WAITING = 4
"""With fewer waiting trials the estimate would take about as long as the training."""


@dataclass(frozen=True)
class _Timings:
    """The records of the timed cells by trial id, how long a worker takes to start, and how long a
    report of them takes to draw."""

    records: dict[str, Record]
    worker_seconds: float | None
    report_seconds: float


def estimate_study(
    folder: "StudyFolder", launch: Launch, later: Sequence[Trial] = ()
) -> "Estimate | None":
    """Time the corner cells, estimate the waiting trials from them, and write quote.json.

    ``later`` are trials of other studies that follow: they are in the printed estimate, and not in
    the file.

    The estimate counts from its end to the report. If it is long, a first look at the same study is
    offered.

    Returns None if few trials wait, or if no timing succeeds; then the reason is printed, and the
    trials themselves will show more.

    Raises:
        archsearch.storage.lock.Locked: if another process uses the folder.
        archsearch.running.stopping.StudyStopped: on Ctrl-C or SIGTERM.
    """
    from archsearch.storage.files import write_json
    from archsearch.storage.quote import FILE
    from archsearch.storage.study_folder import FINISHED

    states = folder.states()
    waiting = [trial for trial in folder.trials() if states[trial.id] not in FINISHED]
    if len(waiting) < MIN_WAITING:
        return None
    with folder.lock():  # a second driver would delete the timing's folder as a leftover
        for leftover in folder.path.glob("quote-*/"):  # of a killed process
            shutil.rmtree(leftover)
        try:
            estimate = _estimate(folder, [*waiting, *later], launch)
        except ValueError as error:
            say(f"No estimate: {error}")
            return None
        own = replace(estimate, seconds={t.id: estimate.seconds[t.id] for t in waiting})
        write_json(folder.path / FILE, own.to_dict(), indent=1)
    advice = first_look(folder, 3600 * estimate.hours)
    say("\n".join(filter(None, (estimate_text(estimate), power_line(folder), advice))))
    return own


def _estimate(folder: "StudyFolder", waiting: list[Trial], launch: Launch) -> "Estimate":
    from archsearch.running.estimate import corners, estimate_cost
    from archsearch.running.runners import num_slots
    from archsearch.training import machine

    resources = launch.resources(waiting[0].recipe.threads)
    workers = min(num_slots(launch.runner, resources), len(waiting))
    chosen = corners(waiting)
    # Read before the timings use memory. The memory of a cluster is not known here.
    free_bytes = machine.memory() if resources.ray_address is None else None
    say(f"Timing a few steps of {len(chosen)} corner cells ...")
    timings = _time_cells(folder, chosen, launch, workers)
    for trial in chosen:
        if (record := timings.records.get(trial.id)) and record.error:
            say(f"{trial.variant.name} could not be timed: {record.error.partition(chr(10))[0]}")
    num_gpus = _num_gpus(resources, workers)
    return estimate_cost(
        waiting,
        timings.records,
        workers,
        free_bytes=free_bytes,
        num_gpus=num_gpus,
        worker_seconds=timings.worker_seconds,
        report_seconds=timings.report_seconds,
    )


def _num_gpus(resources: "RunnerOptions", workers: int) -> int:
    """Return how many GPUs the workers share; on a cluster, as many as they occupy there."""
    from archsearch.running.runners import gpus_of

    if resources.ray_address is None:
        return max(1, len(gpus_of(resources)))
    per_gpu = max(1, int(1 / (resources.gpus_per_trial or 1)))
    return -(-workers // per_gpu)


def _time_cells(
    folder: "StudyFolder", chosen: tuple[Trial, ...], launch: Launch, workers: int
) -> _Timings:
    """Run the timings by the study's runner in a temporary folder."""
    from archsearch.running.run import run_study
    from archsearch.stats.remaining import makespan
    from archsearch.storage.resume import resume_command
    from archsearch.storage.study_folder import StudyFolder

    study = replace(folder.study(), name="quote", plan=None)
    ids = [trial.id for trial in chosen]
    with tempfile.TemporaryDirectory(dir=folder.path, prefix="quote-") as path:
        timing = StudyFolder(path).create(study, folder.data())
        work, started = "archsearch.running.timing:time_steps", time.monotonic()
        try:
            run_study(timing, chosen, work=work, **launch.runner_options)
        except StudyStopped as stop:
            if stop.exit_code != FAILURE or not timing.records(ids):
                command = resume_command(folder.request()["command"], folder.path)
                reason = str(stop).partition("\n")[0]
                message = f"{reason}, before any training. Resume with: {command}"
                raise StudyStopped(message, stop.exit_code) from stop
        seconds, records = time.monotonic() - started, timing.records(ids)
        in_trials = makespan((record.seconds for record in records.values()), workers)
        # This process, if it trains itself, has imported everything by now.
        inline = workers == 1 and launch.runner in ("auto", "inline")
        worker_seconds = None if inline else max(0.0, seconds - in_trials)
        return _Timings(records, worker_seconds, _drawing_seconds(timing.path))


def _drawing_seconds(timing: Path) -> float:
    """Return how long a report of the timings takes, which reads and imports as the study's does.

    Without a complete timing there is no estimate, and nothing is drawn.
    """
    from archsearch.reports.render import render_all
    from archsearch.storage.study_folder import StudyFolder

    if "complete" not in StudyFolder(timing).states().values():
        return 0.0
    started = time.monotonic()
    render_all([timing], timing / "reports")
    return time.monotonic() - started


def estimate_text(estimate: "Estimate") -> str:
    """Return ``Estimate: 22 trainings, 9s to 41s each, about 6m 10s on 2 worker(s); ...``."""
    seconds = estimate.seconds.values()
    parts = [
        f"Estimate: {len(seconds)} trainings, {clock(min(seconds))} to {clock(max(seconds))} "
        f"each, about {clock(3600 * estimate.hours)} on {estimate.workers} worker(s)"
    ]
    if estimate.peak_bytes:
        parts.append(f"up to {estimate.peak_bytes / 1e9:.1f} GB each")
    if estimate.too_large:
        parts.append(f"may not fit in memory: {', '.join(estimate.too_large)}")
    return "; ".join(parts)


def compare_estimate(folder: "StudyFolder") -> str:
    """Return a sentence that compares the estimate with the time taken; empty without one."""
    from archsearch.running.estimate import estimated_and_actual
    from archsearch.storage.quote import read_quote

    try:
        quote = read_quote(folder.path)
    except ValueError as error:
        return f"No comparison with the estimate: {error}"
    estimated = {} if quote is None else quote.seconds
    predicted, taken = estimated_and_actual(estimated, folder.records(estimated).values())
    if not taken or not predicted:
        return ""
    return (
        f"The trainings took {clock(taken)} together, estimated {clock(predicted)} "
        f"({taken / predicted - 1:+.0%})."
    )
