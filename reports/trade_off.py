"""Pareto fronts of the result against the size of a network, as figures and as a table."""

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from archsearch.core.metrics import GENERAL, Metric, rounded
from archsearch.core.plans import Search
from archsearch.reports.card import Card, unless
from archsearch.reports.cell_order import in_ranking, reported_interval
from archsearch.reports.columns import result_text, size_columns
from archsearch.reports.context import Context
from archsearch.reports.formats import Table, number
from archsearch.reports.labels import name_points
from archsearch.reports.phrases import paragraph, plural
from archsearch.reports.style import LINES, MUTED, axes_with_title, error_bar, thin_out_x_ticks
from archsearch.results import CellResult, Comparison
from archsearch.stats.front import front_probabilities
from archsearch.stats.intervals import pareto

Point = tuple[float, float]
"""(cost, metric)."""
SIZES = (GENERAL["params"], GENERAL["macs"])
MAX_DRAWN_ALONE = 500
"""The points of more networks are one image in the figure, and only the front has intervals."""


def pareto_cells(context: Context, cost: Metric) -> list[CellResult]:
    """Return the Pareto front of ranked networks by the printed mean and a cost, best first.

    The cost is counted, or the mean of a measured metric.
    """
    comparison = context.comparison
    networks = {c.label: context.results.network(c.label) for c in context.cells}
    points = {
        label: (result.mean, size)
        for label, cell in networks.items()
        if in_ranking(cell, comparison)
        and (result := reported_interval(cell, comparison))
        and (size := cell.mean(cost)) is not None
    }
    higher_is_better = (context.metric.higher_is_better, cost.higher_is_better)
    return [networks[label] for label in (pareto(points, higher_is_better) if points else ())]


def on_front_probabilities(context: Context, cost: Metric) -> dict[str, float]:
    """Return each ranked network's probability to be on a front (`front_probabilities`)."""
    comparison, metric = context.comparison, context.metric
    networks = {c.label: context.results.network(c.label) for c in context.cells}
    costs = {
        label: size
        for label, cell in networks.items()
        if in_ranking(cell, comparison)
        and comparison.has_value(cell)
        and (size := cell.mean(cost)) is not None
    }
    if metric.known_before_training:
        return {}
    values = {label: _values(networks[label], comparison) for label in costs}
    return front_probabilities(values, costs, (metric.higher_is_better, cost.higher_is_better))


def _values(cell: CellResult, comparison: Comparison) -> dict[int, float]:
    """Return seed -> value, moved together so that their mean is the one printed."""
    values = {s: v for s, v in cell.values(comparison.metric).items() if v is not None}
    printed = reported_interval(cell, comparison)
    shift = 0.0 if printed is None else printed.mean - fmean(values.values())
    return {seed: value + shift for seed, value in values.items()}


def tradeoff_figure(context: Context, cost: Metric) -> Figure:
    """Plot the metric against a cost: a point per network with its interval, and the front."""
    comparison, networks = context.comparison, _networks(context)
    fig, ax = axes_with_title(cost.axis, context.metric.axis)
    front = {
        cell.label: (cell.cost_value(cost) or 0.0, interval.mean)
        for cell in pareto_cells(context, cost)
        if (interval := reported_interval(cell, comparison))
    }
    ax.plot(*zip(*sorted(front.values()), strict=True), color=LINES[1], linewidth=1.1, zorder=1)
    one_by_one = len(networks) <= MAX_DRAWN_ALONE
    for label, cell in networks.items():
        if one_by_one or label in front:
            _plot_point(ax, cell, cost, comparison, label in front)
    if not one_by_one:
        others = [cell for label, cell in networks.items() if label not in front]
        _plot_together(ax, others, cost, comparison)
    ax.margins(x=0.08, y=0.1)
    thin_out_x_ticks(ax)
    name_points(ax, _named_points(front), LINES[1])
    return fig


def _networks(context: Context) -> dict[str, CellResult]:
    """Return the networks that have a value."""
    return {c.label: c for c in filter(context.comparison.has_value, context.cells)}


def _plot_point(
    ax: Axes, cell: CellResult, cost: Metric, comparison: Comparison, on_front: bool
) -> None:
    interval, x = reported_interval(cell, comparison), cell.cost_value(cost)
    if interval is None or x is None:
        return
    (marker, size, color) = ("D", 5, LINES[1]) if on_front else ("o", 4, MUTED)
    fill = "none" if cell.trials_without_result else color
    error_bar(ax, x, interval.low, interval.high, color)
    ax.plot(
        [x], [interval.mean], marker, color=color, markerfacecolor=fill, markersize=size, zorder=3
    )


def _plot_together(
    ax: Axes, cells: Sequence[CellResult], cost: Metric, comparison: Comparison
) -> None:
    """Plot the points of many networks as one image, without intervals."""
    intervals = ((cell.cost_value(cost), reported_interval(cell, comparison)) for cell in cells)
    points = [(x, interval.mean) for x, interval in intervals if interval and x is not None]
    style: dict[str, Any] = {"color": MUTED, "markersize": 2, "markeredgewidth": 0}
    ax.plot(*np.reshape(points, (-1, 2)).T, "o", **style, zorder=2, rasterized=True)


def _named_points(front: Mapping[str, Point]) -> dict[str, Point]:
    """Return up to four points of the front by name, evenly spaced; the table has all of them."""
    points = sorted(front.items(), key=lambda item: item[1])
    indices = np.linspace(0, len(points) - 1, min(4, len(points))).round().astype(int)
    return dict(points[i] for i in np.unique(indices))


def pareto_table(context: Context) -> Table:
    """Return the fronts against parameters, multiply-adds and a search's other objectives."""
    pairs, others = _on_fronts(context), _other_objectives(context)
    cells, chances = [cell for _, cell in pairs], _chances(context, pairs)
    columns = {
        "Front against": [cost.noun for cost, _ in pairs],
        "Network": [c.label for c in cells],
        **size_columns(cells),
        context.metric.axis: [result_text(c, context.comparison) for c in cells],
        "On the front (%)": [number(p, ".0f") for p in chances],
    }
    for metric in others:
        columns[metric.axis] = [metric.text(c.mean(metric)) for c in cells]
    rows = [
        {"front": cost.name, "on_front_percent": rounded(chance), **context.rows[cell.index]}
        for (cost, cell), chance in zip(pairs, chances, strict=True)
    ]
    note = (
        "Fronts use the means shown; networks outside the ranking are on none. On the front: the "
        "share of studies with resampled seeds, with the noise of all networks pooled, in which "
        "the network is on this front. The cheapest network always is."
    )
    missing = (_without_value(context, metric) for metric in others)
    return Table.of(columns, rows, note=paragraph(note, *missing))


def _chances(context: Context, pairs: Sequence[tuple[Metric, CellResult]]) -> list[float | None]:
    """Return the probability of each member in percent; None if seeds are too few."""
    fronts = {cost.name: on_front_probabilities(context, cost) for cost in {c for c, _ in pairs}}
    shares = (fronts[cost.name].get(cell.label) for cost, cell in pairs)
    return [None if share is None else 100 * share for share in shares]


def _without_value(context: Context, cost: Metric) -> str:
    """Return how many ranked networks are on no front against a cost that they have no value of."""
    comparison = context.comparison
    networks = {c.label: context.results.network(c.label) for c in context.cells}.values()
    ranked = [c for c in networks if in_ranking(c, comparison) and comparison.has_value(c)]
    missing = sum(cell.mean(cost) is None for cell in ranked)
    text = f"without a value for {cost.noun}, so on no front against it"
    return f"{plural(missing, 'network')} {text}." if missing else ""


def _on_fronts(context: Context) -> list[tuple[Metric, CellResult]]:
    costs = (*SIZES, *_other_objectives(context))
    return [(cost, cell) for cost in costs for cell in pareto_cells(context, cost)]


def _other_objectives(context: Context) -> list[Metric]:
    plan, metric = context.results.study.plan, context.results.metric
    names = plan.objectives if isinstance(plan, Search) else ()
    return [metric(n) for n in names if n not in ("params", "macs", context.metric.name)]


def _how_to_read(context: Context, text: str) -> str:
    if len(_networks(context)) <= MAX_DRAWN_ALONE:
        return text
    networks = plural(len(_networks(context)), "network")
    return f"{text} Of these {networks} only those of the front have a bar; the others are dots."


def _card(cost: Metric, how_to_read: str) -> Card:
    return Card(
        name=f"tradeoff-{cost.name}",
        title=lambda c: f"{c.metric.label} against {cost.noun}",
        skip_reason=unless(
            lambda c: _networks(c) and not c.metric.known_before_training,
            "no cell has a measured value",
        ),
        figure=partial(tradeoff_figure, cost=cost),
        how_to_read=partial(_how_to_read, text=how_to_read),
    )


TRADEOFF_PARAMS = _card(
    GENERAL["params"],
    "Diamonds: no other network is better at a lower cost. Bars: 95% intervals over seeds. "
    "Open markers: some seeds diverged or failed.",
)
TRADEOFF_MACS = _card(GENERAL["macs"], "The same against the multiply-adds of one image.")
PARETO = Card(
    name="pareto",
    title="Trade-off between size and result",
    skip_reason=unless(_on_fronts, "no network has both a result and a size"),
    table=pareto_table,
)
