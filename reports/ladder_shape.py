"""Depth against width of the networks of a scaling ladder."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from archsearch.families.internimage import InternImageFamily
from archsearch.reports.card import Card, unless
from archsearch.reports.cell_order import empty_state
from archsearch.reports.columns import result_text
from archsearch.reports.context import Context
from archsearch.reports.style import INK, axes_with_title, series, symbol
from archsearch.results import CellResult, Comparison

FACTORS = ("alpha", "beta", "phi")


def ladder_figure(context: Context) -> Figure:
    """Plot a line per (alpha, beta), with factors and result beside each network."""
    rungs = _rungs(context)
    values = {k: {c.cell.requested.get(k) for c in rungs} for k in FACTORS}
    fixed = ", ".join(f"{symbol(k)} {v:g}" for k, (v, *more) in values.items() if not more and v)
    title = "Depth D = 3 L₁ + L₃" + (f", at {fixed}" if fixed else "")
    fig, ax = axes_with_title("Width C₁", title)
    pairs = [(c.cell.requested["alpha"], c.cell.requested["beta"]) for c in rungs]
    for i, pair in enumerate(sorted(set(pairs))):
        shapes = sorted(_shape(c) for c, p in zip(rungs, pairs, strict=True) if p == pair)
        ax.plot(*zip(*shapes, strict=True), marker="o", markersize=4.5, color=series(i)["color"])
    varying = [k for k in FACTORS if len(values[k]) > 1]
    for cell in rungs:
        requested = cell.cell.requested
        factors = (f"{symbol(k)} {requested[k]:g}" for k in varying if k in requested)
        _name_rung(ax, cell, " ".join(factors), context.comparison)
    low, high = ax.get_xlim()
    ax.set_xlim(low, high + 0.42 * (high - low))
    ax.margins(y=0.1)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    return fig


def _rungs(context: Context) -> list[CellResult]:
    cells = (c for c in context.cells if "alpha" in c.cell.requested)
    return [c for c in cells if isinstance(c.cell.variant, InternImageFamily)]


def _shape(cell: CellResult) -> tuple[int, int]:
    """Return width and depth."""
    variant = cell.cell.variant
    assert isinstance(variant, InternImageFamily)
    config = variant.config()
    return config.channels[0], sum(config.depths)


def _name_rung(ax: Axes, cell: CellResult, factors: str, comparison: Comparison) -> None:
    measured = cell.state == "complete" and comparison.has_value(cell)
    value = result_text(cell, comparison) if measured else empty_state(cell)
    ax.annotate(
        f"{factors}: {value}", _shape(cell), xytext=(6, 0), textcoords="offset points",
        va="center", size=7, color=INK,
    )  # fmt: skip


LADDER = Card(
    name="ladder",
    title="Depth and width of the ladder",
    skip_reason=unless(lambda c: len(_rungs(c)) > 1, "no two networks have scaling factors"),
    figure=ladder_figure,
    how_to_read="A point per network, with its scaling factors and its result.",
)
