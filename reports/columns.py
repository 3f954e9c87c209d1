"""Columns and fields that several tables have."""

from collections.abc import Sequence
from typing import Any

from archsearch.core.metrics import GENERAL, rounded
from archsearch.reports.cell_order import rank_label, reported_interval
from archsearch.reports.context import Context
from archsearch.reports.formats import MISSING
from archsearch.reports.phrases import interval_with_unit
from archsearch.results import CellResult, Comparison
from archsearch.stats.intervals import Interval


def asked_columns(context: Context, cells: Sequence[CellResult]) -> dict[str, list[str]]:
    """The coordinates of ``cells`` as the plan asked for them."""
    names = dict.fromkeys(name for c in context.cells for name in c.cell.requested)
    return {
        context.symbol(n): [str(c.cell.requested.get(n, MISSING)) for c in cells] for n in names
    }


def size_columns(cells: Sequence[CellResult]) -> dict[str, list[str]]:
    """Parameters and multiply-adds."""
    metrics = {"Params (M)": GENERAL["params"], "MACs (G)": GENERAL["macs"]}
    return {head: [by.text(c.counted(by)) for c in cells] for head, by in metrics.items()}


def result_text(cell: CellResult, comparison: Comparison) -> str:
    """97.4 ± 0.3, without unit; a dash where there is nothing."""
    interval, metric = reported_interval(cell, comparison), comparison.metric
    if interval is None:
        return MISSING
    half = interval.half_width
    spread = "" if half is None else f" ± {metric.text(half, comparison.digits)}"
    return metric.text(interval.mean, comparison.digits) + spread


def result_with_unit(cell: CellResult | None, comparison: Comparison) -> str:
    """97.4 ± 0.3%; a dash where there is nothing."""
    interval = None if cell is None else reported_interval(cell, comparison)
    return interval_with_unit(comparison.metric, interval, comparison.digits)


def paper_text(cell: CellResult, name: str) -> str:
    """What the paper prints for the cell."""
    return str(cell.cell.paper.get(name, MISSING))


def paper_fields(cell: CellResult) -> dict[str, Any]:
    """All that the paper prints for the cell, for the row of a table."""
    return {f"paper_{name}": value for name, value in cell.cell.paper.items()}


def interval_fields(name: str, interval: Interval | None) -> dict[str, float | None]:
    """Mean and ends for the row of a table."""
    ends = {name: "mean", f"{name}_low": "low", f"{name}_high": "high"}
    return {key: rounded(getattr(interval, end, None)) for key, end in ends.items()}


def row_mark(cell: CellResult, comparison: Comparison) -> str:
    """The class of the cell's row: best, tied or missing."""
    if comparison.estimates[cell.index] is None:
        return "missing"
    label = rank_label(cell, comparison)
    return {"best": "best", "tied with best": "tied"}.get(label, "")
