"""What one number of the space does by itself: steps of C1, C' or L1 at equal budget.

A grid is crossed: a step such as C1 16 -> 20 is taken at several places of the other numbers, and
on several seeds. Its effect is the mean over the places, once per seed; the seeds are the repeats.
This says more than the ranking of single cells can, because every seed of every pair counts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

from archsearch.metrics import Metric
from archsearch.results import LEVEL, CellResult, Results
from archsearch.statistics.stats import Interval, interval
from reports.formats import Table, table
from reports.style import symbol


@dataclass(frozen=True)
class Effect:
    """The change of a metric from ``low`` to ``high`` of one coordinate, over ``places`` pairs of
    cells that differ in nothing else that was asked for."""

    coordinate: str
    low: Any
    high: Any
    places: int
    change: Interval


def effects(results: Results, metric: str | None = None) -> list[Effect]:
    """Every step between neighbouring values of the map's coordinates.

    Only cells that are exactly as asked for take part, and seeds on which all cells of the step
    have a value. Empty without axes, for counts, and with fewer than two such seeds.
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
        pairs = [(line[low], line[high]) for line in lines.values() if {low, high} <= set(line)]
        changes = _by_seed(pairs)
        if len(changes) > 1:
            yield Effect(axis, low, high, len(pairs), interval(changes, LEVEL))


def _by_seed(
    pairs: list[tuple[Mapping[int, float | None], Mapping[int, float | None]]],
) -> list[float]:
    """The mean change over the pairs, on every seed that all of them have."""
    rows = [values for pair in pairs for values in pair]
    seeds = [s for s in (rows[0] if rows else ()) if all(r.get(s) is not None for r in rows)]
    return [fmean((b[s] or 0.0) - (a[s] or 0.0) for a, b in pairs) for s in seeds]


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
        "Seeds": [str(e.change.n) for e in found],
        "Seen": [_seen(e.change, by) for e in found],
    }
    rows = [
        {"coordinate": e.coordinate, "low": e.low, "high": e.high, "pairs": e.places}
        | {"seeds": e.change.n, "change": round(e.change.mean, 6)}
        | {"change_low": _six(e.change.low), "change_high": _six(e.change.high)}
        for e in found
    ]
    note = (
        "Pairs of cells that differ in this number only (and in the L₃ that the budget then asks "
        "for); the mean over pairs, once per seed, with Student's 95% interval over seeds. Each "
        "step has its own 95%: of twenty steps without effect, one would seem to have one."
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


def _six(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
