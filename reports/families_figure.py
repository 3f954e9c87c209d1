"""Accuracy against parameters, multiply-adds and measured time, with all families on one picture.

A family has a color and a marker of its own, so that it is known without colors too.
"""

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from archsearch.core.metrics import GENERAL, Metric
from archsearch.reports.card import Panels
from archsearch.reports.cell_order import reported_interval
from archsearch.reports.context import Context
from archsearch.reports.family_results import (
    MACS,
    MILLISECONDS,
    FamilyResult,
    family_results,
    milliseconds_per_image,
)
from archsearch.reports.labels import name_points
from archsearch.reports.style import INK, LINES, axes_at, error_bar, horizontal_grid, text_at
from archsearch.results import CellResult

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, GAP = 2.75, 2.6, 0.55, 0.75, 0.42, 0.3
"""Inches: a panel, the margins, and the gap between panels."""

Cost = Callable[[Context, CellResult], float | None]


def _milliseconds(context: Context, cell: CellResult) -> float | None:
    time = milliseconds_per_image(context, cell)
    return None if time is None else time.mean


def _counted(metric: Metric) -> Cost:
    return lambda _, cell: cell.cost_value(metric)


COSTS: Mapping[str, tuple[Metric, Cost]] = {
    "params": (GENERAL["params"], _counted(GENERAL["params"])),
    "macs": (MACS, _counted(MACS)),
    "time": (MILLISECONDS, _milliseconds),
}


def families_figure(context: Context) -> Figure:
    """Draw the three panels side by side with one legend."""
    families, panels = family_results(context), len(COSTS)
    size = LEFT + panels * WIDTH + (panels - 1) * GAP + 0.15, TOP + HEIGHT + BOTTOM
    fig = Figure(figsize=size)
    text_at(fig, 0.12, size[1] - 0.22, context.metric.axis)
    first = None
    for i, name in enumerate(COSTS):
        ax = axes_at(fig, LEFT + i * (WIDTH + GAP), BOTTOM, WIDTH, HEIGHT)
        if first is not None:
            ax.sharey(first)
            ax.tick_params(labelleft=False)
        first = first or ax
        _draw(ax, context, families, name)
    fig.legend(handles=_handles(families), loc="lower left", ncols=len(families))
    return fig


def families_panels(context: Context) -> Panels:
    """Draw every panel alone, and the legend, for a page whose columns wrap."""
    families = family_results(context)
    panels = {name: (_title(context, name), _panel(context, families, name)) for name in COSTS}
    return {**panels, "legend": ("Legend", _legend(families))}


def _title(context: Context, name: str) -> str:
    return f"{context.metric.label} against {COSTS[name][0].noun}"


def _panel(context: Context, families: Sequence[FamilyResult], name: str) -> Figure:
    size = LEFT + WIDTH + 0.15, TOP + HEIGHT + 0.5
    fig = Figure(figsize=size)
    text_at(fig, 0.12, size[1] - 0.22, context.metric.axis)
    _draw(axes_at(fig, LEFT, 0.5, WIDTH, HEIGHT), context, families, name)
    return fig


def _draw(ax: Axes, context: Context, families: Sequence[FamilyResult], name: str) -> None:
    """Draw a point with its interval per network, and name the best network of each family."""
    metric, cost = COSTS[name]
    points = dict[str, tuple[float, float]]()
    for i, family in enumerate(families):
        for label, cell in {c.label: c for c in family.cells}.items():
            is_best = family.best is not None and label == family.best.label
            point = _plot(ax, context, cell, cost(context, cell), i, is_best)
            if point is not None and is_best and cell.cell.variant is not None:
                points[cell.cell.variant.label] = point
    ax.set_xlabel(metric.axis)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    horizontal_grid(ax)
    ax.margins(x=0.12, y=0.1)
    name_points(ax, points, INK)


def _plot(
    ax: Axes, context: Context, cell: CellResult, x: float | None, i: int, is_best: bool
) -> tuple[float, float] | None:
    """Plot one network in the style of the i-th family; return its point if it has one."""
    value = reported_interval(cell, context.comparison)
    if value is None or x is None:
        return None
    color = LINES[i % len(LINES)]
    error_bar(ax, x, value.low, value.high, color)
    fill = "none" if cell.trials_without_result else color
    ax.plot(
        [x], [value.mean], MARKERS[i % len(MARKERS)], color=color, markerfacecolor=fill,
        markersize=7 if is_best else 4, alpha=1 if is_best else 0.6, zorder=4 if is_best else 3,
    )  # fmt: skip
    return x, value.mean


def _handles(families: Sequence[FamilyResult]) -> list[Line2D]:
    styles = zip(LINES, MARKERS, strict=True)
    return [
        Line2D([], [], color=color, marker=marker, linestyle="", label=family.name)
        for family, (color, marker) in zip(families, styles, strict=False)
    ]


def _legend(families: Sequence[FamilyResult]) -> Figure:
    fig = Figure(figsize=(2.3, 0.3 + 0.22 * len(families)))
    fig.legend(handles=_handles(families), loc="upper left", title="Family", alignment="left")
    return fig
