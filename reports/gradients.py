"""How steady the gradient is, cell by cell: for studies that name this report (Section 3.1)."""

from statistics import mean, median
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

from archsearch.reports.formats import Table, table
from archsearch.reports.style import (
    DASHES,
    INK,
    LINES,
    MUTED,
    axes_with_title,
    legend_inside,
    symbol,
)
from archsearch.results import CellResult, Results


def gradient_figure(results: Results) -> Figure | None:
    """Gradient norm by epoch: the mean over steps and seeds, and thin, the largest of any step.

    The norm is taken before clipping; the dotted line is where it is clipped.
    """
    cells = [c for c in results.cells if traces(c)]
    if "gradients" not in results.study.reports or not cells:
        return None
    fig, ax = axes_with_title("Epoch", "Gradient norm before clipping, log scale")
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for i, cell in enumerate(cells):
        epochs, means, largest = zip(*traces(cell), strict=True)
        colour = LINES[i % len(LINES)]
        ax.plot(epochs, largest, color=colour, linestyle=DASHES[i % 4], linewidth=0.6, alpha=0.7)
        ax.plot(epochs, means, color=colour, linestyle=DASHES[i % 4], label=_name(cell))
        if cell.lost:
            ax.plot([epochs[-1]], [means[-1]], "x", color=INK, markersize=5, zorder=5)
    ax.axhline(results.study.recipe.clip_norm, color=MUTED, linewidth=0.8, linestyle=":")
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
    pairs = [
        (event["grad_norm_max"], event["grad_norm"])
        for trial in cell.trials
        for event in trial.curve
        if event.get("grad_norm") and event.get("grad_norm_max") is not None
    ]
    return max((top / usual for top, usual in pairs), default=float("nan"))


def gradient_table(results: Results) -> Table | None:
    """The same as numbers: usual, last and largest norm, and how far a step rose above others."""
    cells = [c for c in results.cells if traces(c)]
    if "gradients" not in results.study.reports or not cells:
        return None
    rows = [_row(c) for c in cells]
    columns = {
        "Network": [_name(c) for c in cells],
        "Usual norm": [f"{row['usual']:.2f}" for row in rows],
        "In the last epoch": [f"{row['last']:.2f}" for row in rows],
        "Largest norm": [f"{row['largest']:.2f}" for row in rows],
        "Largest / its epoch's mean": [f"{row['spike']:.1f}" for row in rows],
        "Trainings lost": [f"{len(c.lost)} of {len(c.trials)}" for c in cells],
    }
    note = (
        "Before clipping. Usual: the median over epochs of an epoch's mean over steps and seeds. "
        "The ratio is within one epoch of one training, the largest there is. Clipped at "
        f"{results.study.recipe.clip_norm:g}, so a larger norm did not reach the weights. The "
        "paper speaks of instability in large-scale training (Section 3.1): a small run need not "
        "show it."
    )
    return table("gradients", "Gradient norms", columns, rows, note=note)


def _row(cell: CellResult) -> dict[str, Any]:
    epochs = traces(cell)
    return {
        "network": cell.label,
        "usual": median(m for _, m, _ in epochs),
        "last": epochs[-1][1],
        "largest": max(top for *_, top in epochs),
        "spike": spike(cell),
        "lost": len(cell.lost),
    }


def _name(cell: CellResult) -> str:
    return ", ".join(f"{symbol(k)}: {v}" for k, v in cell.cell.asked.items())
