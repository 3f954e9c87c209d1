"""The tables of a report: the run's own, and the paper's with our figures in columns apart."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from archsearch.core.metrics import METRICS, Metric, rounded
from archsearch.core.recipe import TABLE_B, Recipe
from archsearch.families.internimage import FreeVariant
from archsearch.families.internimage_cost import count
from archsearch.reports.cell_order import NOT_MEASURED, in_ranking, ranked_cells, shown, standing
from archsearch.reports.effects import effects_table
from archsearch.reports.formats import Table, table, write
from archsearch.reports.gradients import gradient_table
from archsearch.reports.paper import paper_table
from archsearch.reports.phrases import compared_words, estimate_text, seeds_words
from archsearch.reports.scaling_law import law_table
from archsearch.reports.style import symbol
from archsearch.results import CellResult, Comparison, Results
from archsearch.stats.intervals import pareto
from internimage.config import PRESETS

MISSING = "–"


def results_table(results: Results, metric: str | None = None) -> Table:
    """Every cell of the plan, best first; those without a value at the end, with the reason."""
    compared = results.compare(metric)
    order = ranked_cells(results, compared)
    columns = _identity(results, order)
    columns |= {
        "Params (M)": [METRICS["params"].text(c.counted(METRICS["params"])) for c in order],
        "MACs (G)": [METRICS["macs"].text(c.counted(METRICS["macs"])) for c in order],
        compared.metric.axis: [estimate_text(c, compared) for c in order],
        "Seeds": [str(n) if (n := _num_values(c, compared.metric)) else MISSING for c in order],
        "Standing": [standing(c, compared) for c in order],
        "Remarks": [remarks(c, compared) for c in order],
    }
    note = f"{compared.metric.label}: {seeds_words(results, compared)}."
    note = " ".join(filter(None, (note, compared_words(results, compared))))
    marks = [_mark(c, compared) for c in order]
    means = compared.ranking.means
    rows = [
        row | {"ranking_mean": rounded(means.get(cell.label)), "standing": standing(cell, compared)}
        for row, cell in zip(results.rows(), results.cells, strict=True)
    ]
    return table("results", _title(results), columns, rows, marks, note)


def _identity(results: Results, order: list[CellResult]) -> dict[str, list[str]]:
    """The columns that say which cell it is: as asked for, and by name where that is not enough."""
    asked = list(dict.fromkeys(name for c in results.cells for name in c.cell.asked))
    free = any(isinstance(c.cell.variant, FreeVariant) for c in results.cells)
    columns = {"Network": [c.label for c in order]} if free or not asked else {}
    columns |= {symbol(a): [str(c.cell.asked.get(a, MISSING)) for c in order] for a in asked}
    if "l3" not in asked and not free:
        columns["L₃"] = [str(getattr(c.cell.variant, "l3", MISSING)) for c in order]
    return columns


def _title(results: Results) -> str:
    budget = f" at {results.study.budget}" if results.study.budget else ""
    return f"{results.study.name}{budget}: {len(results.cells)} cells"


def _num_values(cell: CellResult, by: Metric) -> int:
    return sum(v is not None for v in cell.values(by).values())


def remarks(cell: CellResult, compared: Comparison) -> str:
    """State and fate, each with its reason; empty for a cell that simply worked."""
    told = [] if cell.told in ("complete", "infeasible") else [cell.told]
    if cell.state == "complete" and compared.estimates[cell.index] is None:
        told.append(NOT_MEASURED)
    if cell.cell.fate != "exact":
        told.append(f"{cell.cell.fate}: {cell.cell.reason}" if cell.cell.reason else cell.cell.fate)
    return "; ".join(told)


def _mark(cell: CellResult, compared: Comparison) -> str:
    if compared.estimates[cell.index] is None:
        return "missing"
    return {"best": "best", "tied with best": "tied"}.get(standing(cell, compared), "")


def pareto_cells(results: Results, metric: str | None, cost: Metric) -> list[CellResult]:
    """Ranked networks that no other beats in both the mean shown and the cost (counted, or the
    mean of what was measured), best first."""
    compared = results.compare(metric)
    networks = {c.label: results.network(c.label) for c in results.cells}
    points = {
        label: (estimate.mean, size.mean)
        for label, cell in networks.items()
        if in_ranking(cell, compared)
        and (estimate := shown(cell, compared))
        and (size := cell.estimate(cost))
    }
    better = (compared.metric.higher_is_better, cost.higher_is_better)
    front = pareto(points, better) if points else ()
    return [networks[label] for label in front]


def pareto_table(results: Results, metric: str | None = None) -> Table:
    """The fronts against parameters, multiply-adds and whatever else a search was to weigh."""
    compared = results.compare(metric)
    costs = (METRICS["params"], METRICS["macs"], *_other_objectives(results, compared))
    pairs = [(cost, cell) for cost in costs for cell in pareto_cells(results, metric, cost)]
    columns = {
        "Front against": [cost.label.lower() for cost, _ in pairs],
        "Network": [c.label for _, c in pairs],
        "Params (M)": [costs[0].text(c.counted(costs[0])) for _, c in pairs],
        "MACs (G)": [costs[1].text(c.counted(costs[1])) for _, c in pairs],
        compared.metric.axis: [estimate_text(c, compared) for _, c in pairs],
    }
    columns |= {
        by.axis: [by.text(e.mean) if (e := c.estimate(by)) else MISSING for _, c in pairs]
        for by in costs[2:]
    }
    rows = [{"front": cost.name, **_row_of(results, c)} for cost, c in pairs]
    note = (
        "Fronts are of the means shown; a network outside the ranking is on none. A network may be "
        "on one by the luck of its seeds: the intervals say how far to trust a step."
    )
    return table("pareto", "Trade-off between size and result", columns, rows, note=note)


def _other_objectives(results: Results, compared: Comparison) -> list[Metric]:
    known = {"params", "macs", compared.metric.name}
    asked = results.study.plan.get("objectives", ())
    return [METRICS[name] for name in asked if name not in known]


def _row_of(results: Results, cell: CellResult) -> dict[str, Any]:
    return results.rows()[cell.index]


def table_c(results: Results, metric: str | None = None) -> Table | None:
    """Scaling factors as the paper's Table C; None for a run that has none."""
    cells = [c for c in results.cells if {"alpha", "beta"} <= set(c.cell.asked)]
    if not cells:
        return None
    compared = results.compare(metric)
    columns = {
        "α": [f"{c.cell.asked['alpha']:.2f}" for c in cells],
        "β": [f"{c.cell.asked['beta']:.2f}" for c in cells],
        "φ": [f"{c.cell.asked.get('phi', MISSING)}" for c in cells],
        "Network": [c.label for c in cells],
        "#parameters, ours": [_millions(c) for c in cells],
        "#parameters, paper": [str(c.cell.paper.get("params", MISSING)) for c in cells],
        f"{compared.metric.axis}, ours": [estimate_text(c, compared) for c in cells],
        "top-1 (%), paper": [str(c.cell.paper.get("accuracy", MISSING)) for c in cells],
        "Standing": [standing(c, compared) for c in cells],
    }
    rows = [_row_of(results, c) | {f"paper_{k}": v for k, v in c.cell.paper.items()} for c in cells]
    note = (
        f"Ours: {compared.metric.label.lower()} on {results.data.name}, recipe "
        f"{results.study.recipe.name}. The paper's: ImageNet-1K top-1 after 300 epochs, one "
        "training each; the two columns are not comparable, only their order is."
    )
    note = " ".join(filter(None, (note, compared_words(results, compared))))
    marks = [_mark(c, compared) for c in cells]
    return table("table-c", "Scaling factors, as Table C", columns, rows, marks, note)


def _millions(cell: CellResult) -> str:
    return f"{cell.cell.cost.params / 1e6:.1f}M" if cell.cell.cost else MISSING


def family_table() -> Table:
    """Table 1 and the sizes of Table 2: our counts beside the printed ones."""
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
        "1000 classes. The paper prints multiply-adds as #FLOPs. Its two figures for H do not "
        "agree with each other: 1478G at 640 is 181G at 224."
    )
    return table("family", "Model family, as Table 1", columns, rows, note=note)


def recipe_table(recipe: Recipe) -> Table:
    """This run's recipe beside the columns of Table B."""
    names = [f.name for f in fields(Recipe) if f.name != "name"]
    columns = {
        "Setting": [n.replace("_", " ") for n in names],
        f"this run ({recipe.name})": [setting(getattr(recipe, n)) for n in names],
    }
    for column, theirs in TABLE_B.items():
        columns[column] = [setting(getattr(theirs, n)) for n in names]
    rows: list[dict[str, Any]] = [
        {"setting": n, "this_run": getattr(recipe, n)}
        | {column: getattr(theirs, n) for column, theirs in TABLE_B.items()}
        for n in names
    ]
    note = (
        "AdamW, cosine schedule and cross entropy throughout. Precision, threads and the "
        "validation split are not in the paper."
    )
    return table("recipe", "Training recipe beside Table B", columns, rows, note=note)


def others_table(results: Results) -> Table:
    """Trainings in the run's folder with another recipe or data: cheaper rungs of a halving."""
    by = METRICS["val_accuracy"]
    columns = {
        "Network": [t.trial.variant.name for t in results.others],
        "Recipe": [t.trial.recipe.name for t in results.others],
        "Epochs": [f"{t.trial.recipe.epochs}" for t in results.others],
        "Image": [f"{t.trial.recipe.image_size}²" for t in results.others],
        "Seed": [str(t.trial.seed) for t in results.others],
        "State": [str(t.state) for t in results.others],
        by.axis: [by.text(t.value(by)) for t in results.others],
    }
    rows = results.seed_rows()[len(results.trials) :]
    return table("others", "Trainings with another recipe or data", columns, rows)


def setting(value: Any) -> str:
    """A setting as one reads it: yes, none, 0.001."""
    if value is None or value is False:
        return "no" if value is False else MISSING
    return "yes" if value is True else f"{value:g}" if isinstance(value, float) else str(value)


def all_tables(results: Results, metric: str | None = None) -> list[Table]:
    """Every table that this run can fill."""
    found = [
        paper_table(results, metric),
        gradient_table(results),
        table_c(results, metric),
        law_table([results]),
        effects_table(results, metric),
        results_table(results, metric),
        pareto_table(results, metric),
        others_table(results),
        recipe_table(results.study.recipe),
        family_table(),
    ]
    return [t for t in found if t is not None and t.body]


def render(results: Results, out_dir: Path, metric: str | None = None) -> list[Path]:
    """Write every table in every format into ``out_dir``."""
    return [path for content in all_tables(results, metric) for path in write(content, out_dir)]
