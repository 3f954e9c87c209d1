"""The paper's studies beyond grid, ladder and search, and its printed figures recounted."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Exit, Option

from archsearch.cli import options as o
from archsearch.cli.options import AsFormat, Format
from archsearch.cli.output import print_json, print_rows
from archsearch.cli.session import RUNS, draw, folder_name, say, start
from archsearch.core.study import Study
from archsearch.space.grid import plan_rows

if TYPE_CHECKING:
    from archsearch.paper.printed_sizes import Claim
    from archsearch.paper.weight_sharing import Sharing

Name = Literal["kernel-size", "ablation", "deformable-attention", "data-scale"]


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


def study(
    name: Annotated[Name, Argument(help="Which; archsearch studies says what each asks.")],
    full: Annotated[
        bool, Option("--full/--small", help="T and Table B as the paper has them, or 1M networks.")
    ] = False,
    data: Annotated[
        str | None, Option("--data", help="As for grid. Default: digits; --full has none.")
    ] = None,
    recipe: Annotated[
        str | None, Option("--recipe", help="Default: quick with more epochs; --full table-b.")
    ] = None,
    epochs: o.Epochs = None,
    seeds: o.Seeds = "1",
    set_: o.Set = None,
    out: o.Out = None,
    runner: o.Runner = "auto",
    workers: o.Workers = None,
    device: o.Device = "auto",
    ray_address: o.RayAddress = None,
    max_hours: o.MaxHours = None,
    gpus_per_trial: o.GpusPerTrial = None,
    quote: o.Quote = True,
    extend: o.Extend = False,
    plan: o.PlanOnly = False,
    output: AsFormat = Format.table,
) -> None:
    """Train one of the paper's other studies.

    The report has the paper's figures beside ours.
    """
    from archsearch.studies.sizes import SCALES

    size: Literal["small", "full"] = "full" if full else "small"
    scale = SCALES[size]
    if recipe is None:
        epochs = epochs or scale.epochs
    training, launch, place = o.together(
        lambda: o.training(data or "digits", recipe or scale.recipe, epochs, seeds, set_),
        lambda: o.Launch(
            out, runner, workers, device, ray_address, extend, max_hours, quote, gpus_per_trial
        ),
        lambda: _data(data, needed=full and not plan),
    )
    found = [
        replace(one, plan=training.plan)
        for one in _studies(
            name, recipe=training.recipe, data=place, seeds=training.seeds, size=size
        )
    ]
    if plan:
        _print_plans(found, output)
    elif len(found) == 1:
        start(found[0], launch)
    else:
        _start_all(name, found, launch)


def _data(name: str | None, needed: bool) -> str:
    if name is None and needed:
        raise ValueError(
            "--full trains as the paper does and wants its data: --data imagefolder:PATH "
            "(for the built-in digits leave --full out)"
        )
    return name or "digits"


def _studies(name: Name, **asked: Any) -> tuple[Study, ...]:
    module = importlib.import_module(f"archsearch.studies.{name.replace('-', '_')}")
    return (
        tuple(module.studies(**asked)) if hasattr(module, "studies") else (module.study(**asked),)
    )


def _start_all(name: Name, studies: list[Study], launch: o.Launch) -> None:
    """Each study in a folder of its own, then one report over all of them.

    Raises:
        Exit: with 1 when a training failed, after the others were tried.
    """
    parent = launch.out or RUNS / folder_name(replace(studies[0], name=name))
    folders = [parent / one.name for one in studies]
    failed = False
    for one, folder in zip(studies, folders, strict=True):
        try:
            start(one, replace(launch, out=folder))
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
    hidden = {"c1", "group_channels", "l1", "l3", "status", "reason"}
    shown = [{k: v for k, v in row.items() if k not in hidden} for row in rows]
    print_rows(shown, title=studies[0].question)


def weight_sharing(
    measure: Annotated[
        str | None, Option(help="Models to measure too, such as T,S: real steps, one at a time.")
    ] = None,
    batch_size: Annotated[int, Option(min=1, help="Images in a step; Fig. 4 has 32.")] = 32,
    image_size: Annotated[int, Option(min=1, help="Side of the square image.")] = 224,
    device: o.Device = "auto",
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
