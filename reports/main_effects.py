"""The effect of each number over the whole grid: the trend of accuracy along C1, C' and L1.

An additive model of all networks (`archsearch.stats.additive`): each number has an effect of its
own, and seeds are blocks. A repaired cell counts with the numbers of its network.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from archsearch.core.metrics import Metric, rounded
from archsearch.reports.card import Card
from archsearch.reports.columns import interval_fields
from archsearch.reports.context import Context
from archsearch.reports.formats import MISSING, Table
from archsearch.reports.phrases import (
    are,
    difference_text,
    listed,
    p_equals,
    p_text,
    paragraph,
    plural,
    unit_text,
)
from archsearch.results import LEVEL, CellResult
from archsearch.stats.additive import AdditiveFit, ContrastEstimate, MainEffect, fit_additive

OF_COUNTS = "the plan has no axes, or the metric is counted and has no noise"


@lru_cache(maxsize=8)
def additive_fit(context: Context) -> AdditiveFit:
    """Return the effects of the numbers on the study's axes.

    Raises:
        ValueError: there are no axes, or the results are too few for the model.
    """
    axes, metric = context.results.study.axes, context.metric
    if axes is None or metric.known_before_training:
        raise ValueError(OF_COUNTS)
    rows = [
        (value, seed, [_level(cell, axis) for axis in axes])
        for cell in _networks(context)
        for seed, value in cell.values(metric).items()
        if value is not None
    ]
    values, seeds, levels = zip(*rows, strict=True) if rows else ((), (), ())
    factors = {axis: [row[i] for row in levels] for i, axis in enumerate(axes)}
    return fit_additive(values, factors, seeds)


def _networks(context: Context) -> list[CellResult]:
    """Return one cell per network, without those that diverged on a seed, as the ranking does."""
    cells = {c.label: c for c in context.cells if c.cell.variant is not None}
    return [c for c in cells.values() if all(t.state != "diverged" for t in c.trials)]


def _level(cell: CellResult, axis: str) -> Any:
    """Return the number of the network, which a repair may have changed from the request."""
    return getattr(cell.cell.variant, axis, cell.cell.requested.get(axis))


def why_no_fit(context: Context) -> str | None:
    """Return why there are no effects; None if there are."""
    try:
        additive_fit(context)
    except ValueError as error:
        return str(error)
    return None


def main_effects_table(context: Context) -> Table:
    """Return a row per number: its trend, whether its levels differ at all, and its errors."""
    fit, metric = additive_fit(context), context.metric
    trends = {trend.factor: trend for trend in fit.trends}
    rows = [(main, trends.get(main.factor)) for main in fit.main_effects]
    columns = {
        "Number": [context.symbol(main.factor) for main, _ in rows],
        f"Change per step{unit_text(metric)}": [change_text(metric, trend) for _, trend in rows],
        "Effect": [verdict(metric, trend) for _, trend in rows],
        "p of the trend (Holm)": [holm_text(trend) for _, trend in rows],
        "p of any difference (Holm)": [p_text(main.holm_p_value) for main, _ in rows],
        "Errors": ["clustered by seed" if main.clustered else "residual" for main, _ in rows],
        "Levels": [_levels_text(main) for main, _ in rows],
    }
    return Table.of(columns, [_row(*row) for row in rows], note=_note(context, fit))


def _levels_text(main: MainEffect) -> str:
    return ", ".join(map(str, main.levels))


def change_text(metric: Metric, contrast: ContrastEstimate | None) -> str:
    """Return ``+1.20 ± 0.30``; a dash for None."""
    return MISSING if contrast is None else difference_text(metric, contrast.interval(LEVEL, 0))


def holm_text(contrast: ContrastEstimate | None) -> str:
    """Return the adjusted p-value; a dash for None."""
    return MISSING if contrast is None else p_text(contrast.holm_p_value)


def verdict(metric: Metric, contrast: ContrastEstimate | None) -> str:
    """Return ``better``, ``worse`` or ``not significant``, by the adjusted p-value."""
    if contrast is None:
        return MISSING
    if contrast.p_value > 1 - LEVEL:
        return "not significant"
    direction = "better" if metric.merit(contrast.estimate) > 0 else "worse"
    return direction if contrast.holm_p_value <= 1 - LEVEL else f"{direction}, not after Holm"


def contrast_fields(contrast: ContrastEstimate | None) -> dict[str, float | None]:
    """Return estimate, interval and p-values of a contrast, for the row of a table."""
    interval = None if contrast is None else contrast.interval(LEVEL, 0)
    names = ("standard_error", "degrees_of_freedom", "p_value", "holm_p_value")
    numbers = {name: rounded(getattr(contrast, name, None)) for name in names}
    return interval_fields("change", interval) | numbers


def _row(main: MainEffect, trend: ContrastEstimate | None) -> dict[str, Any]:
    return {
        "coordinate": main.factor,
        "levels": _levels_text(main),
        **contrast_fields(trend),
        "any_difference_p_value": rounded(main.p_value),
        "any_difference_holm_p_value": rounded(main.holm_p_value),
        "seed_interaction_f": rounded(main.interaction_f),
        "seed_interaction_p_value": rounded(main.interaction_p_value),
        "clustered": main.clustered,
    }


def _note(context: Context, fit: AdditiveFit) -> str:
    return paragraph(
        f"An additive model of {plural(fit.num_values, 'training')}: {fit.num_cells} combinations "
        f"of levels, {fit.num_seeds} seeds as blocks; {context.solved or 'the last number'} is "
        "solved for the budget. ± is a 95% interval of one trend; the p-values are adjusted over "
        "the rows (Holm).",
        _errors_text(context, fit.main_effects),
        _lack_of_fit_text(fit.lack_of_fit),
        _missing_text(context, fit),
    )


def _errors_text(context: Context, effects: Sequence[MainEffect]) -> str:
    clustered = [e for e in effects if e.clustered]
    if not clustered:
        return "The effects do not differ from seed to seed by more than the noise."
    tests = [
        f"{context.symbol(e.factor)} (F = {e.interaction_f:.1f}, {p_equals(e.interaction_p_value)})"
        for e in clustered
        if e.interaction_f is not None
    ]
    return (
        f"The effect of {listed(tests)} differs from seed to seed by more than the noise, so its "
        "errors are clustered by seed."
    )


def _lack_of_fit_text(p_value: float | None) -> str:
    if p_value is None:
        return "The cells are too few to test whether the numbers interact."
    if p_value > 1 - LEVEL:
        return f"Lack of fit: {p_equals(p_value)}, so no sign that the numbers interact."
    return (
        f"Lack of fit: {p_equals(p_value)}. The numbers interact: an effect depends on the other "
        "numbers, and the table shows averages."
    )


def _missing_text(context: Context, fit: AdditiveFit) -> str:
    """Return what the grid lacks: trainings, diverged networks, contrasts that are confounded."""
    cells = {c.label: c for c in context.cells if c.cell.variant is not None}
    lacking = fit.num_cells * fit.num_seeds - fit.num_values
    diverged = len(cells) - len(_networks(context))
    steps = [
        f"{context.symbol(c.factor)} {c.low} → {c.high}"
        for c in fit.not_estimable
        if c.kind == "step"
    ]
    return paragraph(
        f"{plural(lacking, 'value')} of these cells and seeds {are(lacking)} missing."
        if lacking
        else "",
        f"Left out: {plural(diverged, 'network')} that diverged on a seed." if diverged else "",
        f"Not separable from other numbers: {listed(steps)}." if steps else "",
    )


MAIN_EFFECTS = Card(
    name="main-effects",
    title="Effect of each number",
    skip_reason=why_no_fit,
    table=main_effects_table,
)
