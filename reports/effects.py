"""What one number of the space does by itself: steps of C1, C' or L1 at equal budget.

A grid is crossed: a step such as C1 16 -> 20 is taken at several positions of the other numbers,
and at each on several seeds. What a seed does to both cells of a pair cancels in their difference,
and a step's pairs share no cell, so every seed of every pair is a repeat (the noise model is that
of `archsearch.stats.ranking`). This says more of a number than any two single cells can.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from archsearch.core.metrics import Metric
from archsearch.reports.card import Card, needs
from archsearch.reports.columns import interval_fields
from archsearch.reports.context import Context
from archsearch.reports.formats import Table
from archsearch.results import LEVEL, CellResult
from archsearch.stats.intervals import Interval, mean_of_means


@dataclass(frozen=True)
class Effect:
    """The change of a metric from ``low`` to ``high`` of one coordinate, over ``pairs`` of cells
    that differ in nothing else that was asked for; its ``n`` counts pairs times seeds."""

    coordinate: str
    low: Any
    high: Any
    pairs: int
    change: Interval


def effects(context: Context) -> list[Effect]:
    """Every step between neighboring values of the coordinates of the study's map.

    Only cells that are exactly as asked for take part, in pairs that share two seeds or more.
    Empty without axes and for counts.
    """
    metric, axes = context.metric, context.results.study.axes
    if axes is None or metric.counted:
        return []
    cells = [c for c in context.cells if c.cell.fate == "exact" and c.values(metric)]
    return [effect for axis in axes for effect in _steps(cells, axis, metric)]


def _steps(cells: list[CellResult], axis: str, metric: Metric) -> Iterator[Effect]:
    lines: dict[tuple[Any, ...], dict[Any, Mapping[int, float | None]]] = {}
    for cell in cells:
        others = tuple(v for k, v in cell.cell.requested.items() if k != axis)
        lines.setdefault(others, {})[cell.cell.requested[axis]] = cell.values(metric)
    levels = sorted({level for line in lines.values() for level in line})
    for low, high in pairwise(levels):
        pairs = [_changes(ln[low], ln[high]) for ln in lines.values() if {low, high} <= set(ln)]
        repeated = [changes for changes in pairs if len(changes) > 1]
        if repeated:
            yield Effect(axis, low, high, len(repeated), mean_of_means(repeated, LEVEL))


def _changes(low: Mapping[int, float | None], high: Mapping[int, float | None]) -> list[float]:
    """The change on every seed that both cells of a pair have."""
    both = ((low[seed], high[seed]) for seed in low if seed in high)
    return [b - a for a, b in both if a is not None and b is not None]


def effects_table(context: Context) -> Table:
    """The steps with their intervals."""
    steps, metric = effects(context), context.metric
    unit = "points" if metric.unit == "%" else metric.unit
    label = metric.label.lower() + (f" ({unit})" if unit else "")
    columns = {
        "Step": [f"{context.symbol(e.coordinate)} {e.low} → {e.high}" for e in steps],
        f"Change of {label}": [_change_text(e.change, metric) for e in steps],
        "Pairs of cells": [str(e.pairs) for e in steps],
        "Repeats": [str(e.change.n) for e in steps],
        "Seen": [_verdict(e.change, metric) for e in steps],
    }
    note = (
        f"Pairs of cells that differ in this number only (and in the {context.solved} that the "
        "budget then asks for), seed by seed: the mean change and its 95% interval (Student, each "
        "pair with noise of its own). Each step has its own 95%: of twenty without effect, one "
        "would seem to have one."
    )
    rows = [
        {"coordinate": e.coordinate, "low": e.low, "high": e.high, "pairs": e.pairs}
        | {"repeats": e.change.n, **interval_fields("change", e.change)}
        for e in steps
    ]
    return Table.of(columns, rows, note=note)


def _change_text(change: Interval, metric: Metric) -> str:
    half = "" if change.half_width is None else f" ± {metric.text(change.half_width, 2)}"
    return f"{change.mean:+.2f}{half}"


def _verdict(change: Interval, metric: Metric) -> str:
    """``better``, ``worse``, or that zero lies inside the interval."""
    if 0.0 in change:
        return "cannot be told"
    return "better" if metric.merit(change.mean) > 0 else "worse"


EFFECTS = Card(
    name="effects",
    title="What each number does",
    applies=needs(effects, "no two cells differ in one number alone on two seeds"),
    table=effects_table,
)
