"""How one cell of a map is drawn: its green, its numbers, and a mark for everything special."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Polygon, Rectangle

from archsearch.reports import style
from archsearch.reports.cell_order import NOT_MEASURED, empty_word, in_ranking, shown
from archsearch.reports.style import FAINT, HATCH_FILL, HATCH_LINE, INK
from archsearch.results import CellResult, Comparison

CELL_WIDTH, CELL_HEIGHT = 0.80, 0.72
"""Inches."""

HATCHES = {
    "infeasible": "/////",
    "failed": "xxxxx",
    "diverged": "\\\\\\\\\\",
    "interrupted": "|||",
    "running": "---",
    "pending": "++",
    "pruned": "oo",
    NOT_MEASURED: "...",
}
"""By what stands for a cell without a value, in the legend's order."""
UNRANKED = "unranked"
LOST_HATCH = "\\\\\\"
DARK_TEXT, LIGHT_TEXT = "#000000", "#ffffff"
MARGIN = 0.018
"""White around a cell, as a share of it."""


@dataclass(frozen=True)
class Shade:
    """From a value to a green: darker is better. ``clipped``: a far outlier saturates."""

    norm: Normalize
    colours: Colormap
    clipped: bool

    def __call__(self, value: float) -> tuple[float, float, float, float]:
        r, g, b, a = self.colours(self.norm(value))
        return float(r), float(g), float(b), float(a)


def shade_of(compared: Comparison) -> Shade:
    """One scale for all panels. Far outliers on the bad side saturate, or all others look alike."""
    values = np.array([*compared.ranking.means.values()] or _plain_means(compared) or [0.0])
    up = compared.metric.higher_is_better
    worst, best = (values.min(), values.max()) if up else (values.max(), values.min())
    first, third = np.quantile(values, [0.25, 0.75] if up else [0.75, 0.25])
    fence = first - 3 * (third - first)
    clipped = bool(third != first and abs(best - fence) < abs(best - worst))
    low, high = sorted((float(fence if clipped else worst), float(best)))
    pad = 0.5 if low == high else 0.0
    colours = style.GREENS if up else style.GREENS.reversed()
    return Shade(Normalize(low - pad, high + pad, clip=True), colours, clipped)


def _plain_means(compared: Comparison) -> list[float]:
    return [e.mean for e in compared.estimates if e is not None]


def draw_cell(
    ax: Axes, i: int, j: int, cell: CellResult, compared: Comparison, shade: Shade
) -> None:
    """The cell in column ``i``, row ``j``, one unit wide and high.

    Green is the ranking's: a value outside it stands on grey, since no green can be held against
    it (the seeds that survive where others diverge flatter a network).
    """
    estimate = shown(cell, compared)
    if estimate is None:
        _draw_empty(ax, i, j, cell)
        return
    rgba = shade(estimate.mean)
    ranked = in_ranking(cell, compared)
    _fill(ax, i, j, rgba if ranked else FAINT)
    colour = readable_on(rgba) if ranked else INK
    if cell.lost:
        _fill(ax, i, j, "none", colour, LOST_HATCH, alpha=0.22)
    by, half = compared.metric, estimate.half_width
    bold = compared.ranking.can_rank and compared.ranking.best == cell.label
    middle = 0.62 if half is not None else 0.54
    value = by.text(estimate.mean, compared.digits)
    _words(ax, i, j + middle, value, 10, colour, weight="bold" if bold else "normal")
    if half is not None:
        _words(ax, i, j + 0.38, f"± {by.text(half, compared.digits)}", 6.8, colour)
    _words(ax, i, j + 0.17, _small(cell), 6.2, colour)
    _mark_repair(ax, i, j, cell, colour)
    if compared.ranking.can_rank and cell.label in compared.ranking.tied:
        box = (float(i) + MARGIN, float(j) + MARGIN, 1 - 2 * MARGIN, 1 - 2 * MARGIN)
        outline(ax, box, (CELL_WIDTH, CELL_HEIGHT), best=cell.label == compared.ranking.best)


def _small(cell: CellResult) -> str:
    """The line under the value: L3, and how many seeds are left when some were lost."""
    l3 = getattr(cell.cell.variant, "l3", None)
    words = [f"L₃ {l3}"] if l3 is not None else []
    if cell.lost:
        words.append(f"{len(cell.trials) - len(cell.lost)}/{len(cell.trials)} seeds")
    return " · ".join(words)


def _draw_empty(ax: Axes, i: int, j: int, cell: CellResult) -> None:
    state = empty_word(cell)
    _fill(ax, i, j, HATCH_FILL, HATCH_LINE, HATCHES[state])
    words: list[str] = [state]
    if state == "failed":
        words += sorted({t.record.kind for t in cell.lost if t.record and t.record.kind})[:1]
    if state in ("running", "interrupted"):
        done = max(len(t.curve) for t in cell.trials)
        words.append(f"epoch {done} of {cell.trials[0].trial.recipe.epochs}")
    box = {"boxstyle": "square,pad=0.25", "facecolor": HATCH_FILL, "edgecolor": "none"}
    for k, line in enumerate(words):
        y = j + 0.5 + 0.19 * ((len(words) - 1) / 2 - k)
        _words(ax, i, y, line, 6.4, INK, bbox=box)
    _mark_repair(ax, i, j, cell, INK, bbox=box)


def _words(ax: Axes, i: int, y: float, text: str, size: float, colour: str, **more: Any) -> None:
    ax.text(i + 0.5, y, text, size=size, color=colour, ha="center", va="center", **more)


def _fill(
    ax: Axes,
    i: float,
    j: float,
    fill: str | tuple[float, ...],
    line: str = "none",
    hatch: str | None = None,
    alpha: float | None = None,
) -> None:
    corner, side = (i + MARGIN, j + MARGIN), 1 - 2 * MARGIN
    ax.add_patch(
        Rectangle(
            corner, side, side,
            facecolor=fill, edgecolor=line, hatch=hatch, linewidth=0, alpha=alpha,
        )
    )  # fmt: skip


def _mark_repair(ax: Axes, i: int, j: int, cell: CellResult, colour: str, **more: Any) -> None:
    """A folded corner, and what was changed: 48→64."""
    if cell.cell.fate != "repaired":
        return
    folded_corner(ax, i + 1 - MARGIN, j + 1 - MARGIN, 0.16, CELL_WIDTH / CELL_HEIGHT, colour)
    text = ", ".join(f"{asked}→{used}" for asked, used in cell.changes().values())
    _words(ax, i, j + 0.855, text, 6.2, colour, **more)


def folded_corner(
    ax: Axes, right: float, top: float, side: float, aspect: float, colour: str
) -> None:
    points = [(right - side, top), (right, top), (right, top - side * aspect)]
    ax.add_patch(Polygon(points, facecolor=colour, linewidth=0))


def outline(
    ax: Axes,
    box: tuple[float, float, float, float],
    inches: tuple[float, float],
    best: bool,
    weight: float = 1.0,
) -> None:
    """Black beside white, so that it shows on every green, in grey print and on a dark page.

    The best has a solid line with white inside, a tied one dashes on white. ``box`` is x, y, width
    and height in the axes' units, ``inches`` the size of one unit.
    """
    if best:
        _frame(ax, box, inches, 1.7 * weight, 0.0, "#000000")
        _frame(ax, box, inches, 1.7 * weight, 1.7 * weight, "#ffffff")
    else:
        _frame(ax, box, inches, 2.0 * weight, 0.0, "#ffffff")
        _frame(ax, box, inches, 1.1 * weight, 0.45 * weight, "#000000", (0, (3, 1.8)))


def _frame(
    ax: Axes,
    box: tuple[float, float, float, float],
    inches: tuple[float, float],
    points: float,
    inset: float,
    colour: str,
    dash: str | tuple[float, tuple[float, float]] = "-",
) -> None:
    """A line of ``points`` whose outer edge lies ``inset`` points inside the box."""
    dx, dy = ((inset + points / 2) / 72 / size for size in inches)
    x, y, width, height = box
    ax.add_patch(
        Rectangle(
            (x + dx, y + dy), width - 2 * dx, height - 2 * dy, fill=False, edgecolor=colour,
            linewidth=points, linestyle=dash, joinstyle="miter",
        )
    )  # fmt: skip


def readable_on(rgba: tuple[float, ...]) -> str:
    """Dark or light text, whichever has more contrast by WCAG's relative luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return DARK_TEXT if luminance > 0.179 else LIGHT_TEXT


def swatch(ax: Axes, x: float, y: float, kind: str, side: float) -> None:
    """A square sample of a mark, centred at height ``y``; the axes are in inches."""
    empty = kind in HATCHES
    hatch = HATCHES.get(kind, LOST_HATCH if kind == "lost" else None)
    fill = HATCH_FILL if empty else FAINT if kind == UNRANKED else style.GREENS(0.45)
    bottom = y - side / 2
    ax.add_patch(
        Rectangle(
            (x, bottom), side, side, linewidth=0, hatch=hatch,
            facecolor=fill, edgecolor=HATCH_LINE if empty else DARK_TEXT,
        )
    )  # fmt: skip
    if kind in ("best", "tied"):
        outline(ax, (x, bottom, side, side), (1.0, 1.0), best=kind == "best", weight=0.9)
    if kind == "repaired":
        folded_corner(ax, x + side, bottom + side, side * 0.5, 1.0, DARK_TEXT)
