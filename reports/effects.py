"""What one number of the space does by itself: steps of C1, C' or L1 at equal budget.

A grid is crossed: a step such as C1 16 -> 20 is taken at several places of the other numbers, and
at each on several seeds. What a seed does to both cells of a pair cancels in their difference, and
a step's pairs share no cell, so every seed of every pair is a repeat (the noise model is that of
`archsearch.stats.ranking`). This says more of a number than any two single cells can.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from archsearch.core.metrics import Metric, rounded
from archsearch.reports.formats import Table, table
from archsearch.reports.style import symbol
from archsearch.results import LEVEL, CellResult, Results
from archsearch.stats.intervals import Interval, mean_of_means


@dataclass(frozen=True)
class Effect:
    """The change of a metric from ``low`` to ``high`` of one coordinate, over ``places`` pairs of
    cells that differ in nothing else that was asked for; its ``n`` counts pairs times seeds."""

    coordinate: str
    low: Any
    high: Any
    places: int
    change: Interval


def effects(results: Results, metric: str | None = None) -> list[Effect]:
    """Every step between neighbouring values of the map's coordinates.

    Only cells that are exactly as asked for take part, in pairs that share two seeds or more.
    Empty without axes and for counts.
    """
    by = results.compare(metric).metric
    if results.study.axes is None or by.counted:
        return []
    cells = [c for c in results.cells if c.cell.fate == "exact" and c.values(by)]
    return [found for axis in results.study.axes for found in _steps(cells, axis, by)]


def _steps(cells: list[CellResult], axis: str, by: Metric) -> Iterator[Effect]:
    lines: dict[tuple[Any, ...], dict[Any, Mapping[int, float | None]]] = {}
    for cell in cells:
        elsewhere = tuple(v for k, v in cell.cell.asked.items() if k != axis)
        lines.setdefault(elsewhere, {})[cell.cell.asked[axis]] = cell.values(by)
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


def effects_table(results: Results, metric: str | None = None) -> Table | None:
    """The steps with their intervals; None where there is none."""
    found, by = effects(results, metric), results.compare(metric).metric
    if not found:
        return None
    unit = "points" if by.unit == "%" else by.unit
    columns = {
        "Step": [f"{symbol(e.coordinate)} {e.low} → {e.high}" for e in found],
        f"Change of {by.label.lower()}" + (f" ({unit})" if unit else ""): [
            _change(e.change, by) for e in found
        ],
        "Pairs of cells": [str(e.places) for e in found],
        "Repeats": [str(e.change.n) for e in found],
        "Seen": [_seen(e.change, by) for e in found],
    }
    rows = [
        {"coordinate": e.coordinate, "low": e.low, "high": e.high, "pairs": e.places}
        | {"repeats": e.change.n, "change": rounded(e.change.mean)}
        | {"change_low": rounded(e.change.low), "change_high": rounded(e.change.high)}
        for e in found
    ]
    note = (
        "Pairs of cells that differ in this number only (and in the L₃ that the budget then asks "
        "for), seed by seed: the mean change and its 95% interval (Student, each pair with noise "
        "of its own). Each step has its own 95%: of twenty without effect, one would seem to have "
        "one."
    )
    return table("effects", "What each number does", columns, rows, note=note)


def _change(found: Interval, by: Metric) -> str:
    half = "" if found.half_width is None else f" ± {by.text(found.half_width, 2)}"
    return f"{found.mean:+.2f}{half}"


def _seen(found: Interval, by: Metric) -> str:
    """``better``, ``worse``, or that zero lies inside the interval."""
    if 0.0 in found:
        return "cannot be told"
    return "better" if by.merit(found.mean) > 0 else "worse"
