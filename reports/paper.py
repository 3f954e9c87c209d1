"""The paper's tables beside ours, in separate columns: a study's own, Table C, Table B, Table 1."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from archsearch.core.metrics import GENERAL, Metric
from archsearch.core.recipe import Recipe
from archsearch.core.recipes import TABLE_B
from archsearch.families.internimage_cost import count
from archsearch.reports.card import Card, unless
from archsearch.reports.cell_order import rank_label
from archsearch.reports.columns import (
    paper_fields,
    paper_text,
    requested_columns,
    result_text,
    row_mark,
)
from archsearch.reports.context import Context
from archsearch.reports.formats import MISSING, Table, number
from archsearch.reports.phrases import mean_note, paragraph, setting
from archsearch.results import CellResult
from archsearch.space.scaling import growth_per_step
from internimage.config import PRESETS

UNITS = {"accuracy": "top-1 (%)"}


def paper_table(context: Context) -> Table:
    """Return a row per cell in plan order: its cost, its result, and what the paper prints."""
    cells = context.cells
    columns = requested_columns(context, cells)
    for metric in (GENERAL["params"], GENERAL["macs"]):
        columns[f"{metric.axis}, ours"] = [metric.text(c.cost_value(metric)) for c in cells]
    columns[f"{context.metric.axis}, ours"] = [result_text(c, context.comparison) for c in cells]
    for metric in _others_of_paper(context):
        comparison = context.results.compare(metric.name)
        columns[f"{metric.axis}, ours"] = [result_text(c, comparison) for c in cells]
    measured = {
        "Step (ms), ours": [number(step_ms(c), ".1f") for c in cells],
        "Peak memory (GB), ours": [number(c.mean(GENERAL["memory"]), ".2f") for c in cells],
    }
    columns |= {head: texts for head, texts in measured.items() if {*texts} != {MISSING}}
    for name in dict.fromkeys(name for c in cells for name in c.cell.paper):
        columns[f"{UNITS.get(name, name)}, paper"] = [paper_text(c, name) for c in cells]
    rows = [
        row | {"step_ms": step_ms(c)} | paper_fields(c)
        for row, c in zip(context.rows, cells, strict=True)
    ]
    return Table.of(columns, rows, note=paragraph(_note(context), mean_note(context)))


def _others_of_paper(context: Context) -> list[Metric]:
    """Return the validation metrics, beside the report's, that the paper prints by their label."""
    printed = {f"Validation {name}" for c in context.cells for name in c.cell.paper}
    metrics = context.results.study.task.metrics
    return [m for m in metrics if m.label in printed and m != context.metric]


def _note(context: Context) -> str:
    recipe, data = context.results.study.recipe, context.results.data.name
    step = (
        f", a step of {recipe.batch_size} images at {recipe.image_size}²"
        if any(step_ms(c) for c in context.cells)
        else " (no step, since the data has no full batch of images to time)"
    )
    return (
        f"Ours: the networks of this run, on {data}, recipe {recipe.name}, {recipe.epochs} epochs; "
        f"parameters and multiply-adds as the paper counts (1000 classes at 224²){step} and the "
        f"measured peak memory of the process. The paper's: {_of_paper(context)}, one training "
        "each. Only the order within the columns is comparable, not the values."
    )


def _of_paper(context: Context) -> str:
    if context.results.study.is_fine_tuned:
        return "Mask R-CNN with InternImage-T on COCO, 12 epochs"
    return "InternImage-T on ImageNet-1K, 300 epochs"


def _source(context: Context) -> str:
    return "Table 6" if context.results.study.is_fine_tuned else context.results.study.source


def step_ms(cell: CellResult) -> float | None:
    """Return the milliseconds of an optimizer step, from the images per second of full batches."""
    rate = cell.mean(GENERAL["throughput"])
    return 1000 * cell.trials[0].trial.recipe.batch_size / rate if rate else None


def table_c(context: Context) -> Table:
    """Return the results by scaling factors; of InternImage beside the paper's Table C."""
    comparison, cells = context.comparison, _scaled_cells(context)
    growths = {c.index: _growth(c, cells) for c in cells}
    growth_texts = [number(growths[c.index], ".3f") for c in cells]
    ours, paper = (", ours", True) if context.is_internimage else ("", False)
    columns = {
        "α": [f"{c.cell.requested['alpha']:.2f}" for c in cells],
        "β": [f"{c.cell.requested['beta']:.2f}" for c in cells],
        "φ": [f"{c.cell.requested.get('phi', MISSING)}" for c in cells],
        "Network": [c.label for c in cells],
        f"#parameters{ours}": [
            number(c.cost_value(GENERAL["params"]), ".1f", unit="M") for c in cells
        ],
        **({"Growth per φ (nominal 2)": growth_texts} if {*growth_texts} != {MISSING} else {}),
        **({"#parameters, paper": [paper_text(c, "params") for c in cells]} if paper else {}),
        f"{context.metric.axis}{ours}": [result_text(c, comparison) for c in cells],
        **({"top-1 (%), paper": [paper_text(c, "accuracy") for c in cells]} if paper else {}),
        "Rank": [rank_label(c, comparison) for c in cells],
    }
    rows = [context.rows[c.index] | {"growth": growths[c.index]} | paper_fields(c) for c in cells]
    marks = [row_mark(c, comparison) for c in cells]
    return Table.of(columns, rows, marks, _note_on_growth(context, any(growths.values())))


def _note_on_growth(context: Context, grows: bool) -> str:
    results = context.results
    ours = f"{context.metric.noun} on {results.data.name}, recipe "
    ours += f"{results.study.recipe.name}."
    paper = (
        "The paper's: ImageNet-1K top-1 after 300 epochs, one training each. Only the order within "
        "the two columns is comparable, not the values."
    )
    growth = "Growth: the factor of the parameters per step of φ after rounding." if grows else ""
    first = f"Ours: {ours} {paper}" if context.is_internimage else ours[:1].upper() + ours[1:]
    return paragraph(first, growth, mean_note(context))


def _growth(cell: CellResult, cells: Sequence[CellResult]) -> float | None:
    """Return the growth per step of phi; earlier versions did not store it, but φ = 0 gives it."""
    pair, phi = _pair(cell), int(cell.cell.requested.get("phi", 0))
    origins = (c for c in cells if _pair(c) == pair and c.cell.requested.get("phi") == 0)
    origin = next(origins, None)
    if cell.cell.growth or origin is None or not (cell.cell.cost and origin.cell.cost):
        return cell.cell.growth
    return growth_per_step(origin.cell.cost.params, cell.cell.cost.params, phi)


def _pair(cell: CellResult) -> tuple[Any, Any]:
    return cell.cell.requested["alpha"], cell.cell.requested["beta"]


def _scaled_cells(context: Context) -> list[CellResult]:
    return [c for c in context.cells if {"alpha", "beta"} <= set(c.cell.requested)]


def recipe_table(context: Context) -> Table:
    """Return the run's recipe beside the columns of Table B."""
    recipe = context.results.study.recipe
    stored = {name for one in (recipe, *TABLE_B.values()) for name in one.to_dict()}
    names = [f.name for f in fields(Recipe) if f.name in stored - {"name"}]
    columns = {"Setting": [n.replace("_", " ") for n in names]}
    for head, one in {f"this run ({recipe.name})": recipe, **TABLE_B}.items():
        columns[head] = [setting(getattr(one, n)) for n in names]
    recipes = {"this_run": recipe, **TABLE_B}
    rows = [{"setting": n} | {k: getattr(one, n) for k, one in recipes.items()} for n in names]
    note = (
        "All use AdamW, a cosine schedule and cross entropy. The paper does not state the "
        "precision, the threads or the validation split."
    )
    return Table.of(columns, rows, note=note, title="Training recipe beside Table B")


def family_table(_context: Context) -> Table:
    """Return Table 1 and the sizes of Table 2: our counts beside the printed ones."""
    rows = [
        {
            "model": f"InternImage-{name}",
            "c1": preset.config.channels[0],
            "group_channels": preset.config.channels[0] // preset.config.groups[0],
            "depths": ", ".join(map(str, preset.config.depths)),
            "params": preset.params,
            "params_paper": preset.printed_params,
            "image_size": size,
            "macs": count(preset.config, size).macs,
            "macs_paper": printed,
        }
        for name, preset in PRESETS.items()
        for size, printed in preset.printed_gmacs.items()
    ]
    columns = {
        "Model": [str(r["model"]) for r in rows],
        "C₁": [str(r["c1"]) for r in rows],
        "C′": [str(r["group_channels"]) for r in rows],
        "L₁, L₂, L₃, L₄": [str(r["depths"]) for r in rows],
        "#params, ours": [f"{r['params']:,}" for r in rows],
        "#params, paper": [str(r["params_paper"]) for r in rows],
        "Image": [f"{r['image_size']}²" for r in rows],
        "MACs, ours": [f"{int(str(r['macs'])) / 1e9:.2f} G" for r in rows],
        "#FLOPs, paper": [str(r["macs_paper"]) for r in rows],
    }
    note = (
        "1000 classes. The paper prints multiply-adds as #FLOPs. Its two figures for H contradict "
        "each other: 1478G at 640 is 181G at 224."
    )
    return Table.of(columns, rows, note=note, title="Model family, as in Table 1")


PAPER = Card(
    name="paper",
    title=lambda c: f"{c.results.study.name}: ours beside the paper, {_source(c)}",
    skip_reason=unless(
        lambda c: "paper" in c.results.study.reports and c.cells,
        "the study does not name this report, or has no cells",
    ),
    table=paper_table,
)
TABLE_C = Card(
    name="table-c",
    title=lambda c: f"Scaling factors{', as in Table C' if c.is_internimage else ''}",
    skip_reason=unless(_scaled_cells, "no cell has scaling factors"),
    table=table_c,
)
_OF_INTERNIMAGE = unless(
    lambda context: context.is_internimage, "the run has networks of another family than the paper"
)
RECIPE = Card(
    name="recipe",
    title="The recipe beside Table B",
    skip_reason=_OF_INTERNIMAGE,
    table=recipe_table,
    section="appendix",
)
FAMILY = Card(
    name="family",
    title="The model family, as in Table 1",
    skip_reason=_OF_INTERNIMAGE,
    table=family_table,
    section="appendix",
)
