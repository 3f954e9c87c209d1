"""The result against the size of a network: the Pareto fronts, as figures and as a table."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from archsearch.core.metrics import GENERAL, Metric
from archsearch.core.plans import Search
from archsearch.reports.card import Card, needs
from archsearch.reports.cell_order import in_ranking, reported_interval
from archsearch.reports.columns import result_text, size_columns
from archsearch.reports.context import Context
from archsearch.reports.formats import Table
from archsearch.reports.labels import name_points
from archsearch.reports.style import LINES, MUTED, axes_with_title, error_bar, thin_out_x_ticks
from archsearch.results import CellResult, Comparison
from archsearch.stats.intervals import pareto

SIZES = (GENERAL["params"], GENERAL["macs"])


def pareto_cells(context: Context, cost: Metric) -> list[CellResult]:
    """Ranked networks that no other beats in both the mean printed and the cost (counted, or the
    mean of what was measured), best first."""
    comparison = context.comparison
    networks = {c.label: context.results.network(c.label) for c in context.cells}
    points = {
        label: (result.mean, size.mean)
        for label, cell in networks.items()
        if in_ranking(cell, comparison)
        and (result := reported_interval(cell, comparison))
        and (size := cell.estimate(cost))
    }
    higher_is_better = (context.metric.higher_is_better, cost.higher_is_better)
    return [networks[label] for label in (pareto(points, higher_is_better) if points else ())]


def tradeoff_figure(context: Context, cost: Metric) -> Figure:
    """The metric against a cost, one point a network with its interval, and the Pareto front."""
    comparison = context.comparison
    fig, ax = axes_with_title(cost.axis, context.metric.axis)
    front = pareto_cells(context, cost)
    steps = sorted(
        (c.counted(cost) or 0.0, e.mean) for c in front if (e := reported_interval(c, comparison))
    )
    ax.plot(*zip(*steps, strict=True), color=LINES[1], linewidth=1.1, zorder=1)
    on_front = {c.label for c in front}
    for label, cell in _networks(context).items():
        _plot_point(ax, cell, cost, comparison, label in on_front)
    ax.margins(x=0.08, y=0.1)
    thin_out_x_ticks(ax)
    labels = [c.label for c in sorted(front, key=lambda c: c.counted(cost) or 0.0)]
    name_points(ax, _named_points(steps, labels), LINES[1])
    return fig


def _networks(context: Context) -> dict[str, CellResult]:
    """The networks that have a value."""
    estimates = context.comparison.estimates
    return {c.label: c for c in context.cells if estimates[c.index] is not None}


def _plot_point(
    ax: Axes, cell: CellResult, cost: Metric, comparison: Comparison, on_front: bool
) -> None:
    interval, x = reported_interval(cell, comparison), cell.counted(cost)
    if interval is None or x is None:
        return
    color = LINES[1] if on_front else MUTED
    error_bar(ax, x, interval.low, interval.high, color)
    ax.plot(
        [x], [interval.mean], "D" if on_front else "o", color=color, zorder=3,
        markerfacecolor="none" if cell.lost else color, markersize=5 if on_front else 4,
    )  # fmt: skip


def _named_points(
    steps: list[tuple[float, float]], labels: list[str]
) -> dict[str, tuple[float, float]]:
    """Up to four points of the front by their names, evenly picked; the table has them all."""
    keep = np.unique(np.linspace(0, len(steps) - 1, min(4, len(steps))).round().astype(int))
    return {labels[int(i)]: steps[int(i)] for i in keep}


def pareto_table(context: Context) -> Table:
    """The fronts against parameters, multiply-adds and whatever else a search was to weigh."""
    pairs, others = _on_fronts(context), _other_objectives(context)
    cells = [cell for _, cell in pairs]
    columns = {
        "Front against": [cost.label.lower() for cost, _ in pairs],
        "Network": [c.label for c in cells],
        **size_columns(cells),
        context.metric.axis: [result_text(c, context.comparison) for c in cells],
    }
    for by in others:
        columns[by.axis] = [by.text(getattr(c.estimate(by), "mean", None)) for c in cells]
    rows = [{"front": cost.name, **context.rows[cell.index]} for cost, cell in pairs]
    note = (
        "Fronts are of the means shown; a network outside the ranking is on none. A network may be "
        "on one by the luck of its seeds: the intervals say how far to trust a step."
    )
    return Table.of(columns, rows, note=note)


def _on_fronts(context: Context) -> list[tuple[Metric, CellResult]]:
    costs = (*SIZES, *_other_objectives(context))
    return [(cost, cell) for cost in costs for cell in pareto_cells(context, cost)]


def _other_objectives(context: Context) -> list[Metric]:
    plan, metric = context.results.study.plan, context.results.metric
    names = plan.objectives if isinstance(plan, Search) else ()
    return [metric(n) for n in names if n not in ("params", "macs", context.metric.name)]


def _card(cost: Metric, how_to_read: str) -> Card:
    return Card(
        name=f"tradeoff-{cost.name}",
        title=lambda c: f"{c.metric.label} against {cost.label.lower()}",
        applies=needs(
            lambda c: _networks(c) and not c.metric.counted, "no cell has a measured value"
        ),
        figure=partial(tradeoff_figure, cost=cost),
        how_to_read=how_to_read,
    )


TRADEOFF_PARAMS = _card(
    GENERAL["params"],
    "Diamonds: no network is better at less. Bars: 95% intervals over seeds. "
    "Open circles lost a seed.",
)
TRADEOFF_MACS = _card(GENERAL["macs"], "The same against the multiply-adds of one image.")
PARETO = Card(
    name="pareto",
    title="Trade-off between size and result",
    applies=needs(_on_fronts, "no network has both a result and a size"),
    table=pareto_table,
)
