"""The paper's studies beyond grid, ladder and search, and its printed figures recounted."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Exit, Option

from archsearch.api.keywords import gather, together
from archsearch.api.options import Launch, Training
from archsearch.api.requests import Name, PaperStudy
from archsearch.api.session import RUNS, draw, folder_name, say
from archsearch.cli.launch import start_or_exit
from archsearch.cli.options import AsFormat, Device, Format, PlanOnly, with_options
from archsearch.cli.output import print_json, print_rows
from archsearch.space.grid import plan_rows
from archsearch.study import Study

if TYPE_CHECKING:
    from archsearch.paper.printed_sizes import Claim
    from archsearch.paper.weight_sharing import Sharing


def verify(
    out: Annotated[Path | None, Option(help="Write the table here too, in every format.")] = None,
    output: AsFormat = Format.table,
) -> None:
    """Recount every size that the paper prints.

    Exit 1 when one that should come out does not.
    """
    from archsearch.paper.printed_sizes import claims
    from archsearch.reports.claims import render, tally

    found = claims()
    if output is Format.json:
        print_json([claim.to_dict() for claim in found])
    else:
        _print_claims(found)
    if out is not None:
        render(found, out)
    print(tally(found), file=sys.stderr)
    if broken := [claim for claim in found if claim.broken]:
        names = "; ".join(f"{c.source}, {c.model}, {c.quantity}" for c in broken)
        print(f"{len(broken)} should have come out and did not: {names}", file=sys.stderr)
        raise Exit(1)


def _print_claims(found: "tuple[Claim, ...]") -> None:
    from archsearch.paper.printed_sizes import NOT_COUNTED
    from archsearch.reports.claims import exact

    rows: list[dict[str, Any]] = [
        {
            "source": c.source, "model": c.model, "figure": c.quantity, "paper": c.printed,
            "ours": c.ours, "exact": exact(c), "verdict": c.verdict,
        }
        for c in found
    ]  # fmt: skip
    print_rows(rows, title="Printed sizes, recounted")
    for claim in found:
        if claim.verdict != "equal":
            print(f"\n{claim.source}, {claim.model}, {claim.quantity} {claim.printed}:")
            print(f"  {claim.verdict}. {claim.tried}.")
    print(f"\n{NOT_COUNTED}")


@with_options(Training, PaperStudy, Launch, leave_out=("prune", "prune_over"))
def study(
    name: Annotated[Name, Argument(help="Which; archsearch studies says what each asks.")],
    plan: PlanOnly = False,
    output: AsFormat = Format.table,
    **options: Any,
) -> None:
    """Train one of the paper's other studies.

    The report has the paper's figures beside ours.
    """
    given = {key: value for key, value in options.items() if value is not None}
    request = gather(PaperStudy, {**given, "name": name})
    made, launch = together(
        lambda: request.studies(gather(Training, given)),
        gather(Launch, options).checked,
    )
    if plan:
        _print_plans(list(made), output)
    elif len(made) == 1:
        start_or_exit(made[0], launch)
    else:
        _start_all(name, list(made), launch)


def _start_all(name: Name, studies: list[Study], launch: Launch) -> None:
    """Each study in a folder of its own, then one report over all of them.

    Raises:
        Exit: with 1 when a training failed, after the others were tried.
    """
    parent = Path(launch.out) if launch.out else RUNS / folder_name(replace(studies[0], name=name))
    folders = [parent / one.name for one in studies]
    failed = False
    for one, folder in zip(studies, folders, strict=True):
        try:
            start_or_exit(one, replace(launch, out=folder))
        except Exit:
            failed = True
    draw(folders, parent / "reports")
    say(f"All together: {parent / 'reports' / 'report.html'}")
    if failed:
        raise Exit(1)


def _print_plans(studies: list[Study], output: Format) -> None:
    rows = [
        {"study": one.name, "data_fraction": one.recipe.data_fraction, **row}
        for one in studies
        for row in plan_rows(one.cells)
    ]
    if output is Format.json:
        print_json(rows)
        return
    variants = (cell.variant for one in studies for cell in one.cells)
    numbers = {name for v in variants if v is not None for name in v.number_names()}
    hidden = {*numbers, "status", "reason"}
    shown = [{k: v for k, v in row.items() if k not in hidden} for row in rows]
    print_rows(shown, title=studies[0].question)


def weight_sharing(
    measure: Annotated[
        str | None, Option(help="Models to measure too, such as T,S: real steps, one at a time.")
    ] = None,
    batch_size: Annotated[int, Option(min=1, help="Images in a step; Fig. 4 has 32.")] = 32,
    image_size: Annotated[int, Option(min=1, help="Side of the square image.")] = 224,
    device: Device = "auto",
    out: Annotated[Path | None, Option(help="Write table and picture here.")] = None,
    output: AsFormat = Format.table,
) -> None:
    """What shared weights save in parameters and memory.

    From T to H, as in Fig. 4.
    """
    from archsearch.paper.weight_sharing import NOTE, measured, sharing

    wanted = [] if measure is None else [name.strip().upper() for name in measure.split(",")]
    sharing(wanted, batch_size, image_size)  # a wrong name is told before anything is measured
    rows = [
        measured(row, image_size, device) if row.model in wanted else row
        for row in sharing(batch_size=batch_size, image_size=image_size)
    ]
    if output is Format.json:
        print_json([row.to_dict() for row in rows])
    else:
        title = f"Shared and unshared weights: {batch_size} images at {image_size} x {image_size}"
        print_rows([_readable(row) for row in rows], title=title)
        print(f"\n{NOTE}")
    if out is not None:
        from archsearch.reports.weight_sharing import render

        render(rows, batch_size, image_size, out)
        say(f"Table and picture: {out}")


def _readable(row: "Sharing") -> dict[str, str]:
    def gb(value: int | None) -> str:
        return "" if value is None else f"{value / 1e9:.2f}"

    def percent(value: float | None) -> str:
        return "" if value is None else f"{value:.1f}%"

    return {
        "model": row.model,
        "params M": f"{row.params / 1e6:.1f}",
        "unshared": f"{row.params_unshared / 1e6:.1f}",
        "more": percent(row.more_params),
        "paper: more": percent(row.paper.get("more_params")),
        "saved": percent(row.saved_params),
        "paper: saved": percent(row.paper.get("saved_params")),
        "predicted GB": gb(row.memory.peak_bytes),
        "unshared GB": gb(row.memory_unshared.peak_bytes),
        "measured GB": gb(row.measured),
        "unshared GB, measured": gb(row.measured_unshared),
        "memory saved": percent(row.saved_memory),
        "measured saved": percent(row.saved_measured),
        "paper: memory saved": percent(row.paper.get("saved_memory")),
    }


COMMANDS = (verify, study, weight_sharing)
