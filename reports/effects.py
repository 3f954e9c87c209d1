"""The effect of one number of the space: steps of C1, C' or L1 at equal budget.

A grid is crossed: it holds a step such as C1 16 -> 20 at several values of the other numbers, each
with several seeds. The effect of a seed on both cells of a pair cancels in their difference, and
the pairs of a step share no cell, so every seed of every pair is a repeat (with the noise model of
`archsearch.stats.ranking`). This gives a more precise estimate than the difference of two cells.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from archsearch.core.metrics import Metric
from archsearch.reports.card import Card, unless
from archsearch.reports.columns import interval_fields
from archsearch.reports.context import Context
from archsearch.reports.formats import Table
from archsearch.reports.phrases import paragraph, plural, plus_minus
from archsearch.results import LEVEL, CellResult
from archsearch.stats.intervals import Interval, mean_of_means


@dataclass(frozen=True)
class Effect:
    """The change of a metric from ``low`` to ``high`` of one coordinate.

    ``pairs`` is the number of pairs of cells that differ in no other requested coordinate. The
    ``n`` of ``change`` counts pairs times seeds.
    """

    coordinate: str
    low: Any
    high: Any
    pairs: int
    change: Interval


def effects(context: Context) -> list[Effect]:
    """Return every step between neighboring values of the coordinates of the study's heatmap.

    It uses exact cells only, in pairs that share at least two seeds. Empty without axes and for
    counts.
    """
    metric, axes = context.metric, context.results.study.axes
    if axes is None or metric.known_before_training:
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
    """Return the change on every seed that both cells of a pair have."""
    both = ((low[seed], high[seed]) for seed in low if seed in high)
    return [b - a for a, b in both if a is not None and b is not None]


def effects_table(context: Context) -> Table:
    """Return a row per step with its interval."""
    steps, metric = effects(context), context.metric
    unit = "points" if metric.unit == "%" else metric.unit
    label = metric.label.lower() + (f" ({unit})" if unit else "")
    columns = {
        "Step": [f"{context.symbol(e.coordinate)} {e.low} → {e.high}" for e in steps],
        f"Change of {label}": [
            f"{e.change.mean:+.2f}{plus_minus(metric, e.change, 2)}" for e in steps
        ],
        "Pairs of cells": [str(e.pairs) for e in steps],
        "Repeats": [str(e.change.n) for e in steps],
        "Effect": [_effect_text(e.change, metric) for e in steps],
    }
    note = (
        f"Pairs of cells that differ only in this number (and in {context.solved}, which is solved "
        "for the budget), compared seed by seed: the mean change and its 95% interval (Student, "
        "with a separate noise variance per pair). The level of 95% is per step: of twenty steps "
        "without an effect, about one appears significant."
    )
    rows = [
        {"coordinate": e.coordinate, "low": e.low, "high": e.high, "pairs": e.pairs}
        | {"repeats": e.change.n, **interval_fields("change", e.change)}
        for e in steps
    ]
    return Table.of(columns, rows, note=paragraph(note, _left_out_note(context)))


def _left_out_note(context: Context) -> str:
    """Return how many cells with a result are in no pair because a repair changed them."""
    cells = context.cells
    repaired = sum(c.cell.fate == "repaired" and context.comparison.has_value(c) for c in cells)
    return f"Left out: {plural(repaired, 'repaired cell')}." if repaired else ""


def _effect_text(change: Interval, metric: Metric) -> str:
    """Return ``better`` or ``worse``; ``not significant`` if zero is in the interval."""
    if 0.0 in change:
        return "not significant"
    return "better" if metric.merit(change.mean) > 0 else "worse"


EFFECTS = Card(
    name="effects",
    title="Effect of each number",
    skip_reason=unless(effects, "no two cells with two common seeds differ in one number only"),
    table=effects_table,
)
