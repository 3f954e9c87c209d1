"""Drawing of one cell of a heatmap: its color, its numbers and its marks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Polygon, Rectangle

from archsearch.reports import style
from archsearch.reports.cell_order import NOT_MEASURED, empty_state, in_ranking, reported_interval
from archsearch.reports.style import FAINT, HATCH_FILL, HATCH_LINE, INK, symbol
from archsearch.results import CellResult, Comparison
from archsearch.stats.intervals import Interval

CELL_WIDTH, CELL_HEIGHT = 0.80, 0.72
"""Inches."""

HATCHES = {
    "infeasible": "/////", "failed": "xxxxx", "diverged": "\\\\\\\\\\", "interrupted": "|||",
    "running": "---", "pending": "++", "pruned": "oo", NOT_MEASURED: "...",
}  # fmt: skip
"""State of a cell without a value -> hatch, in the order of the legend."""
UNRANKED, INCOMPLETE = "unranked", "incomplete"
"""Marks of a cell outside the ranking, and of a cell with seeds that failed or diverged."""
INCOMPLETE_HATCH = "\\\\\\"
DARK_TEXT, LIGHT_TEXT = "#000000", "#ffffff"
MARGIN = 0.018
"""White margin of a cell, as a share of its size."""


@dataclass(frozen=True)
class Shade:
    """Maps a value to a green: darker is better. If ``clipped``, far outliers saturate."""

    norm: Normalize
    colors: Colormap
    clipped: bool

    def __call__(self, value: float) -> tuple[float, float, float, float]:
        r, g, b, a = self.colors(self.norm(value))
        return float(r), float(g), float(b), float(a)


def shade_of(comparison: Comparison) -> Shade:
    """Return one scale for all panels. Far outliers on the bad side saturate, so that the other
    values stay distinguishable."""
    plain_means = [e.mean for e in comparison.estimates if e is not None]
    values = np.array([*comparison.ranking.means.values()] or plain_means or [0.0])
    up = comparison.metric.higher_is_better
    worst, best = (values.min(), values.max()) if up else (values.max(), values.min())
    first, third = np.quantile(values, [0.25, 0.75] if up else [0.75, 0.25])
    fence = first - 3 * (third - first)
    clipped = bool(third != first and abs(best - fence) < abs(best - worst))
    low, high = sorted((float(fence if clipped else worst), float(best)))
    pad = 0.5 if low == high else 0.0
    colors = style.GREENS if up else style.GREENS.reversed()
    return Shade(Normalize(low - pad, high + pad, clip=True), colors, clipped)


def draw_cell(
    ax: Axes, i: int, j: int, cell: CellResult, comparison: Comparison, shade: Shade
) -> None:
    """Draw the cell in column ``i``, row ``j``, one unit wide and high.

    Only ranked cells are green. A value outside the ranking is on gray, since it is not comparable:
    if some seeds of a network diverge, the mean of the others is biased upwards.
    """
    interval, ranking = reported_interval(cell, comparison), comparison.ranking
    if interval is None:
        _draw_empty(ax, i, j, cell)
        return
    rgba = shade(interval.mean)
    ranked = in_ranking(cell, comparison)
    color = readable_on(rgba) if ranked else INK
    _rectangle(ax, _box(i, j), facecolor=rgba if ranked else FAINT, edgecolor="none")
    if cell.trials_without_result:
        hatch = {"edgecolor": color, "hatch": INCOMPLETE_HATCH, "alpha": 0.22}
        _rectangle(ax, _box(i, j), facecolor="none", **hatch)
    best = ranking.can_rank and cell.label == ranking.best
    _write_value(ax, i, j, interval, comparison, color, "bold" if best else "normal")
    _write(ax, i, j + 0.17, _small_text(cell), 6.2, color)
    _mark_repair(ax, i, j, cell, color)
    if ranking.can_rank and cell.label in ranking.tied_set:
        _outline(ax, _box(i, j), (CELL_WIDTH, CELL_HEIGHT), best, 1.0)


def _write_value(
    ax: Axes, i: int, j: int, interval: Interval, comparison: Comparison, color: str, weight: str
) -> None:
    metric, digits, half = comparison.metric, comparison.digits, interval.half_width
    y = j + (0.54 if half is None else 0.62)
    _write(ax, i, y, metric.text(interval.mean, digits), 10, color, weight=weight)
    if half is not None:
        _write(ax, i, j + 0.38, f"± {metric.text(half, digits)}", 6.8, color)


def _small_text(cell: CellResult) -> str:
    """Return the line under the value: the solved number, and the seeds left if some failed."""
    variant, seeds, parts = cell.cell.variant, len(cell.trials), []
    if variant is not None and variant.solved:
        parts.append(f"{symbol(variant.label_of(variant.solved))} {variant.solved_value}")
    if ended := len(cell.trials_without_result):
        parts.append(f"{seeds - ended}/{seeds} seeds")
    return " · ".join(parts)


def _draw_empty(ax: Axes, i: int, j: int, cell: CellResult) -> None:
    lines, hatch = _empty_lines(cell), HATCHES[empty_state(cell)]
    _rectangle(ax, _box(i, j), facecolor=HATCH_FILL, edgecolor=HATCH_LINE, hatch=hatch)
    box = {"boxstyle": "square,pad=0.25", "facecolor": HATCH_FILL, "edgecolor": "none"}
    for k, line in enumerate(lines):
        _write(ax, i, j + 0.5 + 0.19 * ((len(lines) - 1) / 2 - k), line, 6.4, INK, bbox=box)
    _mark_repair(ax, i, j, cell, INK, bbox=box)


def _empty_lines(cell: CellResult) -> list[str]:
    """Return the state, with the kind of a failure or the last finished epoch."""
    state = empty_state(cell)
    if state == "failed":
        return [state, *cell.failure_kinds[:1]]
    if state in ("running", "interrupted"):
        epochs = max(len(t.curve) for t in cell.trials)
        return [state, f"epoch {epochs} of {cell.trials[0].trial.recipe.epochs}"]
    return [state]


def _write(ax: Axes, i: int, y: float, text: str, size: float, color: str, **kwargs: Any) -> None:
    ax.text(i + 0.5, y, text, size=size, color=color, ha="center", va="center", **kwargs)


Box = tuple[float, float, float, float]
"""x, y, width and height in the units of the axes."""


def _box(i: int, j: int) -> Box:
    return i + MARGIN, j + MARGIN, 1 - 2 * MARGIN, 1 - 2 * MARGIN


def _rectangle(ax: Axes, box: Box, **kwargs: Any) -> None:
    x, y, width, height = box
    ax.add_patch(Rectangle((x, y), width, height, **{"linewidth": 0, **kwargs}))


def _mark_repair(ax: Axes, i: int, j: int, cell: CellResult, color: str, **kwargs: Any) -> None:
    """Mark a repaired cell by a folded corner and the change, such as 48→64."""
    if cell.cell.fate == "repaired":
        corner = i + 1 - MARGIN, j + 1 - MARGIN
        _fold_corner(ax, corner, 0.16, 0.16 * (CELL_WIDTH / CELL_HEIGHT), color)
        text = ", ".join(f"{requested}→{used}" for requested, used in cell.changes().values())
        _write(ax, i, j + 0.855, text, 6.2, color, **kwargs)


def _fold_corner(
    ax: Axes, corner: tuple[float, float], width: float, height: float, color: str
) -> None:
    x, y = corner
    points = [(x - width, y), (x, y), (x, y - height)]
    ax.add_patch(Polygon(points, facecolor=color, linewidth=0))


def _outline(ax: Axes, box: Box, inches: tuple[float, float], best: bool, weight: float) -> None:
    """Outline a cell in black and white, to be visible on every green, in print and on dark pages.

    The best cell has a solid line with white inside, a tied cell dashes on white. ``inches`` is the
    size of one unit. Lines are (points, points from the edge of the box, color, dash).
    """
    solid = (1.7, 0.0, "#000000", "-"), (1.7, 1.7, "#ffffff", "-")
    dashed = (2.0, 0.0, "#ffffff", "-"), (1.1, 0.45, "#000000", (0, (3, 1.8)))
    x, y, width, height = box
    for points, inset, color, dash in solid if best else dashed:
        dx, dy = (weight * (inset + points / 2) / 72 / size for size in inches)
        line = {"linewidth": points * weight, "linestyle": dash, "joinstyle": "miter"}
        inner = x + dx, y + dy, width - 2 * dx, height - 2 * dy
        _rectangle(ax, inner, fill=False, edgecolor=color, **line)


def readable_on(rgba: tuple[float, ...]) -> str:
    """Return dark or light text, whichever has more contrast by WCAG's relative luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return DARK_TEXT if luminance > 0.179 else LIGHT_TEXT


def draw_swatch(ax: Axes, x: float, y: float, mark: str, side: float) -> None:
    """Draw a square sample of a mark, centered at height ``y``; the axes are in inches."""
    empty, box = mark in HATCHES, (x, y - side / 2, side, side)
    hatch = HATCHES.get(mark, INCOMPLETE_HATCH if mark == INCOMPLETE else None)
    fill = HATCH_FILL if empty else FAINT if mark == UNRANKED else style.GREENS(0.45)
    _rectangle(ax, box, facecolor=fill, edgecolor=HATCH_LINE if empty else DARK_TEXT, hatch=hatch)
    if mark in ("best", "tied"):
        _outline(ax, box, (1.0, 1.0), mark == "best", 0.9)
    if mark == "repaired":
        _fold_corner(ax, (x + side, y + side / 2), side * 0.5, side * 0.5, DARK_TEXT)
