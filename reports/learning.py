"""Learning curves: the validation error by epoch."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from archsearch.reports.card import Card, unless
from archsearch.reports.cell_order import ranked_cells
from archsearch.reports.context import Context
from archsearch.reports.style import FAINT, INK, epoch_axes, legend_inside, series
from archsearch.results import CellResult, TrialResult

MAX_SERIES = 8


def learning_figure(context: Context) -> Figure:
    """Plot the best networks in color and all others faint.

    A line is the mean over the network's seeds that have finished the epoch. The legend has the
    order of the ranking. A diverged training ends in a cross.
    """
    networks, task = _networks(context), context.results.study.task
    named = list(filter(context.comparison.has_value, networks))[:MAX_SERIES]
    fig, ax = epoch_axes(f"{task.metric(task.error).axis}, log scale")
    for cell in reversed(networks):
        if cell not in named:
            _plot_mean(ax, cell, color=FAINT, linewidth=0.9)
    for i, cell in enumerate(named):
        _plot_mean(ax, cell, **series(i), label=cell.label)
    for trial in (t for cell in networks for t in cell.trials if t.state == "diverged"):
        for epoch, error in _errors(trial)[-1:]:
            y = visible_error(error, trial.trial.data.num_val)
            ax.plot([epoch], [y], "x", color=INK, markersize=5, markeredgewidth=1.2, zorder=5)
    if named:
        legend_inside(ax, "upper right", "best first" if len(named) > 1 else None)
    return fig


def _networks(context: Context) -> list[CellResult]:
    """Return a cell of each network with a curve, the best first."""
    networks: dict[str, CellResult] = {}
    for cell in ranked_cells(context):
        if any(t.curve for t in cell.trials):
            networks.setdefault(cell.label, cell)
    return [*networks.values()]


def _plot_mean(ax: Axes, cell: CellResult, **kwargs: Any) -> None:
    by_epoch: dict[int, list[float]] = {}
    for epoch, error in (point for trial in cell.trials for point in _errors(trial)):
        by_epoch.setdefault(epoch, []).append(error)
    images, epochs = cell.trials[0].trial.data.num_val, sorted(by_epoch)
    if epochs:
        means = [visible_error(float(np.mean(by_epoch[e])), images) for e in epochs]
        ax.plot(epochs, means, **kwargs)


def _errors(trial: TrialResult) -> list[tuple[int, float]]:
    """Return (epoch, error) of the epochs that have an error."""
    task = trial.trial.task
    values = ((event["epoch"], task.metric(task.error).value_in(event)) for event in trial.curve)
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
