"""Commands that train: grid, scale, search, a study of one's own, one network in full."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Exit

from archsearch.api.keywords import gather, together
from archsearch.api.options import Launch, Training
from archsearch.api.requests import Grid, Scale, Search, study_in
from archsearch.api.session import start
from archsearch.api.train import FullTraining, train_network
from archsearch.cli.options import AsFormat, Format, PlanOnly, command_line, with_options
from archsearch.cli.output import print_json, print_rows
from archsearch.core.cell import Cell
from archsearch.core.family import Family
from archsearch.space.grid import plan_rows, summary
from archsearch.study import Study

SIGNS = {"alpha": "α", "beta": "β", "phi": "φ"}


def _study_command(kind: type, leave_out: tuple[str, ...] = ()) -> Callable[..., None]:
    """The command of a request: all its options, and --plan."""

    def command(plan: PlanOnly = False, output: AsFormat = Format.table, **options: Any) -> None:
        def make() -> Study:
            made: Study = gather(kind, options).study(gather(Training, options))
            return made

        _plan_or_start(make, plan, output, options)

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
    file: Annotated[Path, Argument(help="A Python file that exports `study` (a Study).")],
    plan: PlanOnly = False,
    output: AsFormat = Format.table,
    **options: Any,
) -> None:
    """Run a study of one's own, from a Python file.

    The file exports `study`: a Study, or a function that returns one.
    """
    _plan_or_start(lambda: study_in(file), plan, output, options)


@with_options(FullTraining)
def train(
    network: Annotated[
        str, Argument(help="RUN:best, RUN:64-16-4-18, T, S, B, L, XL, H, or 64-16-4-18.")
    ],
    **options: Any,
) -> None:
    """Train one network in full, to weights one can load.

    A run's winner for instance: RUN:best. The weights load anywhere.
    """
    trained = train_network(network, gather(FullTraining, options))
    if trained.record.status != "complete":
        raise Exit(1)


def _plan_or_start(
    make: Callable[[], Study], plan: bool, output: Format, options: dict[str, Any]
) -> None:
    study, launch = together(make, gather(Launch, options).checked)
    if plan:
        print_plan(study, output)
    else:
        start_or_exit(study, launch)


def start_or_exit(study: Study, launch: Launch) -> None:
    """Train a study; exit with 1 when a training failed."""
    folder = start(study, launch, command_line())
    if "failed" in folder.states().values():
        raise Exit(1)


def print_plan(study: Study, output: Format) -> None:
    """The cells of a study, their fates and costs."""
    if output is Format.json:
        print_json(plan_rows(study.cells))
        return
    variants = [cell.variant for cell in study.cells if cell.variant is not None]
    like = variants[0] if variants else None
    print_rows([_plan_line(cell, like) for cell in study.cells], title=study.question)
    axis = "params" if study.budget is None else study.budget.axis
    print(f"\n{summary(study.cells, axis)}")


def _plan_line(cell: Cell, like: Family | None) -> dict[str, str]:
    """A cell as a person reads it; `plan_rows` has the digits."""

    def sign(name: str) -> str:
        return SIGNS.get(name) or (like.label_of(name) if like else name)

    names = "-".join(map(sign, like.number_names())) if like else "network"
    cost = cell.cost
    return {
        "asked": "  ".join(f"{sign(key)} {value}" for key, value in cell.requested.items()),
        names or "network": cell.variant.name if cell.variant else "",
        "params": f"{cost.params / 1e6:.2f}M" if cost else "",
        "MACs": f"{cost.macs / 1e9:.2f}G" if cost else "",
        "fate": cell.fate,
        "reason": cell.reason,
    }


COMMANDS = (grid, scale, search, run, train)
