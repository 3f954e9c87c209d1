"""Commands on the paper's other studies, its printed sizes and its shared weights."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Exit, Option

from archsearch.api.keywords import evaluate_all, from_options
from archsearch.api.live import say
from archsearch.api.options import Launch, Training
from archsearch.api.paper_request import PaperStudy, StudyName
from archsearch.api.session import RUNS, folder_name, write_reports
from archsearch.cli.launch import train_or_exit
from archsearch.cli.options import AsFormat, Device, Format, ImageSize, PlanOnly, with_options
from archsearch.cli.output import print_json, print_rows
from archsearch.core.numbers import LARGEST, parse_image_size
from archsearch.space.grid import plan_rows
from archsearch.study import Study

if TYPE_CHECKING:
    from archsearch.paper.claim import Claim
    from archsearch.paper.weight_sharing import Sharing


def verify(
    out: Annotated[
        Path | None, Option(help="Also write the table to this folder, in every format.")
    ] = None,
    output: AsFormat = Format.table,
) -> None:
    """Recount every size that the paper prints.

    The command exits with 1 if a size that we should reproduce differs.
    """
    from archsearch.paper.printed_sizes import claims
    from archsearch.reports.claims import render, tally

    checked = claims()
    if output is Format.json:
        print_json([claim.to_dict() for claim in checked])
    else:
        _print_claims(checked)
    if out is not None:
        render(checked, out)
    say(tally(checked))
    if broken := [claim for claim in checked if claim.broken]:
        names = "; ".join(f"{c.source}, {c.model}, {c.quantity}" for c in broken)
        say(f"{len(broken)} size(s) should equal the printed ones and do not: {names}")
        raise Exit(1)


def _print_claims(checked: "tuple[Claim, ...]") -> None:
    from archsearch.paper.printed_sizes import SCOPE_NOTE
    from archsearch.reports.claims import exact

    rows: list[dict[str, Any]] = [
        {
            "source": c.source, "model": c.model, "figure": c.quantity, "paper": c.printed,
            "ours": c.ours, "exact": exact(c), "verdict": c.verdict,
        }
        for c in checked
    ]  # fmt: skip
    print_rows(rows, title="Printed sizes, recounted")
    for claim in checked:
        if claim.verdict != "equal":
            print(f"\n{claim.source}, {claim.model}, {claim.quantity} {claim.printed}:")
            print(f"  {claim.verdict}. {claim.tried}.")
    print(f"\n{SCOPE_NOTE}")


@with_options(Training, PaperStudy, Launch, leave_out=("prune", "prune_over"))
def study(
    name: Annotated[
        StudyName, Argument(help="Train this study; `archsearch studies` describes each of them.")
    ],
    plan: PlanOnly = False,
    output: AsFormat = Format.table,
    **options: Any,
) -> None:
    """Train one of the paper's other studies.

    The report shows the paper's figures beside ours; operator-or-frame, which is not in the paper,
    compares every operator with DCNv3 at equal size.
    """
    values = {key: value for key, value in options.items() if value is not None}
    request = from_options(PaperStudy, {**values, "name": name})
    studies, launch = evaluate_all(
        lambda: request.studies(from_options(Training, values)),
        from_options(Launch, options).checked,
    )
    if plan:
        _print_plans(list(studies), output)
    elif len(studies) == 1:
        train_or_exit(studies[0], launch)
    else:
        _train_all(name, list(studies), launch)


def _train_all(name: StudyName, studies: list[Study], launch: Launch) -> None:
    """Train each study in its own folder, then write one report over all of them.

    Raises:
        Exit: with 1 if a trial failed, after all studies were trained.
    """
    parent = Path(launch.out) if launch.out else RUNS / folder_name(replace(studies[0], name=name))
    folders = [parent / one.name for one in studies]
    failed = False
    for one, folder in zip(studies, folders, strict=True):
        try:
            train_or_exit(one, replace(launch, out=folder))
        except Exit:
            failed = True
    write_reports(folders, parent / "reports")
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
    constant = {name for name in numbers if len({row.get(name) for row in rows} - {None}) == 1}
    hidden = {*constant, "status", "reason"}
    shown = [{k: v for k, v in row.items() if k not in hidden} for row in rows]
    print_rows(shown, title=studies[0].question)


def weight_sharing(
    measure: Annotated[
        str | None, Option(help="Also measure real training steps of these models, such as T,S.")
    ] = None,
    batch_size: Annotated[
        int, Option(min=1, max=LARGEST, help="Use this many images per step; Fig. 4 has 32.")
    ] = 32,
    image_size: ImageSize = "224",
    device: Device = "auto",
    out: Annotated[
        Path | None, Option(help="Write the table and the figure to this folder.")
    ] = None,
    output: AsFormat = Format.table,
) -> None:
    """Show parameters and memory saved by shared weights.

    The models are T to H, as in Fig. 4.
    """
    from archsearch.paper.weight_sharing import NOTE, sharing_rows, with_measured_peaks

    models = [] if measure is None else [name.strip().upper() for name in measure.split(",")]
    height, width = parse_image_size(image_size, "--image-size")
    sharing_rows(models, batch_size, image_size)  # a wrong name fails before anything is measured
    rows = [
        with_measured_peaks(row, image_size, device) if row.model in models else row
        for row in sharing_rows(batch_size=batch_size, image_size=image_size)
    ]
    if output is Format.json:
        print_json([row.to_dict() for row in rows])
    else:
        title = f"Shared and unshared weights: {batch_size} images at {height} x {width}"
        print_rows([_readable(row) for row in rows], title=title)
        print(f"\n{NOTE}")
    if out is not None:
        from archsearch.reports.weight_sharing import render

        render(rows, batch_size, image_size, out)
        say(f"Written to {out}: the table and the figure.")


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
