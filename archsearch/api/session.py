"""From a study to its report: the folder, the trainings, the pictures, the answer."""

import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.api.estimate import quote_after, quote_before
from archsearch.api.options import Launch
from archsearch.core.family import differing_switches, with_switches
from archsearch.core.plans import Search
from archsearch.core.task import Data
from archsearch.study import Study

if TYPE_CHECKING:
    from archsearch.reports.report import Report
    from archsearch.storage.study_folder import State, StudyFolder

RUNS = Path("runs")


def start(study: Study, launch: Launch, command: Iterable[str]) -> "StudyFolder":
    """Train what is not trained yet, then draw the reports; the same call goes on with it.

    ``command`` is what a person types to do this again.

    Raises:
        ValueError: for data, folders or runners that cannot be used, before anything is trained.
        archsearch.running.run.StudyStopped: when it ended before its plan did.
    """
    from archsearch.running.preflight import check_device
    from archsearch.searching.plans import announcement
    from archsearch.storage.study_folder import StudyFolder

    data = study.task.describe(study.data, study.recipe)
    if launch.ray_address is None:  # a cluster has its GPUs elsewhere
        check_device(study.recipe, launch.device)
    path = Path(launch.out) if launch.out else RUNS / folder_name(study)
    folder = StudyFolder(path).create(study, data, command, extend=launch.extend)
    study = folder.study()  # with --extend, all that was asked for before too
    say("\n".join(filter(None, (study.question, _what(study, data), announcement(study)))))
    say(f"Folder: {path}. Ctrl-C stops; the same command goes on.")
    if launch.quote:
        quote_before(folder, launch)
    counts = _train(folder, launch)
    if compared := quote_after(folder):
        say(compared)
    draw([folder.path])
    if counts.get("failed"):
        again = shlex.join(["archsearch", "retry", str(path), "--failed"])
        say(f"{counts['failed']} failed: {again} makes them runnable again")
    return folder


def folder_name(study: Study) -> str:
    """``grid-30M-digits``: what was asked, short enough to type."""
    budget = "" if study.budget is None else str(study.budget)
    budget = budget.removesuffix(" params").replace(" ", "")
    source, _, path = study.data.partition(":")
    parts = (study.name, budget, source, Path(path).name)
    return re.sub(r"[^\w.-]+", "_", "-".join(filter(None, parts)))


def _what(study: Study, data: Data) -> str:
    from archsearch.reports.phrases import num_train_text

    fates = [cell.fate for cell in study.cells]
    told = ", ".join(f"{fates.count(f)} {f}" for f in dict.fromkeys(fates))
    num = len(study.trials(data))
    cells = f"{len(fates)} cells ({told}), {len(study.seeds)} seed(s): {num} trainings"
    return (
        f"{cells if fates else 'Trainings'} of {study.recipe.epochs} epoch(s), "
        f"recipe {study.recipe.name}, on {data.name}: "
        f"{num_train_text(data, study.recipe)} images to train, "
        f"{data.num_val:,} to choose, {data.num_test:,} to test"
    )


def _train(folder: "StudyFolder", launch: Launch) -> Mapping["State", int]:
    from archsearch.api.live import display
    from archsearch.running.run import run_study
    from archsearch.searching.adaptive_plan import Streamed
    from archsearch.searching.plans import steps_of

    planned, study = folder.trials(), folder.study()
    steps = steps_of(study, folder.data())
    more = None if steps is None else Streamed(steps)
    several = len({trial.seed for trial in planned}) > 1
    with display(Labels(folder, several)) as show:
        counts = run_study(
            folder,
            more.trials() if more else planned,
            **launch.where,
            max_hours=launch.max_hours,
            on_change=show,
            on_record=more.heard if more else None,
            sure=planned if study.max_seeds else (),
            at_most=study.plan.num_trials if isinstance(study.plan, Search) else 0,
        )
    if more and more.outcome:
        say(more.outcome)
    return counts


class Labels(dict[str, str]):
    """What the table calls a trial, by its id: its numbers, the switches in which the study's
    networks differ, and the seed if there are several.

    Read when first asked for: a study may launch trials that were not planned.
    """

    def __init__(self, folder: "StudyFolder", seeds: bool) -> None:
        self._folder, self._seeds = folder, seeds
        cells = folder.study().cells
        self._switches = differing_switches(c.variant for c in cells if c.variant)

    def __missing__(self, trial_id: str) -> str:
        trial = self._folder.trial(trial_id).trial()
        name = with_switches(trial.variant.name, trial.variant, self._switches)
        self[trial_id] = name + (f"  seed {trial.seed}" if self._seeds else "")
        return self[trial_id]


def draw(
    paths: list[Path],
    out: Path | None = None,
    metric: str | None = None,
    axes: list[str] | None = None,
    target: int | None = None,
) -> "Report":
    """Write the report of these runs and print its summary and its files."""
    from archsearch.reports.render import render_all

    report = render_all(paths, out or paths[0] / "reports", metric, axes, target)
    for path, run in zip(paths, report.runs, strict=True):
        name = f"{path.name}:" if len(paths) > 1 else ""
        say("\n" + "\n".join(filter(None, (name, run.summary.headline, run.summary.sure))))
    page, *others = report.files.values()
    say(f"Report: {page}\nBeside it: {_by_stem(others)}")
    return report


def _by_stem(files: Iterable[Path]) -> str:
    """``heatmap (png, svg), results (csv, md)``: figures and tables with their formats."""
    formats: dict[str, set[str]] = {}
    for file in files:
        formats.setdefault(file.stem, set()).add(file.suffix.removeprefix("."))
    return ", ".join(f"{stem} ({', '.join(sorted(names))})" for stem, names in formats.items())


def say(text: str) -> None:
    """Talk goes to stderr: stdout is for data."""
    print(text, file=sys.stderr, flush=True)
