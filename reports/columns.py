"""Columns and row fields that several tables share."""

from collections.abc import Sequence
from typing import Any

from archsearch.core.metrics import GENERAL, rounded
from archsearch.reports.cell_order import rank_label, reported_interval
from archsearch.reports.context import Context
from archsearch.reports.formats import MISSING
from archsearch.reports.phrases import interval_text, interval_with_unit
from archsearch.results import CellResult, Comparison
from archsearch.stats.intervals import Interval


def requested_columns(context: Context, cells: Sequence[CellResult]) -> dict[str, list[str]]:
    """Return the coordinates of ``cells`` as the plan requests them."""
    names = dict.fromkeys(name for c in context.cells for name in c.cell.requested)
    return {
        context.symbol(n): [str(c.cell.requested.get(n, MISSING)) for c in cells] for n in names
    }


def size_columns(cells: Sequence[CellResult]) -> dict[str, list[str]]:
    """Return parameters and multiply-adds of ``cells``."""
    metrics = {"Params (M)": GENERAL["params"], "MACs (G)": GENERAL["macs"]}
    return {head: [m.text(c.cost_value(m)) for c in cells] for head, m in metrics.items()}


def result_text(cell: CellResult, comparison: Comparison) -> str:
    """Return ``97.4 ± 0.3``, without unit; a dash without a value."""
    interval = reported_interval(cell, comparison)
    return interval_text(comparison.metric, interval, comparison.digits)


def result_with_unit(cell: CellResult | None, comparison: Comparison) -> str:
    """Return ``97.4 ± 0.3%``; a dash without a value."""
    interval = None if cell is None else reported_interval(cell, comparison)
    return interval_with_unit(comparison.metric, interval, comparison.digits)


def paper_text(cell: CellResult, name: str) -> str:
    """Return what the paper prints for the cell; a dash if it prints nothing."""
    return str(cell.cell.paper.get(name, MISSING))


def paper_fields(cell: CellResult) -> dict[str, Any]:
    """Return everything that the paper prints for the cell, for the row of a table."""
    return {f"paper_{name}": value for name, value in cell.cell.paper.items()}


def interval_fields(name: str, interval: Interval | None) -> dict[str, float | None]:
    """Return mean, low and high of an interval, for the row of a table."""
    ends = {name: "mean", f"{name}_low": "low", f"{name}_high": "high"}
    return {key: rounded(getattr(interval, end, None)) for key, end in ends.items()}


def row_mark(cell: CellResult, comparison: Comparison) -> str:
    """Return the class of the cell's row: best, tied, missing or none."""
    if not comparison.has_value(cell):
        return "missing"
    return {"best": "best", "tied with best": "tied"}.get(rank_label(cell, comparison), "")
