"""The quote on the command line: before training, and against what it took."""

import json
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from archsearch.cli.live import clock
from archsearch.cli.options import Launch, command_line
from archsearch.study import Record, Trial

if TYPE_CHECKING:
    from archsearch.running.quote import Quote
    from archsearch.storage.store import StudyFolder

FEWEST = 4
"""Waiting trials below which a quote would take about as long as the training."""


def quote_before(folder: "StudyFolder", launch: Launch) -> "Quote | None":
    """Time the corner cells and say what the waiting trials will take; kept as quote.json."""
    from archsearch.running.quote import corners, quote
    from archsearch.running.runners import Place, num_workers
    from archsearch.storage.files import write_json
    from archsearch.storage.store import FINISHED

    states = folder.states()
    waiting = [trial for trial in folder.trials() if states[trial.id] not in FINISHED]
    if len(waiting) < FEWEST:
        return None
    with folder.lock():  # another driver is told of now, not after the timing
        for left_by_a_kill in folder.path.glob("quote-*/"):
            shutil.rmtree(left_by_a_kill)
    chosen = corners(waiting)
    print(f"Timing a few steps of {len(chosen)} corner cells ...", file=sys.stderr, flush=True)
    place = Place(launch.workers, launch.device, waiting[0].recipe.threads)
    made = quote(waiting, _timed(folder, chosen, launch), min(num_workers(place), len(waiting)))
    write_json(folder.path / "quote.json", made.to_dict(), indent=1)
    print(text(made), file=sys.stderr, flush=True)
    return made


def _timed(folder: "StudyFolder", chosen: tuple[Trial, ...], launch: Launch) -> dict[str, Record]:
    """Records of the timings, made by the study's own kind of runner in a folder of its own."""
    import tempfile

    from archsearch.running.run import run_study
    from archsearch.storage.store import StudyFolder

    study = replace(folder.study(), name="quote", plan={})
    with tempfile.TemporaryDirectory(dir=folder.path, prefix="quote-") as place:
        timing = StudyFolder(place).create(study, folder.data(), command_line())
        run_study(
            timing,
            chosen,
            runner=launch.runner,
            workers=launch.workers,
            device=launch.device,
            ray_address=launch.ray_address,
            work="archsearch.running.timing:time_steps",
        )
        records = {t.id: timing.trial(t.id).record() for t in chosen}
    return {i: r for i, r in records.items() if r is not None and r.status == "complete"}


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
    from archsearch.running.quote import outcome

    path = folder.path / "quote.json"
    if not path.exists():
        return ""
    quoted = json.loads(path.read_text())["seconds"]
    found = (folder.trial(i).record() for i in quoted)
    said, took = outcome(quoted, (r for r in found if r is not None))
    if not took:
        return ""
    return f"Quoted {clock(said)} of training, took {clock(took)} ({took / said - 1:+.0%})."
