"""How steady the gradient is, cell by cell: for studies that name this report (Section 3.1)."""

from statistics import mean, median
from typing import Any

from matplotlib.figure import Figure

from archsearch.reports.card import Card, needs
from archsearch.reports.context import Context
from archsearch.reports.formats import Table
from archsearch.reports.style import DASHES, INK, LINES, MUTED, epoch_axes, legend_inside
from archsearch.results import CellResult


def gradient_figure(context: Context) -> Figure:
    """Gradient norm by epoch: the mean over steps and seeds, and thin, the largest of any step.

    The norm is taken before clipping; the dotted line is where it is clipped.
    """
    fig, ax = epoch_axes("Gradient norm before clipping, log scale")
    for i, cell in enumerate(_traced_cells(context)):
        epochs, means, largest = zip(*traces(cell), strict=True)
        color, dash = LINES[i % len(LINES)], DASHES[i % 4]
        ax.plot(epochs, largest, color=color, linestyle=dash, linewidth=0.6, alpha=0.7)
        ax.plot(epochs, means, color=color, linestyle=dash, label=_name(context, cell))
        if cell.lost:
            ax.plot([epochs[-1]], [means[-1]], "x", color=INK, markersize=5, zorder=5)
    clip_norm = context.results.study.recipe.clip_norm
    ax.axhline(clip_norm, color=MUTED, linewidth=0.8, linestyle=":")
    legend_inside(ax, "", "best")
    return fig


def traces(cell: CellResult) -> list[tuple[int, float, float]]:
    """(epoch, mean gradient norm over steps and seeds, largest of any step) by epoch."""
    by_epoch: dict[int, list[tuple[float, float]]] = {}
    for event in (event for trial in cell.trials for event in trial.curve):
        if event.get("grad_norm") is not None and event.get("grad_norm_max") is not None:
            pair = (event["grad_norm"], event["grad_norm_max"])
            by_epoch.setdefault(event["epoch"], []).append(pair)
    return [
        (epoch, mean(n for n, _ in by_epoch[epoch]), max(m for _, m in by_epoch[epoch]))
        for epoch in sorted(by_epoch)
    ]


def spike(cell: CellResult) -> float:
    """How far the worst step rose above the mean of its own epoch and training.

    Within an epoch, as the norm falls over a training: its largest step against the usual one of
    the whole training says when it fell, and not how steady it was.
    """
    ratios = (
        event["grad_norm_max"] / event["grad_norm"]
        for trial in cell.trials
        for event in trial.curve
        if event.get("grad_norm") and event.get("grad_norm_max") is not None
    )
    return max(ratios, default=float("nan"))


def gradient_table(context: Context) -> Table:
    """The same as numbers: usual, last and largest norm, and how far a step rose above others."""
    cells = _traced_cells(context)
    rows = [_row(c) for c in cells]
    columns = {
        "Network": [_name(context, c) for c in cells],
        "Usual norm": [f"{row['usual']:.2f}" for row in rows],
        "In the last epoch": [f"{row['last']:.2f}" for row in rows],
        "Largest norm": [f"{row['largest']:.2f}" for row in rows],
        "Largest / its epoch's mean": [f"{row['spike']:.1f}" for row in rows],
        "Trainings lost": [f"{len(c.lost)} of {len(c.trials)}" for c in cells],
    }
    note = (
        "Before clipping. Usual: the median over epochs of an epoch's mean over steps and seeds. "
        "The ratio is within one epoch of one training, the largest there is. Clipped at "
        f"{context.results.study.recipe.clip_norm:g}, so a larger norm did not reach the weights. "
        "The paper speaks of instability in large-scale training (Section 3.1): a small run need "
        "not show it."
    )
    return Table.of(columns, rows, note=note)


def _traced_cells(context: Context) -> list[CellResult]:
    named = "gradients" in context.results.study.reports
    return [c for c in context.cells if named and traces(c)]


def _row(cell: CellResult) -> dict[str, Any]:
    _, means, largest = zip(*traces(cell), strict=True)
    return {
        "network": cell.label,
        "usual": median(means),
        "last": means[-1],
        "largest": max(largest),
        "spike": spike(cell),
        "lost": len(cell.lost),
    }


def _name(context: Context, cell: CellResult) -> str:
    return ", ".join(f"{context.symbol(k)}: {v}" for k, v in cell.cell.requested.items())


GRADIENTS = Card(
    name="gradients",
    title="Gradient norms",
    applies=needs(_traced_cells, "the study does not name this report, or recorded no norms"),
    table=gradient_table,
    figure=gradient_figure,
    how_to_read="Line: the mean over an epoch's steps and over seeds; thin: the largest of "
    "any step. Dotted: where it is clipped. A cross: some seeds did not finish.",
)
