"""From a study to its report: the folder, the trainings, the pictures, the last word."""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from typer import Exit

from archsearch.cli.estimate import quote_after, quote_before
from archsearch.cli.options import Launch, as_shell, command_line
from archsearch.core.study import Data, Study
from archsearch.families.internimage import differing_switches, named_apart

if TYPE_CHECKING:
    from archsearch.storage.study_folder import State, StudyFolder

RUNS = Path("runs")


def start(study: Study, launch: Launch) -> None:
    """Train what is not trained yet, then draw the reports; the same command goes on with it.

    Raises:
        Exit: with 1 when a trial failed.
        ValueError: for data, folders or runners that cannot be used, before anything is trained.
        archsearch.running.run.StudyStopped: when it ended before its plan did.
    """
    from archsearch.running.preflight import check_device
    from archsearch.searching.plans import announcement
    from archsearch.storage.study_folder import StudyFolder
    from archsearch.training.data import describe

    data = describe(study.data, study.recipe.val_fraction)
    if launch.ray_address is None:  # a cluster has its GPUs elsewhere
        check_device(study.recipe, launch.device)
    path = launch.out or RUNS / folder_name(study)
    folder = StudyFolder(path).create(study, data, command_line(), extend=launch.extend)
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
        again = as_shell(["archsearch", "retry", str(path), "--failed"])
        say(f"{counts['failed']} failed: {again} makes them runnable again")
        raise Exit(1)


def folder_name(study: Study) -> str:
    """``grid-30M-digits``: what was asked, short enough to type."""
    budget = study.budget.removesuffix(" params").replace(" ", "")
    source, _, place = study.data.partition(":")
    parts = (study.name, budget, source, Path(place).name)
    return re.sub(r"[^\w.-]+", "_", "-".join(filter(None, parts)))


def _what(study: Study, data: Data) -> str:
    from archsearch.reports.phrases import num_train_words

    fates = [cell.fate for cell in study.cells]
    told = ", ".join(f"{fates.count(f)} {f}" for f in dict.fromkeys(fates))
    num = len(study.trials(data))
    cells = f"{len(fates)} cells ({told}), {len(study.seeds)} seed(s): {num} trainings"
    return (
        f"{cells if fates else 'Trainings'} of {study.recipe.epochs} epoch(s), "
        f"recipe {study.recipe.name}, on {data.name}: "
        f"{num_train_words(data, study.recipe)} images to train, "
        f"{data.num_val:,} to choose, {data.num_test:,} to test"
    )


def _train(folder: "StudyFolder", launch: Launch) -> Mapping["State", int]:
    from archsearch.cli.live import display
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
            at_most=study.plan.get("num_trials", 0),
        )
    if more and more.outcome:
        say(more.outcome)
    return counts


class Labels(dict[str, str]):
    """What the table calls a trial, by its id: its four numbers, the switches in which the study's
    networks differ, and the seed if there are several.

    Read when first asked for: a study may launch trials that were not planned.
    """

    def __init__(self, folder: "StudyFolder", seeds: bool) -> None:
        self._folder, self._seeds = folder, seeds
        cells = folder.study().cells
        self._switches = differing_switches(c.variant for c in cells if c.variant)

    def __missing__(self, trial_id: str) -> str:
        trial = self._folder.trial(trial_id).trial()
        name = named_apart(trial.variant.name, trial.variant, self._switches)
        self[trial_id] = name + (f"  seed {trial.seed}" if self._seeds else "")
        return self[trial_id]


def draw(
    paths: list[Path],
    out: Path | None = None,
    metric: str | None = None,
    axes: list[str] | None = None,
    target: int | None = None,
) -> None:
    """Draw what the records say and tell where it lies, the answer first."""
    from archsearch.reports.render import render_all
    from archsearch.reports.summary import answer
    from archsearch.results import load

    written = render_all(paths, out or paths[0] / "reports", metric, axes, target)
    for path in paths:
        told = answer(load(path), metric)
        name = f"{path.name}:" if len(paths) > 1 else ""
        say("\n" + "\n".join(filter(None, (name, told.headline, told.sure))))
    page = written.pop("page")
    say(f"Report: {page}\nBeside it: {_by_stem(written.values())}")


def _by_stem(files: Iterable[Path]) -> str:
    """``heatmap (png, svg), results (csv, md)``: pictures and tables by what they are."""
    suffixes: dict[str, set[str]] = {}
    for file in files:
        suffixes.setdefault(file.stem, set()).add(file.suffix.removeprefix("."))
    return ", ".join(f"{stem} ({', '.join(sorted(found))})" for stem, found in suffixes.items())


def say(text: str) -> None:
    """Talk goes to stderr: stdout is for data."""
    print(text, file=sys.stderr, flush=True)
