"""Single steps of C1, C' or L1 at equal budget, by the additive model and by matched pairs.

The model uses all cells (`archsearch.reports.main_effects`). A grid is also crossed: it holds a
step such as C1 16 -> 20 at several values of the other numbers, each with several seeds. The effect
of a seed on both cells of a pair cancels in their difference, and the pairs of a step share no
cell, so every seed of every pair is a repeat if no effect differs from seed to seed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from archsearch.core.metrics import Metric
from archsearch.reports.card import Card, unless
from archsearch.reports.columns import interval_fields
from archsearch.reports.context import Context
from archsearch.reports.formats import MISSING, Table
from archsearch.reports.main_effects import (
    additive_fit,
    change_text,
    contrast_fields,
    holm_text,
    verdict,
    why_no_fit,
)
from archsearch.reports.phrases import difference_text, paragraph, plural, unit_text
from archsearch.results import LEVEL, CellResult
from archsearch.stats.additive import ContrastEstimate
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
    """Return a row per step: by the additive model, and by matched pairs."""
    steps, metric = _all_steps(context), context.metric
    columns = {
        "Step": [f"{context.symbol(axis)} {low} → {high}" for axis, low, high in steps],
        f"Change, all cells{unit_text(metric)}": [
            change_text(metric, step) for step, _ in steps.values()
        ],
        "Effect": [verdict(metric, step) for step, _ in steps.values()],
        "p (Holm)": [holm_text(step) for step, _ in steps.values()],
        f"Change, matched pairs{unit_text(metric)}": [
            difference_text(metric, pairs.change) if pairs else MISSING
            for _, pairs in steps.values()
        ],
        "Pairs of cells": [str(pairs.pairs) if pairs else MISSING for _, pairs in steps.values()],
        "Repeats": [str(pairs.change.n) if pairs else MISSING for _, pairs in steps.values()],
    }
    return Table.of(
        columns,
        [_row(*key, *estimates) for key, estimates in steps.items()],
        note=paragraph(_note(context), _left_out_note(context)),
    )


def _all_steps(
    context: Context,
) -> dict[tuple[str, Any, Any], tuple[ContrastEstimate | None, Effect | None]]:
    """Return (axis, low, high) -> the step by the additive model and by matched pairs."""
    fitted = () if why_no_fit(context) else additive_fit(context).steps
    by_model = {(step.factor, step.low, step.high): step for step in fitted}
    by_pairs = {(pairs.coordinate, pairs.low, pairs.high): pairs for pairs in effects(context)}
    return {key: (by_model.get(key), by_pairs.get(key)) for key in {**by_model, **by_pairs}}


def _row(
    axis: str, low: Any, high: Any, step: ContrastEstimate | None, pairs: Effect | None
) -> dict[str, Any]:
    return {
        "coordinate": axis,
        "low": low,
        "high": high,
        **contrast_fields(step),
        "pairs": pairs.pairs if pairs else None,
        "repeats": pairs.change.n if pairs else None,
        **interval_fields("pairs_change", pairs.change if pairs else None),
    }


def _note(context: Context) -> str:
    return (
        "All cells: the additive model of the table of effects, with p-values adjusted over the "
        "steps (Holm). Matched pairs: exact cells that differ only in this number (and in "
        f"{context.solved}, which is solved for the budget), compared seed by seed, with a noise "
        "variance per pair, as if no effect differed from seed to seed. ± is a 95% interval "
        "of one step: of twenty steps without an effect, about one interval excludes zero."
    )


def _left_out_note(context: Context) -> str:
    """Return how many cells with a result are in no pair because a repair changed them."""
    cells = context.cells
    repaired = sum(c.cell.fate == "repaired" and context.comparison.has_value(c) for c in cells)
    return f"Left out: {plural(repaired, 'repaired cell')}." if repaired else ""


EFFECTS = Card(
    name="effects",
    title="Single steps of each number",
    skip_reason=unless(
        lambda context: effects(context) or why_no_fit(context) is None,
        "no two cells with two common seeds differ in one number only",
    ),
    table=effects_table,
    section="folded",
)
