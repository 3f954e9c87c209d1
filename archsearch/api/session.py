"""From a study to its report: create the folder, train, write the reports, print the answer."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.api.estimate import compare_estimate, estimate_study
from archsearch.api.gpu_sharing import share_gpus
from archsearch.api.keywords import evaluate_all
from archsearch.api.live import say
from archsearch.api.options import Launch, parse_logs
from archsearch.core.plans import CLASSIFICATION_RUN, Search
from archsearch.core.task import Data
from archsearch.families.naming import Naming
from archsearch.study import Record, Study, Trial

if TYPE_CHECKING:
    from archsearch.reports.report import Report
    from archsearch.running.progress import Snapshot
    from archsearch.storage.study_folder import State, StudyFolder

RUNS = Path("runs")


def train_and_report(
    study: Study, launch: Launch, command: Iterable[str], starts_from: Path | None = None
) -> "StudyFolder":
    """Train what is not trained yet and write the reports; repeat the call to resume.

    ``command`` is what a user types to do this again; messages suggest it for resuming. The records
    of the run ``starts_from``, whose weights the trainings start from, are kept in the folder.

    Raises:
        ValueError: for unusable data, folders, runners or metrics, before anything is trained.
        archsearch.running.run.StudyStopped: if the study ends before its plan is done.
    """
    from archsearch.running.stopping import stopped_by_storage

    path = Path(launch.out) if launch.out else RUNS / folder_name(study)
    command, data = list(command), checked_data(study, launch, path)
    with stopped_by_storage(path, command):
        return _train_and_report(study, data, launch, path, command, starts_from)


def checked_data(study: Study, launch: Launch, path: Path) -> Data:
    """Return the study's data, after every check that is possible before ``path`` exists.

    Raises:
        ValueError: for unusable data, a metric, a device, a runner or a plan that cannot train.
    """
    from archsearch.running.preflight import preflight_device, preflight_runner
    from archsearch.searching.plans import check_plan

    options = launch.resources(study.recipe.threads)
    checks = [study.check_metrics, lambda: preflight_runner(launch.runner, options, path, study)]
    if launch.ray_address is None:  # the GPUs of a cluster are not on this machine
        checks.append(lambda: preflight_device(study.recipe, launch.device))

    data: Data = evaluate_all(lambda: study.task.describe(study.data, study.recipe), *checks)[0]
    check_plan(study, data)
    return data


def _train_and_report(
    study: Study,
    data: Data,
    launch: Launch,
    path: Path,
    command: list[str],
    starts_from: Path | None = None,
) -> "StudyFolder":
    folder, counts = train_study(study, data, launch, path, command, starts_from=starts_from)
    write_reports([folder.path])
    say_failed(path, counts)
    return folder


def train_study(
    study: Study,
    data: Data,
    launch: Launch,
    path: Path,
    command: list[str],
    *,
    later: Sequence[Study] = (),
    earlier: "StudyFolder | None" = None,
    starts_from: Path | None = None,
    run: Path | None = None,
) -> "tuple[StudyFolder, Mapping[State, int]]":
    """Train what a study has not trained yet; return its folder and the number of trials by state.

    ``later`` are the studies that follow in the same run: the estimate includes them. Trials that
    the folder ``earlier`` has finished are taken from there. The records of the run
    ``starts_from``, whose weights the trainings start from, are copied into the folder. ``run`` is
    the folder of the whole run, if that is another one. Raises as `train_and_report`.
    """
    from archsearch.running.preflight import precision_warning
    from archsearch.searching.plans import plan_text
    from archsearch.storage.publish import publish, share_records
    from archsearch.storage.study_folder import StudyFolder

    folder = StudyFolder(path).create(study, data, command, extend=launch.extend)
    if earlier is not None:
        with folder.lock():
            share_records(earlier, folder, folder.ids())
    if starts_from is not None:
        with folder.lock():
            publish(starts_from, path / CLASSIFICATION_RUN)
    study = folder.study()  # with --extend, includes the earlier requests
    say("\n".join(filter(None, (study.question, _study_text(study, data), plan_text(study)))))
    say(f"Folder: {path}. Ctrl-C stops the study; the same command resumes it.")
    if launch.ray_address is None and (warning := precision_warning(study.recipe, launch.device)):
        say(warning)
    if launch.quote:
        trials = [trial for one in later for trial in one.trials(data)]
        launch = share_gpus(folder, launch, estimate_study(folder, launch, trials))
    counts = _train(folder, launch, path if run is None else run)
    if comparison := compare_estimate(folder):
        say(comparison)
    return folder, counts


def say_failed(path: Path, counts: "Mapping[State, int]") -> None:
    """Print how many trials of the run in ``path`` failed, and how to train them again."""
    if counts.get("failed"):
        retry = shlex.join(["archsearch", "retry", str(path), "--failed"])
        say(f"{counts['failed']} trial(s) failed. Make them runnable again with: {retry}")


def folder_name(study: Study) -> str:
    """Return ``grid-30M-digits``: study, budget and data, short enough to type."""
    budget = "" if study.budget is None else str(study.budget)
    budget = budget.removesuffix(" params").replace(" ", "")
    source, _, path = study.data.partition(":")
    parts = (study.name, budget, source, Path(path).name)
    return re.sub(r"[^\w.-]+", "_", "-".join(filter(None, parts)))


def _study_text(study: Study, data: Data) -> str:
    """Return what will be trained: cells, seeds, epochs, recipe, images and what is left out."""
    from archsearch.reports.phrases import num_train_text

    fates = [cell.fate for cell in study.cells]
    counts = ", ".join(f"{fates.count(fate)} {fate}" for fate in dict.fromkeys(fates))
    num_trials = len(study.trials(data))
    cells = f"{len(fates)} cells ({counts}), {len(study.seeds)} seed(s): {num_trials} trainings"
    text = (
        f"{cells if fates else 'Trainings'} of {study.recipe.epochs} epoch(s), "
        f"recipe {study.recipe.name}, on {data.name}: "
        f"{num_train_text(data, study.recipe)} images to train, "
        f"{data.num_val:,} to choose, {data.num_test:,} to test"
    )
    return "\n".join([text, *(f"Data: {note}" for note in data.notes)])


def _train(folder: "StudyFolder", launch: Launch, run: Path) -> Mapping["State", int]:
    from archsearch.api.live import display
    from archsearch.running.run import run_study
    from archsearch.searching.adaptive_plan import StreamedPlan
    from archsearch.searching.plans import steps_of
    from archsearch.trackers.live import Live

    planned, study = folder.trials(), folder.study()
    steps = steps_of(study, folder.data())
    streamed = None if steps is None else StreamedPlan(steps)
    show_seeds = len({trial.seed for trial in planned}) > 1
    name = f"{run.resolve().name}-{folder.path.name}" if run != folder.path else ""
    trackers = Live(parse_logs(launch.log), folder.path, say, name, run)

    def on_change(snapshot: "Snapshot") -> None:
        show(snapshot)
        trackers.poll()

    def on_record(trial: Trial, record: Record) -> None:
        if streamed is not None:
            streamed.add_record(trial, record)
        trackers.add()

    with closing(trackers), display(TrialLabels(folder, show_seeds)) as show:
        counts = run_study(
            folder,
            streamed.trials() if streamed else planned,
            **launch.runner_options,
            max_hours=launch.max_hours,
            on_change=on_change,
            on_record=on_record,
            certain_trials=planned if study.max_seeds else (),
            max_trials=study.plan.num_trials if isinstance(study.plan, Search) else 0,
        )
    if streamed and streamed.outcome:
        say(streamed.outcome)
    return counts


class TrialLabels(dict[str, str]):
    """Labels of trials for the live table, by trial id: the network, and the seed if
    ``show_seeds``.

    A label is made on first use, because a study may launch trials that were not planned.
    """

    def __init__(self, folder: "StudyFolder", show_seeds: bool) -> None:
        self._folder, self._show_seeds = folder, show_seeds
        cells = folder.study().cells
        self._naming = Naming.of((cell.variant, cell.settings) for cell in cells)

    def __missing__(self, trial_id: str) -> str:
        trial = self._folder.trial(trial_id).trial()
        name = self._naming.name(trial.variant.name, trial.variant, vars(trial.recipe))
        self[trial_id] = name + (f"  seed {trial.seed}" if self._show_seeds else "")
        return self[trial_id]


def write_reports(
    paths: list[Path],
    out: Path | None = None,
    metric: str | None = None,
    axes: list[str] | None = None,
    target: int | None = None,
) -> "Report":
    """Write the report of these runs; print the answer of each, then the files."""
    from archsearch.reports.render import render_all

    report = render_all(paths, out or paths[0] / "reports", metric, axes, target)
    for path, run in zip(paths, report.runs, strict=True):
        name = f"{path.name}:" if len(paths) > 1 else ""
        say("\n" + "\n".join(filter(None, (name, run.summary.headline, run.summary.confidence))))
    page, *others = report.files.values()
    say(f"Report: {page}\nIn the same folder: {_by_stem(others)}")
    return report


def _by_stem(files: Iterable[Path]) -> str:
    """Return ``heatmap (png, svg), results (csv, md)``."""
    suffixes: dict[str, set[str]] = {}
    for file in files:
        suffixes.setdefault(file.stem, set()).add(file.suffix.removeprefix("."))
    return ", ".join(f"{stem} ({', '.join(sorted(types))})" for stem, types in suffixes.items())
