"""Learning curves: the validation error by epoch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from archsearch.reports.card import Card, unless
from archsearch.reports.cell_order import ranked_cells
from archsearch.reports.context import Context
from archsearch.reports.style import FAINT, INK, epoch_axes, legend_below, series
from archsearch.results import CellResult, TrialResult

Curve = tuple[list[int], list[float]]
"""Epochs and values."""

MAX_SERIES = 8
MAX_DRAWN_ALONE = 500
"""The faint lines of more networks are one image in the figure."""


def learning_figure(context: Context) -> Figure:
    """Plot the best networks in color and all others faint.

    A line is the mean over the network's seeds that have finished the epoch. The legend has the
    order of the ranking. A diverged training ends in a cross. In a figure of many networks the
    faint lines, and the crosses, are one image.
    """
    networks, task = _networks(context), context.results.study.task
    named = list(filter(context.comparison.has_value, networks))[:MAX_SERIES]
    fig, ax = epoch_axes(f"{task.metric(task.error).axis}, log scale")
    others = {cell.label: cell for cell in networks}
    for cell in named:
        del others[cell.label]
    is_large = len(networks) > MAX_DRAWN_ALONE
    _plot_faint(ax, [*reversed(others.values())], is_large)
    for i, cell in enumerate(named):
        curve = _mean_curve(cell)
        ax.plot(*curve, **series(i), marker=_marker(curve), label=cell.label)
    _plot_crosses(ax, networks, is_large)
    if named:
        legend_below(ax, "best first" if len(named) > 1 else None)
    return fig


def _networks(context: Context) -> list[CellResult]:
    """Return a cell of each network with a curve, the best first."""
    networks: dict[str, CellResult] = {}
    for cell in ranked_cells(context):
        if any(t.curve for t in cell.trials):
            networks.setdefault(cell.label, cell)
    return [*networks.values()]


def _plot_faint(ax: Axes, cells: Sequence[CellResult], is_large: bool) -> None:
    curves: list[Curve] = [curve for curve in map(_mean_curve, cells) if curve]
    style: dict[str, Any] = {"color": FAINT, "linewidth": 0.9}
    if is_large:
        lines = [[*zip(*curve, strict=True)] for curve in curves]
        ax.add_collection(LineCollection(lines, **style, zorder=2, rasterized=True))
        if points := [line[0] for line in lines if len(line) == 1]:
            ax.plot(*zip(*points, strict=True), ".", **style, zorder=2, rasterized=True)
        ax.autoscale_view()
        return
    for curve in curves:
        ax.plot(*curve, **style, marker=_marker(curve))


def _marker(curve: Curve | tuple[()]) -> str | None:
    """Return a point for a curve of one epoch, which has no line."""
    return "." if curve and len(curve[0]) == 1 else None


def _plot_crosses(ax: Axes, cells: Sequence[CellResult], is_large: bool) -> None:
    """Mark where a training diverged."""
    diverged = (t for cell in cells for t in cell.trials if t.state == "diverged")
    ends = [(t, *_errors(t)[-1]) for t in diverged if _errors(t)]
    points = [(epoch, visible_error(error, t.trial.data.num_val)) for t, epoch, error in ends]
    groups = [points] if is_large and points else [[point] for point in points]
    style: dict[str, Any] = {"color": INK, "markersize": 5, "markeredgewidth": 1.2}
    for group in groups:
        ax.plot(*zip(*group, strict=True), "x", **style, zorder=5, rasterized=is_large)


def _mean_curve(cell: CellResult) -> Curve | tuple[()]:
    """Return the epochs and the mean errors of a network; empty if no epoch has an error."""
    by_epoch: dict[int, list[float]] = {}
    for epoch, error in (point for trial in cell.trials for point in _errors(trial)):
        by_epoch.setdefault(epoch, []).append(error)
    images, epochs = cell.trials[0].trial.data.num_val, sorted(by_epoch)
    means = [visible_error(float(np.mean(by_epoch[e])), images) for e in epochs]
    return (epochs, means) if epochs else ()


def _errors(trial: TrialResult) -> list[tuple[int, float]]:
    """Return (epoch, error) of the epochs that have an error."""
    metric = trial.trial.task.metric(trial.trial.task.error)
    values = ((event["epoch"], metric.value_in(event)) for event in trial.curve)
    return [(epoch, error) for epoch, error in values if error is not None]


def visible_error(percent: float, num_images: int) -> float:
    """Return the error to draw: zero becomes half an image, since a log scale has no zero."""
    return max(percent, 50.0 / max(num_images, 1))


LEARNING = Card(
    name="learning",
    title="Learning curves",
    skip_reason=unless(
        lambda c: c.results.study.task.error and _networks(c), "no training has finished an epoch"
    ),
    figure=learning_figure,
    how_to_read="Mean over a network's own seeds, by epoch. Faint: all other networks. Cross: "
    "a training diverged.",
)
