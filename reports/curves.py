"""Pictures of lines and points: learning curves, trade-offs, error distributions, ladders.

Each figure function returns None when the run has nothing to show in it.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

from archsearch.core.metrics import Metric, metric
from archsearch.reports.cell_order import empty_word, ranked_cells, shown
from archsearch.reports.labels import name_points
from archsearch.reports.phrases import estimate_text
from archsearch.reports.style import (
    DASHES,
    FAINT,
    INK,
    LINES,
    MUTED,
    axes_with_title,
    legend_inside,
    symbol,
    untangle,
)
from archsearch.reports.tables import pareto_cells
from archsearch.results import CellResult, Comparison, Results
from archsearch.stats.intervals import edf

MAX_SERIES = 8
MIN_EDF = 8
"""Networks below which a distribution over the space says nothing."""
FACTORS = ("alpha", "beta", "phi")


def learning_figure(results: Results, metric_name: str | None = None) -> Figure | None:
    """Validation accuracy by epoch: the tied and leading networks in colour, all others faint.

    A line is the mean over the network's own seeds that have the epoch, the legend's order the
    ranking's; a diverged training ends in a cross.
    """
    compared = results.compare(metric_name)
    seen: dict[str, CellResult] = {}
    for cell in ranked_cells(results, compared):
        if any(t.curve for t in cell.trials):
            seen.setdefault(cell.label, cell)
    if not seen:
        return None
    fig, ax = axes_with_title("Epoch", "Validation error (%), log scale")
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    named = [c for c in seen.values() if compared.estimates[c.index] is not None][:MAX_SERIES]
    for cell in reversed(seen.values()):
        if cell not in named:
            _mean_curve(ax, cell, color=FAINT, linewidth=0.9)
    for i, cell in enumerate(named):
        _mean_curve(ax, cell, color=LINES[i], linestyle=DASHES[i % 4], label=cell.label)
    for cell in seen.values():
        _mark_diverged(ax, cell)
    if named:
        legend_inside(ax, "best first" if len(named) > 1 else "", "upper right")
    return fig


def _error(accuracy: float, num_images: int) -> float:
    """In percent; no error at all is drawn as half an image, since a log scale has no zero."""
    return max(100.0 - accuracy, 50.0 / max(num_images, 1))


def _mean_curve(ax: Axes, cell: CellResult, **style_of_line: Any) -> None:
    images = cell.trials[0].trial.data.num_val
    points = [(epoch, _error(value, images)) for epoch, value in _epoch_means(cell)]
    if points:
        ax.plot(*zip(*points, strict=True), **style_of_line)


def _epoch_means(cell: CellResult) -> list[tuple[int, float]]:
    by_epoch: dict[int, list[float]] = {}
    for trial in cell.trials:
        for event in trial.curve:
            if event.get("val_accuracy") is not None:
                by_epoch.setdefault(event["epoch"], []).append(event["val_accuracy"])
    return [(epoch, float(np.mean(by_epoch[epoch]))) for epoch in sorted(by_epoch)]


def _mark_diverged(ax: Axes, cell: CellResult) -> None:
    for trial in cell.trials:
        ends = [e for e in trial.curve if e.get("val_accuracy") is not None]
        if trial.state == "diverged" and ends:
            x, y = ends[-1]["epoch"], _error(ends[-1]["val_accuracy"], trial.trial.data.num_val)
            ax.plot([x], [y], "x", color=INK, markersize=5, markeredgewidth=1.2, zorder=5)


def tradeoff_figure(
    results: Results, cost: Metric, metric_name: str | None = None
) -> Figure | None:
    """The metric against a cost, one point a network with its interval, and the Pareto front."""
    compared = results.compare(metric_name)
    by = compared.metric
    points = {c.label: c for c in results.cells if compared.estimates[c.index] is not None}
    if by.counted or not points:
        return None
    fig, ax = axes_with_title(cost.axis, by.axis)
    front = pareto_cells(results, metric_name, cost)
    steps = sorted((c.counted(cost) or 0.0, e.mean) for c in front if (e := shown(c, compared)))
    ax.plot(*zip(*steps, strict=True), color=LINES[1], linewidth=1.1, zorder=1)
    on_front = {c.label for c in front}
    for cell in points.values():
        _point(ax, cell, cost, compared, cell.label in on_front)
    ax.margins(x=0.08, y=0.1)
    untangle(ax)
    labels = [c.label for c in sorted(front, key=lambda c: c.counted(cost) or 0.0)]
    name_points(ax, _to_name(steps, labels), LINES[1])
    return fig


def _point(ax: Axes, cell: CellResult, cost: Metric, compared: Comparison, on_front: bool) -> None:
    estimate, x = shown(cell, compared), cell.counted(cost)
    if estimate is None or x is None:
        return
    colour = LINES[1] if on_front else MUTED
    if estimate.low is not None and estimate.high is not None:
        ax.plot([x, x], [estimate.low, estimate.high], color=colour, linewidth=0.8, alpha=0.6)
    face = colour if not cell.lost else "none"
    marker = "D" if on_front else "o"
    ax.plot(
        [x], [estimate.mean], marker, color=colour, markerfacecolor=face,
        markersize=5 if on_front else 4, zorder=3,
    )  # fmt: skip


def _to_name(steps: list[tuple[float, float]], labels: list[str]) -> dict[str, tuple[float, float]]:
    """Up to four points of the front by their names, evenly picked; the table has them all."""
    keep = np.unique(np.linspace(0, len(steps) - 1, min(4, len(steps))).round().astype(int))
    return {labels[int(i)]: steps[int(i)] for i in keep}


def edf_figure(results: Results, metric_name: str | None = None) -> Figure | None:
    """Error distribution functions over the space: one line per value of the first coordinate.

    A curve further left is a better part of the space (Radosavovic et al. 2019). A full grid is
    the whole space, so no band is drawn. Only an error or a loss has one.
    """
    by = _error_metric(results.compare(metric_name).metric)
    if by is None:
        return None
    groups = _groups(results, by)
    if max((len(v) for v in groups.values()), default=0) < MIN_EDF:
        return None
    kind = "error" if by.source == "error" else "loss"
    fig, ax = axes_with_title(by.axis, f"Share of networks with at most this {kind}")
    for i, (name, errors) in enumerate(groups.items()):
        curve = edf(errors)
        x, y = [curve.error[0], *curve.error], [0.0, *curve.share]
        ax.step(x, y, where="post", color=LINES[i], linestyle=DASHES[i % 4], label=name)
    ax.set_ylim(0, 1.02)
    legend_inside(ax, "", "lower right")
    return fig


def _error_metric(by: Metric) -> Metric | None:
    """The metric as something to keep low: an accuracy as its error; None for what is neither."""
    if by.name.endswith("_accuracy"):
        return metric(by.name.replace("_accuracy", "_error"))
    return by if by.source == "error" or by.name.endswith("_loss") else None


def _groups(results: Results, by: Metric) -> dict[str, list[float]]:
    """Errors of every network, then by the panel coordinate of the study, if it has one."""
    networks = {c.label: results.network(c.label) for c in results.cells}
    compared = results.compare(by.name)
    found = {k: e.mean for k, c in networks.items() if (e := shown(c, compared)) is not None}
    groups = {f"all {len(found)} networks": list(found.values())}
    if results.study.axes:
        axis = results.study.axes[0]
        for value in sorted({str(c.cell.asked.get(axis)) for c in results.cells}):
            mine = [v for k, v in found.items() if str(networks[k].cell.asked.get(axis)) == value]
            if len(mine) >= 2:
                groups[f"{symbol(axis)} = {value}"] = mine
    return dict(list(groups.items())[: len(LINES)])


def ladder_figure(results: Results, metric_name: str | None = None) -> Figure | None:
    """Depth against width along a scaling ladder, factors and result beside each rung."""
    cells = [c for c in results.cells if "alpha" in c.cell.asked and c.cell.variant is not None]
    if len(cells) < 2:
        return None
    factors = {k: {c.cell.asked.get(k) for c in cells} for k in FACTORS}
    fixed = ", ".join(f"{symbol(k)} {v:g}" for k, (v, *more) in factors.items() if not more and v)
    title = "Depth D = 3 L₁ + L₃" + (f", at {fixed}" if fixed else "")
    fig, ax = axes_with_title("Width C₁", title)
    pairs = sorted({(c.cell.asked["alpha"], c.cell.asked["beta"]) for c in cells})
    for i, pair in enumerate(pairs):
        mine = [c for c in cells if (c.cell.asked["alpha"], c.cell.asked["beta"]) == pair]
        places = sorted(_place(c) for c in mine)
        ax.plot(*zip(*places, strict=True), marker="o", markersize=4.5, color=LINES[i % 8])
    for cell in cells:
        named = (k for k in FACTORS if len(factors[k]) > 1 and k in cell.cell.asked)
        told = " ".join(f"{symbol(k)} {cell.cell.asked[k]:g}" for k in named)
        _name_rung(ax, cell, told, results.compare(metric_name))
    low, high = ax.get_xlim()
    ax.set_xlim(low, high + 0.42 * (high - low))
    ax.margins(y=0.1)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    return fig


def _place(cell: CellResult) -> tuple[int, int]:
    variant = cell.cell.variant
    assert variant is not None
    config = variant.config()
    return config.channels[0], sum(config.depths)


def _name_rung(ax: Axes, cell: CellResult, factors: str, compared: Comparison) -> None:
    measured = cell.state == "complete" and compared.estimates[cell.index] is not None
    value = estimate_text(cell, compared) if measured else empty_word(cell)
    ax.annotate(
        f"{factors}: {value}", _place(cell), xytext=(6, 0), textcoords="offset points",
        va="center", size=7, color=INK,
    )  # fmt: skip
