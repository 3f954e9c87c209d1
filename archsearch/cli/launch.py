"""Commands that train: grid, scale, and a study of one's own."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from archsearch.cli import options as o
from archsearch.cli.output import print_json, print_rows
from archsearch.cli.session import start
from archsearch.core.budget import DEFAULT_TOLERANCE, Budget
from archsearch.core.study import Cell, Study
from archsearch.families.internimage import SCALED_ORIGIN, parse_variant
from archsearch.space.grid import plan_rows, summary
from archsearch.space.scaling import check_factors
from archsearch.space.search_space import SEARCH_SPACE

Numbers = Annotated[str | None, Option(help="Values in place of the preset's, such as 16,32.")]
SIGNS = {"c1": "C1", "group_channels": "C'", "l1": "L1", "alpha": "α", "beta": "β", "phi": "φ"}
Tolerance = Annotated[float, Option(help="How far from the budget a model may be, as a fraction.")]


def grid(
    budget: Annotated[str, Option(help="30M parameters, 5G multiply-adds, ...")] = "30M",
    preset: Annotated[str, Option(help="main: C1 48, 64, 80. supplement: C1 16, 32, 64.")] = "main",
    c1: Numbers = None,
    group_channels: Numbers = None,
    l1: Numbers = None,
    invalid: Annotated[
        o.Invalid, Option(help="What becomes of a cell that breaks a rule.")
    ] = o.Invalid.repair,
    tolerance: Tolerance = DEFAULT_TOLERANCE,
    data: o.DataName = "digits",
    recipe: o.RecipeName = "quick",
    epochs: o.Epochs = None,
    seeds: o.Seeds = "1",
    set_: o.Set = None,
    out: o.Out = None,
    runner: o.Runner = "auto",
    workers: o.Workers = None,
    device: o.Device = "auto",
    ray_address: o.RayAddress = None,
    gpus_per_trial: o.GpusPerTrial = None,
    max_hours: o.MaxHours = None,
    quote: o.Quote = True,
    prune: o.Prune = "off",
    prune_over: o.PruneOver = "epochs",
    extend: o.Extend = False,
    plan: o.PlanOnly = False,
    output: o.AsFormat = o.Format.table,
) -> None:
    """Train the paper's 30-cell grid and draw its heatmap.

    At any budget, as in supplement C.1 (Fig. A).
    """
    from archsearch.studies import grid as module

    limit, training, launch, lists = o.together(
        lambda: Budget.parse(budget, tolerance),
        lambda: o.training(data, recipe, epochs, seeds, set_, prune, prune_over),
        lambda: o.Launch(
            out, runner, workers, device, ray_address, extend, max_hours, quote, gpus_per_trial
        ),
        lambda: o.space_lists(c1, group_channels, l1),
    )
    study = module.study(
        budget=limit, preset=preset, invalid=invalid.value,
        **lists,
        recipe=training.recipe, data=training.data, seeds=training.seeds,
    )  # fmt: skip
    study = replace(study, plan=training.plan)
    _print_plan(study, output) if plan else start(study, launch)


def scale(
    alpha: Annotated[float | None, Option(help="Depth factor of one step of phi.")] = None,
    beta: Annotated[float | None, Option(help="Width factor of one step of phi.")] = None,
    budget: Annotated[str, Option(help="The ladder ends where it would exceed this.")] = "100M",
    origin: Annotated[str, Option(help="Where the ladder starts: C1-C'-L1-L3.")] = "64-16-4-18",
    rounding: Annotated[
        str | None,
        Option(help="nearest, floor or budget; Table C also recovered (its default)."),
    ] = None,
    tolerance: Tolerance = DEFAULT_TOLERANCE,
    data: o.DataName = "digits",
    recipe: o.RecipeName = "quick",
    epochs: o.Epochs = None,
    seeds: o.Seeds = "1",
    set_: o.Set = None,
    out: o.Out = None,
    runner: o.Runner = "auto",
    workers: o.Workers = None,
    device: o.Device = "auto",
    ray_address: o.RayAddress = None,
    gpus_per_trial: o.GpusPerTrial = None,
    max_hours: o.MaxHours = None,
    quote: o.Quote = True,
    extend: o.Extend = False,
    plan: o.PlanOnly = False,
    output: o.AsFormat = o.Format.table,
) -> None:
    """Train a ladder of sizes by (alpha, beta), or Table C.

    A rung for each phi = 0, 1, 2, ... up to the budget; without factors, Table C's five pairs.
    """
    from archsearch.studies import scale as module

    limit, start_at, training, launch, _ = o.together(
        lambda: Budget.parse(budget, tolerance),
        lambda: parse_variant(origin, like=SCALED_ORIGIN),
        lambda: o.training(data, recipe, epochs, seeds, set_),
        lambda: o.Launch(
            out, runner, workers, device, ray_address, extend, max_hours, quote, gpus_per_trial
        ),
        lambda: (alpha is None and beta is None) or check_factors(alpha, beta),
    )
    study = module.study(
        alpha=alpha, beta=beta, budget=limit, origin=start_at, rounding=rounding,
        recipe=training.recipe, data=training.data, seeds=training.seeds,
    )  # fmt: skip
    study = replace(study, plan=training.plan)
    _print_plan(study, output) if plan else start(study, launch)


def run(
    file: Annotated[Path, Argument(help="A Python file that exports `study` (a Study).")],
    out: o.Out = None,
    runner: o.Runner = "auto",
    workers: o.Workers = None,
    device: o.Device = "auto",
    ray_address: o.RayAddress = None,
    gpus_per_trial: o.GpusPerTrial = None,
    max_hours: o.MaxHours = None,
    quote: o.Quote = True,
    extend: o.Extend = False,
    plan: o.PlanOnly = False,
    output: o.AsFormat = o.Format.table,
) -> None:
    """Run a study of one's own, from a Python file.

    The file exports `study`: a Study, or a function that returns one.
    """
    launch = o.Launch(
        out, runner, workers, device, ray_address, extend, max_hours, quote, gpus_per_trial
    )
    study = load_study(file)
    _print_plan(study, output) if plan else start(study, launch)


def search(
    budget: Annotated[str, Option(help="30M parameters, 5G multiply-adds, ...")] = "30M",
    trials: Annotated[int, Option(min=1, help="How many variants to train.")] = 60,
    over: Annotated[
        Literal["four", "twelve"], Option(help="The four numbers, or all twelve, rules aside.")
    ] = "four",
    c1: Numbers = None,
    group_channels: Numbers = None,
    l1: Numbers = None,
    sampler: Annotated[Literal["tpe", "random"], Option(help="How to propose.")] = "tpe",
    objectives: Annotated[
        str, Option(help="Metrics, such as val_accuracy,macs; several give a Pareto front.")
    ] = "val_accuracy",
    search_seed: Annotated[int, Option(min=0, help="Seed of the proposals.")] = 0,
    tolerance: Tolerance = DEFAULT_TOLERANCE,
    data: o.DataName = "digits",
    recipe: o.RecipeName = "quick",
    epochs: o.Epochs = None,
    set_: o.Set = None,
    out: o.Out = None,
    runner: o.Runner = "auto",
    workers: o.Workers = None,
    device: o.Device = "auto",
    ray_address: o.RayAddress = None,
    gpus_per_trial: o.GpusPerTrial = None,
    max_hours: o.MaxHours = None,
    quote: o.Quote = True,
    extend: o.Extend = False,
) -> None:
    """Search for variants under a budget with Optuna.

    The same command proposes the same again.
    """
    from archsearch.studies import search as module

    limit, training, launch, names, lists = o.together(
        lambda: Budget.parse(budget, tolerance),
        lambda: o.training(data, recipe, epochs, "1", set_),
        lambda: o.Launch(
            out, runner, workers, device, ray_address, extend, max_hours, quote, gpus_per_trial
        ),
        lambda: o.metrics(objectives),
        lambda: _space_to_search(over, c1, group_channels, l1),
    )
    study = module.study(
        recipe=training.recipe, budget=limit, num_trials=trials, over=over, sampler=sampler,
        objectives=names, seed=search_seed, data=data, space=replace(SEARCH_SPACE, **lists),
    )  # fmt: skip
    start(study, launch)


def _space_to_search(over: str, *lists: str | None) -> dict[str, tuple[int, ...]]:
    if over == "twelve" and any(text is not None for text in lists):
        raise ValueError("--c1, --group-channels and --l1 are the space of --over four only")
    return o.space_lists(*lists)


def load_study(file: Path) -> Study:
    """The Study that a file exports as ``study`` (a value, or a function without arguments).

    Raises:
        ValueError: when the file is not there, or exports none.
    """
    import runpy

    if not file.is_file():
        raise ValueError(f"{file} is not a file")
    found = runpy.run_path(str(file)).get("study")
    study = found() if callable(found) else found
    if not isinstance(study, Study):
        raise ValueError(
            f"{file} must export `study`, a Study or a function that returns one; it has "
            f"{type(found).__name__}"
        )
    return replace(study, name=study.name or file.stem)


def _print_plan(study: Study, output: o.Format) -> None:
    if output is o.Format.json:
        print_json(plan_rows(study.cells))
        return
    print_rows([_plan_line(cell) for cell in study.cells], title=study.question)
    axis = Budget.parse(study.budget).axis if study.budget else "params"
    print(f"\n{summary(study.cells, axis)}")


def _plan_line(cell: Cell) -> dict[str, str]:
    """A cell as a person reads it; `plan_rows` has the digits."""
    asked = "  ".join(f"{SIGNS.get(key, key)} {value}" for key, value in cell.asked.items())
    cost = cell.cost
    return {
        "asked": asked,
        "C1-C'-L1-L3": cell.variant.name if cell.variant else "",
        "params": f"{cost.params / 1e6:.2f}M" if cost else "",
        "MACs": f"{cost.macs / 1e9:.2f}G" if cost else "",
        "fate": cell.fate,
        "reason": cell.reason,
    }


COMMANDS = (grid, scale, search, run)
