"""Commands on a run that exists: report, status, retry, reproduce, export."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Exit, Option

from archsearch.api.requests import metrics
from archsearch.api.session import RUNS, draw, say
from archsearch.cli.options import AsFormat, Device, Format, Run
from archsearch.cli.output import print_json, print_rows

if TYPE_CHECKING:
    from archsearch.storage.status import Status

MOST_ROWS = 200

Runs = Annotated[
    list[Path] | None, Argument(help="Folders of runs; without one, the newest in runs/.")
]


def report(
    runs: Runs = None,
    metric: Annotated[str | None, Option(help="Compare by this metric.")] = None,
    axes: Annotated[
        str | None,
        Option(help="Axes of the map by the plan's names: panel,y,x as in group_channels,l1,c1."),
    ] = None,
    target: Annotated[
        str | None, Option(help="Recommend (alpha, beta) for this many parameters, such as 100M.")
    ] = None,
    out: Annotated[Path | None, Option(help="Where to write. Default: RUN/reports.")] = None,
    verify: Annotated[
        bool,
        Option("--verify", help="Recompute every number from the records; exit 1 on a change."),
    ] = False,
) -> None:
    """Draw a run again from its records alone.

    Heatmap, tables, and one HTML page.
    """
    asked = {"--metric": metric, "--axes": axes, "--target": target}
    given = [flag for flag, value in asked.items() if value is not None]
    if verify and given:
        raise ValueError(f"--verify draws a report again as it is: leave out {', '.join(given)}")
    size = None if target is None else parameters(target)
    folders = runs or [newest(RUNS)]
    if verify:
        _verify(folders, out)
        return
    names = None if axes is None else axes.replace(" ", "").split(",")
    recommendation = draw(folders, out, metric, names, size).recommendation
    if size is not None:
        say(recommendation)


def parameters(text: str) -> int:
    """``100M`` as a number of parameters.

    Raises:
        ValueError: for a text that is no budget, or multiply-adds.
    """
    from archsearch.core.budget import Budget

    budget = Budget.parse(text)
    if budget.axis != "params":
        raise ValueError(f"--target wants parameters, which laws are fitted against; got {text!r}")
    return budget.target


def newest(parent: Path) -> Path:
    """The run that was written to last.

    Raises:
        ValueError: when there is none.
    """
    found = [path.parent for path in parent.glob("*/study.json")]
    if not found:
        raise ValueError(f"no run in {parent}/: name one, or begin with `archsearch grid`")
    return max(found, key=lambda run: (run / "trials").stat().st_mtime)


def _verify(folders: list[Path], out: Path | None) -> None:
    from archsearch.reports.provenance import verify

    proofs = {folder: verify(folder, out) for folder in folders}
    for folder, proof in proofs.items():
        changed = "CHANGED" if proof.differences else "every number follows from the records"
        say(f"{folder}: {changed}")
        for line in filter(None, (*proof.differences, proof.note)):
            say(f"  {line}")
    if any(proof.differences for proof in proofs.values()):
        raise Exit(1)


def status(run: Run, output: AsFormat = Format.table) -> None:
    """Where every trial of a run stands, also while it runs."""
    from archsearch.storage.status import overview

    seen = overview(run)
    if output is Format.json:
        print_json([dict(row) for row in seen.rows])
        return
    print_rows(_worth_showing(seen))
    counts = ", ".join(f"{n} {state}" for state, n in seen.counts.items())
    say(f"{seen.name}: {counts}. {'It is running.' if seen.running else 'Go on with:'}")
    if not seen.running:
        say(f"  {seen.command}")


def _worth_showing(seen: "Status") -> list[Mapping[str, Any]]:
    """All rows of a small run; of a large one what is not simply done, and the best."""
    if len(seen.rows) <= MOST_ROWS:
        return list(seen.rows)
    done = ("complete", "pending")
    left = [row for row in seen.rows if row["state"] not in done or row is seen.best]
    say(
        f"{len(seen.rows)} trials; complete and pending ones are not listed (--format json has all)"
    )
    return left[:MOST_ROWS]


def retry(
    run: Run,
    failed: Annotated[bool, Option("--failed", help="The trials that failed.")] = False,
) -> None:
    """Make failed trials runnable again.

    Their old records stay beside the new ones.
    """
    from archsearch.running.run import retry as make_runnable
    from archsearch.storage.study_folder import StudyFolder

    if not failed:
        raise ValueError("say which trials: archsearch retry RUN --failed")
    ids = make_runnable(StudyFolder(run))
    say(f"{len(ids)} trials can run again: the command that made the run trains them")


def reproduce(
    run: Run,
    cell: Annotated[str, Argument(help="Its four numbers, such as 64-16-4-18, or best.")],
    seed: Annotated[int | None, Option(min=0, help="Default: the first the run lacks.")] = None,
    device: Device = "auto",
) -> None:
    """Train one cell again and compare it with the run.

    Exit 1 when it does not fall where the run says.
    """
    from archsearch.reproduce import reproduce as again

    found = again(run, cell, seed, device=device)
    expected = found.expected
    if found.same is not None:
        against = f"the run has {found.same:.4f} for this seed"
    elif expected and expected.low is not None and expected.high is not None:
        against = (
            f"one more of {expected.n} seeds should fall in {expected.low:.2f} to "
            f"{expected.high:.2f} (95%)"
        )
    else:
        against = "the run has too few seeds to say where it should fall"
    value = f"gave no value: {found.error}" if found.value is None else f"{found.value:.4f}"
    verdict = {True: "reproduced", False: "NOT reproduced", None: "cannot tell"}[found.agrees]
    say(f"{found.label}, seed {found.seed}: {value}; {against}: {verdict}")
    if found.agrees is False:
        raise Exit(1)


def export(
    run: Run,
    optuna: Annotated[
        str | None, Option(help="Database for optuna-dashboard, such as sqlite:///runs.db.")
    ] = None,
    records: Annotated[
        Path | None, Option(help="Folder for a copy without weights, to publish, and its report.")
    ] = None,
    objectives: Annotated[str | None, Option(help="Metrics, in place of the study's own.")] = None,
) -> None:
    """Write a run as an Optuna study, or without weights.

    Trials still to come are enqueued in the study; without its weights a run is records alone.
    """
    if optuna is None and records is None:
        raise ValueError("say where to: --optuna sqlite:///runs.db, --records FOLDER, or both")
    if optuna is not None:
        from archsearch.optuna_export import export_optuna

        num = export_optuna(run, optuna, metrics(objectives) if objectives else ())
        say(f"{num} trials of {run} are in {optuna}")
    if records is not None:
        from archsearch.storage.publish import publish

        say(f"{publish(run, records)} trials of {run} are in {records}, without their weights")
        draw([records])


COMMANDS = (report, status, retry, reproduce, export)
