"""Commands that train: grid, scale, search, a study from a file, one network in full."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Exit

from archsearch.api.downstream import Downstream, downstream_and_report
from archsearch.api.full_training import FullTraining
from archsearch.api.keywords import evaluate_all, from_options
from archsearch.api.latency import Planned, folder_of, planned_of, train_planned
from archsearch.api.latency_measurements import measured_in
from archsearch.api.live import say
from archsearch.api.options import Launch, Training
from archsearch.api.requests import Grid, Scale
from archsearch.api.search_request import Search
from archsearch.api.study_file import load_study
from archsearch.api.train import train_network
from archsearch.cli.options import AsFormat, Format, PlanOnly, Run, command_line, with_options
from archsearch.cli.output import print_json, print_rows
from archsearch.core.cell import Cell
from archsearch.core.family import Family
from archsearch.searching.planned_networks import check_networks
from archsearch.space.grid import plan_rows, summary
from archsearch.study import Study

if TYPE_CHECKING:
    from archsearch.studies.latency import LatencyGrid, LatencySearch

SIGNS = {"alpha": "α", "beta": "β", "phi": "φ"}


def _study_command(kind: type, leave_out: tuple[str, ...] = ()) -> Callable[..., None]:
    """Return the command of a request, with all its options and --plan."""

    def command(plan: PlanOnly = False, output: AsFormat = Format.table, **options: Any) -> None:
        def study() -> Planned:
            return planned_of(from_options(kind, options), from_options(Training, options))

        _plan_or_train(study, plan, output, options)

    command.__name__, command.__doc__ = kind.__name__.lower(), kind.__doc__
    decorated: Callable[..., None] = with_options(kind, Training, Launch, leave_out=leave_out)(
        command
    )
    return decorated


grid = _study_command(Grid)
scale = _study_command(Scale, leave_out=("prune", "prune_over"))
search = _study_command(Search, leave_out=("prune", "prune_over", "seeds"))


@with_options(Launch)
def run(
    file: Annotated[Path, Argument(help="Run the study that this Python file exports.")],
    plan: PlanOnly = False,
    output: AsFormat = Format.table,
    **options: Any,
) -> None:
    """Run your own study from a Python file.

    The file exports `study`: a Study, or a function that returns one.
    """
    _plan_or_train(lambda: load_study(file), plan, output, options)


@with_options(FullTraining)
def train(
    network: Annotated[
        str,
        Argument(
            help="Train this network: RUN:best, RUN:64-16-4-18, T, S, B, L, XL, H, 64-16-4-18, or "
            "with --family a published name or all numbers joined by -."
        ),
    ],
    **options: Any,
) -> None:
    """Train one network in full and save its weights.

    RUN:best trains the best network of a run. `internimage.load_weights` loads the weights of an
    InternImage.
    """
    trained = train_network(network, from_options(FullTraining, options))
    if trained.record.status != "complete":
        raise Exit(1)


@with_options(Downstream, Launch)
def downstream(
    run: Run, plan: PlanOnly = False, output: AsFormat = Format.table, **options: Any
) -> None:
    """Fine-tune a run's networks as segmenters or detectors.

    RUN is a run of classification. The report says whether the network that classifies best is also
    the best there. Every training starts from the weights that the training of the same cell and
    seed has kept; a seed without weights of its own takes those of the cell's other seeds in turn.
    """
    study, launch = evaluate_all(
        lambda: from_options(Downstream, options).study(run), from_options(Launch, options).checked
    )
    if plan:
        check_networks(study)
        print_plan(study, output)
        return
    folder = downstream_and_report(run, study, launch, command_line())
    if "failed" in folder.states().values():
        raise Exit(1)


def _plan_or_train(
    make_study: Callable[[], Planned], plan: bool, output: Format, options: dict[str, Any]
) -> None:
    study, launch = evaluate_all(make_study, from_options(Launch, options).checked)
    if plan and not isinstance(study, Study):
        print_measured(study, launch, output)
    elif plan:
        check_networks(study)
        print_plan(study, output)
    else:
        train_or_exit(study, launch)


def train_or_exit(study: Planned, launch: Launch) -> None:
    """Train a study and write its reports.

    Raises:
        Exit: with 1 if a trial failed.
    """
    folder = train_planned(study, launch, command_line())
    if "failed" in folder.states().values():
        raise Exit(1)


def print_measured(planned: "LatencyGrid | LatencySearch", launch: Launch, output: Format) -> None:
    """Print what a run has measured, and the cells of a grid if these are solved by it."""
    path = folder_of(planned, launch)
    measured = measured_in(path)
    if measured is None or not measured.times:
        say(f"--plan measures nothing, and {path} has no measured latency: there is no plan yet")
        return
    is_solved = bool(measured.known.fitted) and not planned.to_measure(measured.known)
    study = planned.study(measured) if is_solved else None
    if study is not None and study.cells:
        print_plan(study, output)
        return
    rows = [
        {"network": v.name, "milliseconds": f"{1e3 * time.median:.3f}", "for": measured.purposes[v]}
        for v, time in measured.times.items()
    ]
    print_json(rows) if output is Format.json else print_rows(rows, title="Measured latencies")
    say("--plan measures nothing: this is what was measured so far")


def print_plan(study: Study, output: Format) -> None:
    """Print the cells of a study with their fates and costs."""
    if output is Format.json:
        print_json(plan_rows(study.cells))
        return
    variants = [cell.variant for cell in study.cells if cell.variant is not None]
    several = len({type(variant) for variant in variants}) > 1
    print_rows(
        [_plan_line(cell, *variants[:1], several=several) for cell in study.cells],
        title=study.question,
    )
    axis = "params" if study.budget is None else study.budget.axis
    print(f"\n{summary(study.cells, axis)}")


def _plan_line(cell: Cell, like: Family | None = None, *, several: bool) -> dict[str, str]:
    """Return a cell as a table row with short numbers; `plan_rows` has all digits.

    The column of the networks is named by their numbers, unless they are of several families.
    """

    def sign(name: str) -> str:
        return SIGNS.get(name) or (like.label_of(name) if like else name)

    words = (sign(name).replace(" ", "_") for name in (like.number_names() if like else ()))
    names = "network" if several else "-".join(words)
    cost = cell.cost
    return {
        "requested": "  ".join(f"{sign(key)} {value}" for key, value in cell.requested.items()),
        names or "network": cell.variant.name if cell.variant else "",
        "params": f"{cost.params / 1e6:.2f}M" if cost else "",
        "MACs": f"{cost.macs / 1e9:.2f}G" if cost else "",
        "growth per φ (nominal 2)": f"{cell.growth:.3f}" if cell.growth else "",
        "fate": cell.fate,
        "reason": cell.reason,
    }


COMMANDS = (grid, scale, search, run, train, downstream)
