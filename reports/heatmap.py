"""A map of a grid in the manner of the paper's Fig. A: a panel per C', C1 by L1.

Every cell of the plan is there: its mean and interval, what was repaired, or in words why it has
none. The best cell and every cell that cannot be told from it are outlined.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from archsearch.reports import style
from archsearch.reports.cell_order import best_has_best_mean, empty_word, in_ranking
from archsearch.reports.heatmap_cells import (
    CELL_HEIGHT,
    CELL_WIDTH,
    HATCHES,
    UNRANKED,
    Shade,
    draw_cell,
    shade_of,
    swatch,
)
from archsearch.reports.phrases import (
    compared_words,
    confounding,
    percent,
    seeds_words,
    single_seed_warning,
)
from archsearch.reports.style import MUTED, symbol
from archsearch.results import CellResult, Comparison, Results

Axes3 = tuple[str, str, str]

LEFT, RIGHT, TOP, GAP, LINE, MIN_WIDTH = 0.48, 0.66, 0.80, 0.22, 0.17, 5.0
"""Inches: margins, between panels, one line of text, the narrowest figure."""
SWATCH, LEGEND_WIDTH = 0.17, 2.35


@dataclass(frozen=True)
class Grid:
    """Where every cell stands: panel, row and column values, each ascending."""

    axes: Axes3
    panels: tuple[Any, ...]
    rows: tuple[Any, ...]
    columns: tuple[Any, ...]
    cells: Mapping[tuple[Any, Any, Any], CellResult]


def grid_of(results: Results, axes: Axes3 | None = None) -> Grid:
    """The places of a run's cells on a map; ``axes`` are (panel, y, x), the study's by default.

    Raises:
        ValueError: when the study names no axes, a cell has none of them, or two cells share one
            place.
    """
    axes = axes or results.study.axes
    if axes is None:
        raise ValueError(f"the study {results.study.name} names no axes for a heatmap")
    cells: dict[tuple[Any, Any, Any], CellResult] = {}
    for cell in results.cells:
        if missing := [a for a in axes if a not in cell.cell.asked]:
            known = ", ".join(cell.cell.asked)
            raise ValueError(f"no coordinate {', '.join(missing)} in the plan; it has {known}")
        place = (cell.cell.asked[axes[0]], cell.cell.asked[axes[1]], cell.cell.asked[axes[2]])
        if place in cells:
            where = ", ".join(f"{a} = {v}" for a, v in zip(axes, place, strict=True))
            raise ValueError(f"two cells stand at {where}: choose axes that tell them apart")
        cells[place] = cell
    panels, rows, columns = (tuple(sorted({p[i] for p in cells})) for i in range(3))
    return Grid(axes, panels, rows, columns, cells)


def figure(results: Results, metric: str | None = None, axes: Axes3 | None = None) -> Figure:
    """All panels side by side with colour bar, legend and notes. Call within `style.styled`."""
    grid, compared = grid_of(results, axes), results.compare(metric)
    panel_width, height = len(grid.columns) * CELL_WIDTH, len(grid.rows) * CELL_HEIGHT
    width = max(LEFT + len(grid.panels) * (panel_width + GAP) - GAP + RIGHT, MIN_WIDTH)
    notes = wrapped_notes(results, compared, width - LEFT)
    legend = _legend_rows(legend_entries(grid, compared), width)
    below = 0.52 + LINE * (1.35 * len(legend) + len(notes)) + 0.1
    total, shade = TOP + height + below, shade_of(compared)
    fig = Figure(figsize=(width, total))
    fig.text(LEFT / width, 1 - 0.24 / total, compared.metric.axis, weight="bold", size=10.5)
    words = seeds_words(results, compared)
    fig.text(LEFT / width, 1 - 0.42 / total, words, size=8, color=MUTED)
    for i, panel in enumerate(grid.panels):
        x = LEFT + i * (panel_width + GAP)
        box = (x / width, below / total, panel_width / width, height / total)
        draw_panel(fig.add_axes(box), grid, panel, compared, shade, row_labels=i == 0)
    right = LEFT + len(grid.panels) * (panel_width + GAP) - GAP + 0.12
    if any(e is not None for e in compared.estimates):
        box = (right / width, below / total, 0.1 / width, height / total)
        _colour_bar(fig, shade, compared, box)
    y = _draw_legend(fig, legend, below - 0.56)
    for k, note in enumerate(notes):
        fig.text(LEFT / width, (y - k * LINE) / total, note, size=7.5, color=MUTED, va="center")
    return fig


def panel_figure(
    results: Results, panel: Any, metric: str | None = None, axes: Axes3 | None = None
) -> Figure:
    """One panel alone, for a page whose columns wrap. Call within `style.styled`."""
    grid, compared = grid_of(results, axes), results.compare(metric)
    width, height = len(grid.columns) * CELL_WIDTH, len(grid.rows) * CELL_HEIGHT
    top, bottom = 0.25, 0.36
    total = top + height + bottom
    fig = Figure(figsize=(LEFT + width + 0.02, total))
    box = (LEFT / (LEFT + width + 0.02), bottom / total, width / (LEFT + width + 0.02))
    ax = fig.add_axes((*box, height / total))
    draw_panel(ax, grid, panel, compared, shade_of(compared), row_labels=True)
    return fig


def legend_figure(results: Results, metric: str | None = None, axes: Axes3 | None = None) -> Figure:
    """The legend alone, one mark a line. Call within `style.styled`."""
    entries = legend_entries(grid_of(results, axes), results.compare(metric))
    rows: list[Row] = [[(0.01, kind, text)] for kind, text in entries]
    fig = Figure(figsize=(LEGEND_WIDTH, LINE * 1.5 * max(len(rows), 1)))
    _draw_legend(fig, rows, LINE * 1.5 * (len(rows) - 0.5), LINE * 1.5)
    return fig


def draw_panel(
    ax: Axes, grid: Grid, panel: Any, compared: Comparison, shade: Shade, row_labels: bool
) -> None:
    """One panel: rows ascend upwards, as an axis does."""
    ax.set_xlim(0, len(grid.columns))
    ax.set_ylim(0, len(grid.rows))
    for j, row in enumerate(grid.rows):
        for i, column in enumerate(grid.columns):
            if cell := grid.cells.get((panel, row, column)):
                draw_cell(ax, i, j, cell, compared, shade)
    ax.set_title(f"{symbol(grid.axes[0])} = {panel}", pad=5)
    ax.set_xticks(np.arange(len(grid.columns)) + 0.5, [str(c) for c in grid.columns])
    ax.set_yticks(np.arange(len(grid.rows)) + 0.5, [str(r) for r in grid.rows])
    ax.set_xlabel(symbol(grid.axes[2]), labelpad=2)
    if row_labels:
        ax.text(-0.36, len(grid.rows) / 2, symbol(grid.axes[1]), ha="right", va="center")
    else:
        ax.set_yticklabels([])
    ax.tick_params(length=0, pad=4)
    ax.spines[:].set_visible(False)


def _colour_bar(
    fig: Figure, shade: Shade, compared: Comparison, box: tuple[float, float, float, float]
) -> None:
    ax = fig.add_axes(box)
    up = compared.metric.higher_is_better
    extend = ("min" if up else "max") if shade.clipped else "neither"
    bar = fig.colorbar(ScalarMappable(shade.norm, shade.colours), cax=ax, extend=extend)
    bar.locator = MaxNLocator(5)
    bar.update_ticks()
    bar.outline.set_visible(False)
    ax.tick_params(length=2, pad=2, labelsize=7.5)
    if not up:
        ax.invert_yaxis()


def legend_entries(grid: Grid, compared: Comparison) -> list[tuple[str, str]]:
    """Mark and meaning, of those that this map shows."""
    cells, ranking = list(grid.cells.values()), compared.ranking
    found = []
    if ranking.can_rank:
        found.append(("best", _best_words(compared)))
        if len(ranking.tied) > 1:
            found.append(("tied", f"cannot be told from it ({percent(ranking.level)})"))
    if any(c.cell.fate == "repaired" for c in cells):
        moved = {name for c in cells for name in c.changes() if c.cell.fate == "repaired"}
        how = f": {', '.join(map(symbol, sorted(moved)))} moved to a legal value" if moved else ""
        found.append(("repaired", f"repaired{how}"))
    empty = {empty_word(c) for c in cells if compared.estimates[c.index] is None}
    found += [(word, word) for word in HATCHES if word in empty]
    valued = [c for c in cells if compared.estimates[c.index] is not None]
    if any(c.lost for c in valued):
        found.append(("lost", "some seeds failed or diverged"))
    if not all(in_ranking(c, compared) for c in valued):
        found.append((UNRANKED, "grey: not in the ranking"))
    return found


def _best_words(compared: Comparison) -> str:
    words = f"{'highest' if compared.metric.higher_is_better else 'lowest'} mean"
    return words if best_has_best_mean(compared) else f"{words} of those not shown to be worse"


Row = list[tuple[float, str, str]]


def _legend_rows(entries: list[tuple[str, str]], width: float) -> list[Row]:
    """Break the legend into rows of (x in inches, mark, text) that fit the figure."""
    dpi = 288.0  # fine enough that rounding to pixels does not show
    renderer = FigureCanvasAgg(Figure(dpi=dpi)).get_renderer()  # type: ignore[no-untyped-call]
    rows: list[Row] = [[]] if entries else []
    x = LEFT
    for kind, text in entries:
        probe = Figure(dpi=dpi).text(0, 0, text, size=7.5)
        needed = SWATCH + 0.06 + probe.get_window_extent(renderer).width / dpi
        if rows[-1] and x + needed > width - 0.05:
            rows.append([])
            x = LEFT
        rows[-1].append((x, kind, text))
        x += needed + 0.2
    return rows


def _draw_legend(fig: Figure, rows: list[Row], top: float, line: float = LINE * 1.35) -> float:
    """Draw from ``top`` (inches) downwards; returns where the next line stands."""
    width, height = fig.get_size_inches()
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.set_xlim(0, width)
    ax.set_ylim(0, height)
    for k, row in enumerate(rows):
        y = top - k * line
        for x, kind, text in row:
            swatch(ax, x, y, kind, SWATCH)
            ax.text(x + SWATCH + 0.06, y - 0.005, text, size=7.5, va="center")
    return top - len(rows) * line


def wrapped_notes(results: Results, compared: Comparison, width: float) -> list[str]:
    """What must be known to read the map, broken to ``width`` inches."""
    told = (
        single_seed_warning(results, compared),
        compared_words(results, compared),
        confounding(results),
    )
    return [line for note in told if note for line in wrap(note, int(width / 0.064))]


def render(
    results: Results,
    out_dir: Path,
    metric: str | None = None,
    axes: Axes3 | None = None,
    name: str = "heatmap",
) -> list[Path]:
    """Draw the map as PNG and SVG into ``out_dir``.

    Raises:
        ValueError: as `grid_of`, and for an unknown metric.
    """
    with style.styled():
        return style.save(figure(results, metric, axes), out_dir, name)
