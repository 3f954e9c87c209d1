"""Gradient norms of each cell, for studies that name this report: stability (Section 3.1)."""

from collections.abc import Iterator
from statistics import mean, median
from typing import Any

from matplotlib.figure import Figure

from archsearch.reports.card import Card, unless
from archsearch.reports.context import Context
from archsearch.reports.formats import Table, number
from archsearch.reports.style import INK, MUTED, epoch_axes, legend_inside, series
from archsearch.results import CellResult


def gradient_figure(context: Context) -> Figure:
    """Plot the gradient norm by epoch: the mean over steps and seeds, and thin, the largest step.

    The norm is measured before clipping; the dotted line is the clipping norm.
    """
    fig, ax = epoch_axes("Gradient norm before clipping, log scale")
    for i, cell in enumerate(_traced_cells(context)):
        epochs, means, largest = zip(*traces(cell), strict=True)
        ax.plot(epochs, largest, **series(i), linewidth=0.6, alpha=0.7)
        ax.plot(epochs, means, **series(i), label=_name(context, cell))
        if cell.trials_without_result:
            ax.plot([epochs[-1]], [means[-1]], "x", color=INK, markersize=5, zorder=5)
    clip_norm = context.results.study.recipe.clip_norm
    ax.axhline(clip_norm, color=MUTED, linewidth=0.8, linestyle=":")
    legend_inside(ax, "best")
    return fig


def traces(cell: CellResult) -> list[tuple[int, float, float]]:
    """Return (epoch, mean norm over steps and seeds, largest norm of a step) of every epoch."""
    by_epoch: dict[int, list[tuple[float, float]]] = {}
    for epoch, *norms in _norms(cell):
        by_epoch.setdefault(epoch, []).append((norms[0], norms[1]))
    return [
        (epoch, mean(n for n, _ in norms), max(m for _, m in norms))
        for epoch, norms in sorted(by_epoch.items())
    ]


def spike(cell: CellResult) -> float | None:
    """Return the largest ratio of a step's norm to the mean of its epoch and training.

    None if every mean is zero.

    The ratio is within one epoch because the norm falls during a training: against the mean of the
    complete training, it would measure that fall and not the stability.
    """
    ratios = (largest / mean for _, mean, largest in _norms(cell) if mean)
    return max(ratios, default=None)


def _norms(cell: CellResult) -> Iterator[tuple[int, float, float]]:
    """Yield (epoch, mean norm, largest norm) of every epoch of every training that has norms."""
    for event in (event for trial in cell.trials for event in trial.curve):
        if event.get("grad_norm") is not None and event.get("grad_norm_max") is not None:
            yield event["epoch"], event["grad_norm"], event["grad_norm_max"]


def gradient_table(context: Context) -> Table:
    """Return a row per cell: median, last and largest norm, and the largest spike."""
    cells = _traced_cells(context)
    rows = [_row(c) for c in cells]
    columns = {
        "Network": [_name(context, c) for c in cells],
        "Median norm": [f"{row['median']:.2f}" for row in rows],
        "Last epoch": [f"{row['last_epoch']:.2f}" for row in rows],
        "Largest norm": [f"{row['largest']:.2f}" for row in rows],
        "Largest / epoch mean": [number(row["spike"], ".1f") for row in rows],
        "Without result": [
            f"{row['without_result']} of {len(c.trials)}"
            for row, c in zip(rows, cells, strict=True)
        ],
    }
    note = (
        "Norms before clipping. Median: over epochs, of an epoch's mean over steps and seeds. The "
        "ratio is the largest within one epoch of one training. Without result: trainings that "
        f"diverged or failed. Gradients are clipped at {context.results.study.recipe.clip_norm:g}, "
        "so a larger norm does not reach the weights. The paper reports instability in large-scale "
        "training (Section 3.1); a small run may not show it."
    )
    return Table.of(columns, rows, note=note)


def _traced_cells(context: Context) -> list[CellResult]:
    named = "gradients" in context.results.study.reports
    return [c for c in context.cells if named and traces(c)]


def _row(cell: CellResult) -> dict[str, Any]:
    _, means, largest = zip(*traces(cell), strict=True)
    return {
        "network": cell.label,
        "median": median(means),
        "last_epoch": means[-1],
        "largest": max(largest),
        "spike": spike(cell),
        "without_result": len(cell.trials_without_result),
    }


def _name(context: Context, cell: CellResult) -> str:
    return ", ".join(f"{context.symbol(k)}: {v}" for k, v in cell.cell.requested.items())


GRADIENTS = Card(
    name="gradients",
    title="Gradient norms",
    skip_reason=unless(_traced_cells, "the study does not name this report, or recorded no norms"),
    table=gradient_table,
    figure=gradient_figure,
    how_to_read="Line: mean over an epoch's steps and over seeds. Thin line: the largest step. "
    "Dotted: the clipping norm. Cross: some seeds diverged or failed.",
)
