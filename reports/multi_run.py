"""Several runs side by side: the best network of each, and the networks that runs share."""

from dataclasses import replace
from typing import Any

from archsearch.core.metrics import GENERAL, rounded
from archsearch.reports.card import CrossCard, table_content
from archsearch.reports.cell_order import reported_interval
from archsearch.reports.columns import result_text, result_with_unit
from archsearch.reports.comparable_runs import differences, runs_by_name
from archsearch.reports.context import Context, Contexts
from archsearch.reports.formats import MISSING, Table
from archsearch.reports.phrases import listed
from archsearch.results import CellResult


def winners_table(contexts: Contexts) -> Table:
    """Return a row per run: its best network, how many are tied with it, and its cost."""
    rows = [_winner(name, context) for name, context in runs_by_name(contexts).items()]
    columns = {
        "Run": [r["run"] for r in rows],
        "Best": [r["best"] or MISSING for r in rows],
        "Result": [r["result"] for r in rows],
        "Tied with it": ["not ranked" if r["tied"] is None else str(r["tied"] - 1) for r in rows],
        "Params (M)": [GENERAL["params"].text(r["params_m"]) for r in rows],
        "MACs (G)": [GENERAL["macs"].text(r["macs_g"]) for r in rows],
    }
    for key in ("data", "recipe", "epochs", "seeds"):
        columns[key.capitalize()] = [str(r[key]) for r in rows]
    return Table.of(columns, rows, note=_comparability_note(contexts))


def _winner(name: str, context: Context) -> dict[str, Any]:
    results, ranking = context.results, context.ranking
    best = results.network(ranking.best) if ranking.best else None
    return {
        "run": name,
        "metric": context.metric.name,
        "best": ranking.best,
        "result": result_with_unit(best, context.comparison),
        "tied": len(ranking.tied) if ranking.can_rank else None,
        "params_m": best.cost_value(GENERAL["params"]) if best else None,
        "macs_g": best.cost_value(GENERAL["macs"]) if best else None,
        "data": results.data.name,
        "recipe": results.study.recipe.name,
        "epochs": results.study.recipe.epochs,
        "seeds": results.num_seeds,
    }


def _comparability_note(contexts: Contexts) -> str:
    """Return whether results of different runs are comparable, and if not, why."""
    values: dict[str, set[Any]] = {
        "data": {c.results.data.fingerprint for c in contexts},
        "recipe": {replace(c.results.study.recipe, name="") for c in contexts},
        "metric": {c.metric for c in contexts},
    }
    different = " and ".join(name for name, several in values.items() if len(several) > 1)
    if not different:
        return "Same data, recipe and metric: results of different runs are comparable."
    details = listed(differences(contexts))
    note = f"The runs differ in {different}: their results are not comparable."
    return f"{note} Differences: {details}." if details else note


def _shared_networks(contexts: Contexts) -> list[dict[int, CellResult]]:
    """Return a mapping run index -> cell for each network that several runs have a value for."""
    networks: dict[Any, dict[int, CellResult]] = {}
    for i, context in enumerate(contexts):
        for cell in context.cells:
            if context.comparison.has_value(cell):
                networks.setdefault(cell.cell.variant, {}).setdefault(i, cell)
    return [cells for cells in networks.values() if len(cells) > 1]


def shared_table(contexts: Contexts) -> Table:
    """Return a row per network that several runs have, with a column per run."""
    shared = _shared_networks(contexts)
    labels = [next(iter(cells.values())).label for cells in shared]
    columns = {"Network": labels}
    for i, context in enumerate(contexts):
        head = f"{context.results.name}: {context.metric.axis}"
        columns[head if head not in columns else f"{i + 1}. {head}"] = [
            result_text(cells[i], context.comparison) if i in cells else MISSING for cells in shared
        ]
    rows = [
        {"network": label}
        | {f"{i + 1}_{contexts[i].results.name}": _mean(c, contexts[i]) for i, c in cells.items()}
        for label, cells in zip(labels, shared, strict=True)
    ]
    return Table.of(columns, rows)


def _mean(cell: CellResult, context: Context) -> float | None:
    interval = reported_interval(cell, context.comparison)
    return None if interval is None else rounded(interval.mean)


RUNS = CrossCard(
    name="runs",
    contents=lambda runs: table_content("runs", "Runs side by side", winners_table(runs)),
)
SHARED_NETWORKS = CrossCard(
    name="shared",
    contents=lambda runs: table_content("shared", "Networks in several runs", shared_table(runs)),
)
