"""The quote on the command line: before training, and against what it took."""

import json
import shlex
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from archsearch.api.live import clock
from archsearch.api.options import Launch
from archsearch.running.stopping import StudyStopped
from archsearch.study import Record, Trial

if TYPE_CHECKING:
    from archsearch.running.estimate import Quote
    from archsearch.running.runners import Place
    from archsearch.storage.study_folder import StudyFolder

FAILURE = 1
"""The exit code of a study that stopped, but not by a signal."""

FEWEST = 4
"""Waiting trials below which a quote would take about as long as the training."""


def quote_before(folder: "StudyFolder", launch: Launch) -> "Quote | None":
    """Time the corner cells and say what the waiting trials will take; kept as quote.json.

    None where they are few, or where no timing came to its end: the reason is told, and the trials
    themselves will show more.

    Raises:
        archsearch.storage.lock.Locked: when another process works here.
        archsearch.running.stopping.StudyStopped: by Ctrl-C or SIGTERM.
    """
    from archsearch.storage.files import write_json
    from archsearch.storage.study_folder import FINISHED

    states = folder.states()
    waiting = [trial for trial in folder.trials() if states[trial.id] not in FINISHED]
    if len(waiting) < FEWEST:
        return None
    with folder.lock():  # all the while: another driver would take the timing for a left-over
        for left_by_a_kill in folder.path.glob("quote-*/"):
            shutil.rmtree(left_by_a_kill)
        try:
            made = _made(folder, waiting, launch)
        except ValueError as error:
            _say(f"No quote: {error}")
            return None
        write_json(folder.path / "quote.json", made.to_dict(), indent=1)
    _say(text(made))
    return made


def _made(folder: "StudyFolder", waiting: list[Trial], launch: Launch) -> "Quote":
    from archsearch.running.estimate import corners, quote
    from archsearch.running.runners import Place, num_slots
    from archsearch.training import machine

    place = Place(
        launch.workers,
        launch.device,
        waiting[0].recipe.threads,
        ray_address=launch.ray_address,
        gpus_per_trial=launch.gpus_per_trial,
    )
    workers = min(num_slots(launch.runner, place), len(waiting))
    chosen = corners(waiting)
    # Read before the timings take of it; of a cluster's memory nothing is known here.
    free = machine.memory() if place.ray_address is None else None
    _say(f"Timing a few steps of {len(chosen)} corner cells ...")
    records = _timed(folder, chosen, launch)
    for trial in chosen:
        if (record := records.get(trial.id)) and record.error:
            _say(f"{trial.variant.name} could not be timed: {record.error.partition(chr(10))[0]}")
    num_gpus = _num_gpus(place, workers)
    return quote(waiting, records, workers, free_bytes=free, num_gpus=num_gpus)


def _num_gpus(place: "Place", workers: int) -> int:
    """GPUs that the workers share: this machine's; on a cluster, as many as they take there."""
    from archsearch.running.runners import gpus_of

    if place.ray_address is None:
        return max(1, len(gpus_of(place)))
    per_gpu = max(1, int(1 / (place.gpus_per_trial or 1)))
    return -(-workers // per_gpu)


def _timed(folder: "StudyFolder", chosen: tuple[Trial, ...], launch: Launch) -> dict[str, Record]:
    """Records of the timings, made by the study's own kind of runner in a folder of its own."""
    import tempfile

    from archsearch.running.run import run_study
    from archsearch.storage.study_folder import StudyFolder

    study = replace(folder.study(), name="quote", plan=None)
    with tempfile.TemporaryDirectory(dir=folder.path, prefix="quote-") as place:
        timing = StudyFolder(place).create(study, folder.data(), folder.request()["command"])
        try:
            run_study(timing, chosen, work="archsearch.running.timing:time_steps", **launch.where)
        except StudyStopped as stop:
            if stop.exit_code != FAILURE:
                again = shlex.join(folder.request()["command"])
                words = f"stopped before anything was trained. Go on with: {again}"
                raise StudyStopped(words, stop.exit_code) from stop
            if not (found := _records(timing, chosen)):
                raise
            return found
        return _records(timing, chosen)


def _records(timing: "StudyFolder", chosen: tuple[Trial, ...]) -> dict[str, Record]:
    found = {trial.id: timing.trial(trial.id).record() for trial in chosen}
    return {i: record for i, record in found.items() if record is not None}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def text(made: "Quote") -> str:
    """``Quote: 22 trainings, 9s to 41s each, about 6m 10s on 2 workers; ...``."""
    seconds = made.seconds.values()
    parts = [
        f"Quote: {len(made.seconds)} trainings, {clock(min(seconds))} to {clock(max(seconds))} "
        f"each, about {clock(3600 * made.hours)} on {made.workers} worker(s)"
    ]
    if made.peak_bytes:
        parts.append(f"up to {made.peak_bytes / 1e9:.1f} GB each")
    if made.too_large:
        parts.append(f"may not fit: {', '.join(made.too_large)}")
    return "; ".join(parts)


def quote_after(folder: "StudyFolder") -> str:
    """How the quote compares with what happened; empty without one."""
    from archsearch.running.estimate import outcome

    path = folder.path / "quote.json"
    if not path.exists():
        return ""
    quoted = json.loads(path.read_text())["seconds"]
    found = (folder.trial(i).record() for i in quoted)
    said, took = outcome(quoted, (r for r in found if r is not None))
    if not took:
        return ""
    return f"Quoted {clock(said)} of training, took {clock(took)} ({took / said - 1:+.0%})."
