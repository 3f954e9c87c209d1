"""Several runs side by side: who won in each, and the networks that stand in more than one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from archsearch.core.metrics import METRICS, rounded
from archsearch.reports.cell_order import shown
from archsearch.reports.comparable_runs import differences, named
from archsearch.reports.data_scale import data_scale_tables
from archsearch.reports.formats import Table, table
from archsearch.reports.phrases import estimate_text, listed, with_interval
from archsearch.reports.scaling_law import law_table
from archsearch.results import CellResult, Results


def across(results: Sequence[Results], metric: str | None = None) -> list[Table]:
    """The tables that compare runs; none for a single run."""
    if len(results) < 2:
        return []
    found = [winners(results, metric), law_table(results), shared_networks(results, metric)]
    scale = data_scale_tables(results, metric)
    return [*scale, *(t for t in found if t is not None and t.body)]


def winners(results: Sequence[Results], metric: str | None = None) -> Table:
    """One row a run: who won, how sure, at what cost."""
    rows = [_winner(name, r, metric) for name, r in named(results).items()]
    columns = {
        "Run": [str(r["run"]) for r in rows],
        "Best": [str(r["best"] or "–") for r in rows],
        "Result": [str(r["shown"]) for r in rows],
        "Cannot be told from it": [
            "not ranked" if r["tied"] is None else str(r["tied"] - 1) for r in rows
        ],
        "Params (M)": [METRICS["params"].text(r["params_m"]) for r in rows],
        "MACs (G)": [METRICS["macs"].text(r["macs_g"]) for r in rows],
        "Data": [str(r["data"]) for r in rows],
        "Recipe": [str(r["recipe"]) for r in rows],
        "Epochs": [str(r["epochs"]) for r in rows],
        "Seeds": [str(r["seeds"]) for r in rows],
    }
    return table("runs", "Runs side by side", columns, rows, note=_unlike(results, metric))


def _winner(name: str, results: Results, metric: str | None) -> dict[str, Any]:
    compared = results.compare(metric)
    ranking = compared.ranking
    best = results.network(ranking.best) if ranking.best else None
    estimate = shown(best, compared) if best else None
    return {
        "run": name,
        "metric": compared.metric.name,
        "best": ranking.best,
        "shown": with_interval(compared.metric, estimate, compared.digits),
        "tied": len(ranking.tied) if ranking.can_rank else None,
        "params_m": best.counted(METRICS["params"]) if best else None,
        "macs_g": best.counted(METRICS["macs"]) if best else None,
        "data": results.data.name,
        "recipe": results.study.recipe.name,
        "epochs": results.study.recipe.epochs,
        "seeds": results.num_seeds,
    }


def _unlike(results: Sequence[Results], metric: str | None) -> str:
    """Why results of different runs must not be set against each other, if they must not."""
    data = {r.data.fingerprint for r in results}
    recipes = {replace(r.study.recipe, name="") for r in results}
    measures = {r.compare(metric).metric for r in results}
    kinds = (("data", data), ("recipe", recipes), ("metric", measures))
    unlike = [name for name, values in kinds if len(values) > 1]
    if not unlike:
        return "Same data, recipe and metric: results of different runs compare."
    told = f"The runs differ in {' and '.join(unlike)}: their results do not compare."
    how = differences(results)
    return f"{told} They have {listed(how)}." if how else told


def shared_networks(results: Sequence[Results], metric: str | None = None) -> Table:
    """The networks that more than one run has a value for, a column a run."""
    found: dict[Any, dict[int, CellResult]] = {}
    for i, run in enumerate(results):
        compared = run.compare(metric)
        for cell in run.cells:
            if compared.estimates[cell.index] is not None:
                found.setdefault(cell.cell.variant, {}).setdefault(i, cell)
    shared = [cells for cells in found.values() if len(cells) > 1]
    columns = {"Network": [next(iter(cells.values())).label for cells in shared]}
    for i, run in enumerate(results):
        compared = run.compare(metric)
        name = f"{run.name}: {compared.metric.axis}"
        title = name if name not in columns else f"{i + 1}. {name}"
        columns[title] = [
            estimate_text(cells[i], compared) if i in cells else "–" for cells in shared
        ]
    rows: list[dict[str, Any]] = [
        {"network": next(iter(cells.values())).label}
        | {
            f"{i + 1}_{results[i].name}": _mean(cell, results[i], metric)
            for i, cell in cells.items()
        }
        for cells in shared
    ]
    return table("shared", "Networks in more than one run", columns, rows)


def _mean(cell: CellResult, results: Results, metric: str | None) -> float | None:
    estimate = shown(cell, results.compare(metric))
    return None if estimate is None else rounded(estimate.mean)
