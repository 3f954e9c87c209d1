"""How steady the gradient is, cell by cell: for studies that name this report (Section 3.1)."""

from statistics import mean, median

from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

from archsearch.results import CellResult, Results
from reports.formats import Table, table
from reports.style import DASHES, INK, LINES, MUTED, axes_with_title, legend_inside, symbol


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


def gradient_table(results: Results) -> Table | None:
    """The same as numbers: the usual norm, the largest, and how far above the usual it went."""
    cells = [c for c in results.cells if traces(c)]
    if "gradients" not in results.study.reports or not cells:
        return None
    usual = [median(m for _, m, _ in traces(c)) for c in cells]
    largest = [max(top for *_, top in traces(c)) for c in cells]
    clip = results.study.recipe.clip_norm
    columns = {
        "Network": [_name(c) for c in cells],
        "Usual norm": [f"{value:.2f}" for value in usual],
        "Largest norm": [f"{value:.2f}" for value in largest],
        "Largest / usual": [
            f"{top / value:.1f}" for top, value in zip(largest, usual, strict=True)
        ],
        "Trainings lost": [f"{len(c.lost)} of {len(c.trials)}" for c in cells],
    }
    rows = [
        {"network": c.label, "usual": value, "largest": top, "lost": len(c.lost)}
        for c, value, top in zip(cells, usual, largest, strict=True)
    ]
    note = (
        "Before clipping. Usual: the median over epochs of an epoch's mean. Clipped at "
        f"{clip:g}, so a larger norm did not reach the weights."
    )
    return table("gradients", "Gradient norms", columns, rows, note=note)


def _name(cell: CellResult) -> str:
    return ", ".join(f"{symbol(k)}: {v}" for k, v in cell.cell.asked.items())
