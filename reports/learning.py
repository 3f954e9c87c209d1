"""Learning curves: the validation error, epoch by epoch."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from archsearch.core.metrics import Metric
from archsearch.reports.card import Card, needs
from archsearch.reports.cell_order import ranked_cells
from archsearch.reports.context import Context
from archsearch.reports.style import DASHES, FAINT, INK, LINES, epoch_axes, legend_inside
from archsearch.results import CellResult, TrialResult

MAX_SERIES = 8


def learning_figure(context: Context) -> Figure:
    """The tied and leading networks in color, all others faint.

    A line is the mean over the network's own seeds that have the epoch, the legend's order the
    ranking's; a diverged training ends in a cross.
    """
    networks, estimates = _networks(context), context.comparison.estimates
    named = [c for c in networks if estimates[c.index] is not None][:MAX_SERIES]
    fig, ax = epoch_axes(f"{_error(context).axis}, log scale")
    for cell in reversed(networks):
        if cell not in named:
            _plot_mean(ax, cell, color=FAINT, linewidth=0.9)
    for i, cell in enumerate(named):
        _plot_mean(ax, cell, color=LINES[i], linestyle=DASHES[i % 4], label=cell.label)
    for trial in (t for cell in networks for t in cell.trials if t.state == "diverged"):
        for epoch, error in _errors(trial)[-1:]:
            ax.plot(
                [epoch],
                [visible_error(error, trial.trial.data.num_val)],
                "x",
                color=INK,
                markersize=5,
                markeredgewidth=1.2,
                zorder=5,
            )
    if named:
        legend_inside(ax, "best first" if len(named) > 1 else "", "upper right")
    return fig


def _networks(context: Context) -> list[CellResult]:
    """A cell of each network with a curve, the best first."""
    networks: dict[str, CellResult] = {}
    for cell in ranked_cells(context):
        if any(t.curve for t in cell.trials):
            networks.setdefault(cell.label, cell)
    return [*networks.values()]


def _plot_mean(ax: Axes, cell: CellResult, **look: Any) -> None:
    by_epoch: dict[int, list[float]] = {}
    for epoch, error in (point for trial in cell.trials for point in _errors(trial)):
        by_epoch.setdefault(epoch, []).append(error)
    images, epochs = cell.trials[0].trial.data.num_val, sorted(by_epoch)
    if epochs:
        means = [visible_error(float(np.mean(by_epoch[e])), images) for e in epochs]
        ax.plot(epochs, means, **look)


def _error(context: Context) -> Metric:
    task = context.results.study.task
    return task.metric(task.error)


def _errors(trial: TrialResult) -> list[tuple[int, float]]:
    """(epoch, error) of the epochs that have one."""
    task = trial.trial.task
    values = ((event["epoch"], task.metric(task.error).of_metrics(event)) for event in trial.curve)
    return [(epoch, error) for epoch, error in values if error is not None]


def visible_error(percent: float, num_images: int) -> float:
    """No error at all is drawn as half an image, since a log scale has no zero."""
    return max(percent, 50.0 / max(num_images, 1))


LEARNING = Card(
    name="learning",
    title="Learning curves",
    applies=needs(
        lambda c: c.results.study.task.error and _networks(c), "no training has finished an epoch"
    ),
    figure=learning_figure,
    how_to_read="Mean over a network's own seeds, by epoch. Faint: all other networks. A cross: "
    "diverged there.",
)
