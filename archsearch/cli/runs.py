"""Commands on an existing run: report, status, retry, reproduce."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Exit, Option

from archsearch.api.live import remaining_text, say
from archsearch.api.session import RUNS, write_reports
from archsearch.cli.options import AsFormat, Device, Format, Run
from archsearch.cli.output import print_json, print_rows
from archsearch.core.numbers import LARGEST

if TYPE_CHECKING:
    from archsearch.reproduce import Reproduction
    from archsearch.stats.intervals import Interval
    from archsearch.storage.status import StudyStatus

MAX_ROWS = 200
"""Up to this many trials the status lists all; beyond, only those that need attention."""

Runs = Annotated[
    list[Path] | None,
    Argument(help="Report on the runs in these folders; the default is the newest in runs/."),
]


def report(
    runs: Runs = None,
    metric: Annotated[str | None, Option(help="Compare cells by this metric.")] = None,
    axes: Annotated[
        str | None,
        Option(
            help="Draw the heatmap by these numbers of the plan: panel,y,x as in "
            "group_channels,l1,c1."
        ),
    ] = None,
    target: Annotated[
        str | None, Option(help="Recommend (alpha, beta) for this many parameters, such as 100M.")
    ] = None,
    out: Annotated[
        Path | None, Option(help="Write to this folder; the default is RUN/reports.")
    ] = None,
    verify: Annotated[
        bool,
        Option("--verify", help="Check the report against the records; exit 1 on a difference."),
    ] = False,
) -> None:
    """Write the report of a run from its records.

    A report has a heatmap, tables, and one HTML page.
    """
    options = {"--metric": metric, "--axes": axes, "--target": target}
    conflicts = [flag for flag, value in options.items() if value is not None]
    if verify and conflicts:
        raise ValueError(
            f"--verify checks the report with its own options: leave out {', '.join(conflicts)}"
        )
    size = None if target is None else parse_parameters(target)
    from archsearch.storage.pilots import current_stage

    folders = [current_stage(run) for run in runs or [newest(RUNS)]]
    if verify:
        _verify(folders, out)
        return
    axis_names = None if axes is None else axes.replace(" ", "").split(",")
    report = write_reports(folders, out, metric, axis_names, size)
    if size is not None:
        say(report.recommendation)


def parse_parameters(text: str) -> int:
    """Return ``100M`` as a number of parameters.

    Raises:
        ValueError: for a text that is not a budget, or a budget of multiply-adds.
    """
    from archsearch.core.budget import Budget

    budget = Budget.parse(text)
    if budget.axis != "params":
        raise ValueError(
            f"--target must be parameters, which the scaling laws are fitted to, got {text!r}"
        )
    return budget.target


def newest(parent: Path) -> Path:
    """Return the run that was written to last; a copy may lack the empty folder of the trials.

    Raises:
        ValueError: if ``parent`` holds no run.
    """
    runs = [path.parent for path in parent.glob("*/study.json")]
    if not runs:
        raise ValueError(f"no run in {parent}/: give a folder, or start with `archsearch grid`")
    return max(runs, key=_last_written)


def _last_written(run: Path) -> float:
    times = [0.0]
    for path in (run / "study.json", run / "trials"):
        with suppress(OSError):  # an unreadable neighbor is not the newest run
            times.append(path.stat().st_mtime)
    return max(times)


def _verify(folders: list[Path], out: Path | None) -> None:
    from archsearch.reports.provenance import verify

    results = {folder: verify(folder, out) for folder in folders}
    for folder, result in results.items():
        verdict = "CHANGED" if result.differences else "every number follows from the records"
        say(f"{folder}: {verdict}")
        for line in filter(None, (*result.differences, result.note)):
            say(f"  {line}")
    if any(result.differences for result in results.values()):
        raise Exit(1)


def status(run: Run, output: AsFormat = Format.table) -> None:
    """Show the state of every trial of a run.

    The command also works while the run is training.
    """
    from archsearch.storage.pilots import current_stage
    from archsearch.storage.status import study_status

    current = study_status(current_stage(run))
    if output is Format.json:
        print_json([dict(row) for row in current.rows])
        return
    print_rows(_rows_to_show(current))
    counts = ", ".join(f"{n} {state}" for state, n in current.counts.items())
    for note in current.data_notes:
        say(f"Data: {note}")
    say(f"{current.name}: {counts}. {_what_to_do(current)}")


def _what_to_do(current: "StudyStatus") -> str:
    left = "" if current.left is None else f"about {remaining_text(current.left)}"
    if current.running:
        return f"It is running, {left}." if left else "It is running."
    if current.finished:
        return "It is finished."
    advice = "The plan may add trials; to make sure, run:" if current.finished is None else ""
    time_left = f"{left.capitalize()}. " if left else ""
    return f"{time_left}{advice or 'Resume with:'}\n  {current.command}"


def _rows_to_show(current: "StudyStatus") -> list[Mapping[str, Any]]:
    """Return all rows of a small run; of a large one those that need attention, and the best."""
    if len(current.rows) <= MAX_ROWS:
        return list(current.rows)
    expected = ("complete", "pending")
    rows = [row for row in current.rows if row["state"] not in expected or row is current.best]
    say(
        f"{len(current.rows)} trials; complete and pending ones are not listed (--format json "
        "lists all)"
    )
    return rows[:MAX_ROWS]


def retry(
    run: Run,
    failed: Annotated[bool, Option("--failed", help="Retry the trials that failed.")] = False,
) -> None:
    """Make failed trials runnable again.

    Their old records are kept beside the new ones.
    """
    from archsearch.running.run import retry as make_runnable
    from archsearch.storage.resume import resume_command
    from archsearch.storage.study_folder import StudyFolder

    if not failed:
        raise ValueError("choose the trials: archsearch retry RUN --failed")
    ids = make_runnable(StudyFolder(run))
    if ids:
        command = resume_command(StudyFolder(run).request()["command"], run)
        say(f"{len(ids)} trials can run again. Train them with: {command}")
    else:
        say(f"No trial of {run} failed: there is nothing to retry")


def reproduce(
    run: Run,
    cell: Annotated[
        str, Argument(help="Train the cell of these numbers, such as 64-16-4-18, or best.")
    ],
    seed: Annotated[
        int | None,
        Option(
            min=0,
            max=LARGEST,
            help="Use this seed; the default is one that the cell does not have.",
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Train one cell again and compare it with the run.

    The command exits with 1 if the result does not agree with the run.
    """
    from archsearch.reproduce import reproduce as train_again

    result = train_again(run, cell, seed, device=device)
    value = f"no value ({result.error})" if result.value is None else f"{result.value:.4f}"
    verdict = {True: "reproduced", False: "NOT reproduced", None: "undecided"}[result.agrees]
    say(f"{result.label}, seed {result.seed}: {value}; {_expectation(result)}: {verdict}")
    if result.agrees is False:
        raise Exit(1)


def _expectation(result: "Reproduction") -> str:
    """Return what the run predicts for a repeated training."""
    predicted, original = result.predicted, ""
    if result.original is not None:
        original = f"the run has {result.original:.4f} for this seed"
        if not result.differences:
            return original
        original += f" ({'; '.join(result.differences)}), and "
    return original + _prediction_text(predicted)


def _prediction_text(predicted: "Interval | None") -> str:
    if predicted is None or predicted.low is None or predicted.high is None:
        return "the run has too few other seeds to predict a value"
    interval = f"{predicted.low:.2f} to {predicted.high:.2f} (95%)"
    return f"the run's {predicted.n} other seeds predict {interval}"


COMMANDS = (report, status, retry, reproduce)
