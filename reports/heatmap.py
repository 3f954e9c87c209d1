"""A heatmap of a grid, as the paper's Fig. A: a panel per C', C1 by L1, or the axes of any family.

It shows every cell of the plan, with its mean and interval and what was repaired, or the reason why
it has no value. The best cell and all cells statistically tied with it are outlined.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from archsearch.reports import heatmap_cells, phrases
from archsearch.reports.card import Card, Panels
from archsearch.reports.cell_order import best_has_best_mean, empty_state, in_ranking
from archsearch.reports.context import Context, HeatmapAxes
from archsearch.reports.heatmap_layout import LEFT, RIGHT, Block, blocks_of, layout
from archsearch.reports.style import MUTED, axes_at, text_at, text_size
from archsearch.results import CellResult, Comparison

TOP, LINE, MIN_WIDTH = 0.80, 0.17, 5.0
"""Inches: margin, line of text, minimum width of the figure."""
SWATCH, LEGEND_WIDTH = 0.17, 2.35
"""Inches: side of a swatch, width of the legend on a page."""

MAX_LABEL = 2
"""Characters of a label of rows that fit beside them."""

LegendLine = list[tuple[float, str, str]]
"""(x in inches, mark, text) of every entry."""


@dataclass(frozen=True)
class Grid:
    """The position of every cell: panel, row and column values, each ascending."""

    axes: HeatmapAxes
    panels: tuple[Any, ...]
    rows: tuple[Any, ...]
    columns: tuple[Any, ...]
    cells: Mapping[tuple[Any, Any, Any], CellResult]
    context: Context

    @property
    def comparison(self) -> Comparison:
        return self.context.comparison

    @property
    def blocks(self) -> list[Block]:
        """The panels, or their parts if they are wide or high."""
        return blocks_of(self.panels, self.rows, self.columns)


def grid_of(context: Context) -> Grid:
    """Return the positions of a run's cells on a heatmap.

    Raises:
        ValueError: if there are no axes, a cell lacks one of them, or two cells share a position.
    """
    axes = context.axes
    if not axes:
        raise ValueError(f"the study {context.results.study.name} names no axes for a heatmap")
    cells: dict[tuple[Any, Any, Any], CellResult] = {}
    for cell in context.cells:
        requested = cell.cell.requested
        if missing := ", ".join(a for a in axes if a not in requested):
            raise ValueError(f"no coordinate {missing} in the plan; it has {', '.join(requested)}")
        position = _position(axes, [requested[axis] for axis in axes])
        if position in cells:
            text = ", ".join(f"{a} = {requested[a]}" for a in axes)
            raise ValueError(f"two cells have the position {text}: choose other axes")
        cells[position] = cell
    panels, rows, columns = (tuple(sorted({p[i] for p in cells})) for i in range(3))
    return Grid(axes, panels, rows, columns, cells, context)


def _position(axes: HeatmapAxes, values: Sequence[Any]) -> tuple[tuple[Any, ...], Any, Any]:
    """Return panel, row and column of a cell; the panel has the values of all axes but two."""
    return tuple(values[:-2]), values[-2] if len(axes) > 1 else "", values[-1]


def why_no_heatmap(context: Context) -> str | None:
    """Return why the plan's cells do not fit on a heatmap; None if they do."""
    try:
        grid_of(context)
    except ValueError as error:
        return str(error)
    return None


def figure(context: Context) -> Figure:
    """Draw all panels side by side with color bar, legend and notes."""
    grid = grid_of(context)
    placed = layout(grid.blocks)
    width = max(placed.right + RIGHT, MIN_WIDTH)
    notes, legend = _wrapped_notes(context, width - LEFT), _legend_lines(grid, width)
    bottom = 0.52 + LINE * (1.35 * len(legend) + len(notes)) + 0.1
    top = TOP + placed.height + bottom
    fig = Figure(figsize=(width, top))
    text_at(fig, LEFT, top - 0.24, context.metric.axis, weight="bold", size=10.5)
    text_at(fig, LEFT, top - 0.42, phrases.interval_note(context), size=8, color=MUTED)
    for one in placed.blocks:
        ax = axes_at(fig, one.left, bottom + one.bottom, one.block.width, one.block.height)
        _draw_block(ax, grid, one.block, one.row_labels)
    if context.comparison.has_values:
        low, height = placed.first_line
        ax = axes_at(fig, placed.right + 0.12, bottom + low, 0.1, height)
        _draw_color_bar(fig, ax, context.comparison)
    y = _draw_legend(fig, legend, bottom - 0.56, 1.35 * LINE)
    for k, note in enumerate(notes):
        text_at(fig, LEFT, y - k * LINE, note, size=7.5, color=MUTED, va="center")
    return fig


def panels(context: Context) -> Panels:
    """Draw every block alone, and the legend, for a page whose columns wrap."""
    grid = grid_of(context)
    parts = {
        f"map{i}": (
            ", ".join(filter(None, (context.metric.label, _title(grid, block)))),
            _block_figure(grid, block),
        )
        for i, block in enumerate(grid.blocks)
    }
    return parts | {"legend": ("Legend", _legend_figure(grid))}


def _block_figure(grid: Grid, block: Block) -> Figure:
    top, bottom = 0.25, 0.36
    fig = Figure(figsize=(LEFT + block.width + 0.02, top + block.height + bottom))
    ax = axes_at(fig, LEFT, bottom, block.width, block.height)
    _draw_block(ax, grid, block, row_labels=True)
    return fig


def _title(grid: Grid, block: Block) -> str:
    """Return ``C′ = 16``, or ``C′ = 16, part 2 of 5``; without panels only the part, if any."""
    pairs = zip(grid.axes, block.panel, strict=False)
    titles = [f"{grid.context.symbol(axis)} = {value}" for axis, value in pairs]
    return ", ".join(filter(None, (*titles, block.part)))


def _legend_figure(grid: Grid) -> Figure:
    """Draw the legend with one entry per line."""
    lines: list[LegendLine] = [[(0.01, mark, text)] for mark, text in legend_entries(grid)]
    height = LINE * 1.5
    fig = Figure(figsize=(LEGEND_WIDTH, height * max(len(lines), 1)))
    _draw_legend(fig, lines, height * (len(lines) - 0.5), height)
    return fig


def _draw_block(ax: Axes, grid: Grid, block: Block, row_labels: bool) -> None:
    """Draw a block; its rows ascend upwards, as on an axis."""
    shade = heatmap_cells.shade_of(grid.comparison)
    ax.set(xlim=(0, len(block.columns)), ylim=(0, len(block.rows)))
    for j, row in enumerate(block.rows):
        for i, column in enumerate(block.columns):
            if cell := grid.cells.get((block.panel, row, column)):
                heatmap_cells.draw_cell(ax, i, j, cell, grid.comparison, shade)
    ax.set_title(_title(grid, block), pad=5)
    ax.set_xticks(np.arange(len(block.columns)) + 0.5, [*map(str, block.columns)])
    ax.set_yticks(np.arange(len(block.rows)) + 0.5, [*map(str, block.rows)])
    ax.set_xlabel(grid.context.symbol(grid.axes[-1]), labelpad=2)
    if row_labels:
        label = grid.context.symbol(grid.axes[-2]) if len(grid.axes) > 1 else ""
        if len(label) > MAX_LABEL:  # turned, it fits the margin
            ax.text(-0.5, len(block.rows) / 2, label, rotation=90, ha="center", va="center")
        else:
            ax.text(-0.36, len(block.rows) / 2, label, ha="right", va="center")
    else:
        ax.set_yticklabels([])
    ax.tick_params(length=0, pad=4)
    ax.spines[:].set_visible(False)


def _draw_color_bar(fig: Figure, ax: Axes, comparison: Comparison) -> None:
    shade, up = heatmap_cells.shade_of(comparison), comparison.metric.higher_is_better
    extend = ("min" if up else "max") if shade.clipped else "neither"
    bar = fig.colorbar(ScalarMappable(shade.norm, shade.colors), cax=ax, extend=extend)
    bar.locator = MaxNLocator(5)
    bar.update_ticks()
    bar.outline.set_visible(False)
    ax.tick_params(length=2, pad=2, labelsize=7.5)
    if not up:
        ax.invert_yaxis()


def legend_entries(grid: Grid) -> list[tuple[str, str]]:
    """Return (mark, meaning) of every mark on this heatmap."""
    cells, comparison = list(grid.cells.values()), grid.comparison
    ranking, entries = comparison.ranking, []
    if ranking.can_rank:
        entries.append(("best", _best_text(comparison)))
        if len(ranking.tied) > 1:
            level = phrases.percent(ranking.level)
            entries.append(("tied", f"statistically tied with it ({level})"))
    if repaired := [c for c in cells if c.cell.fate == "repaired"]:
        names = sorted({name for c in repaired for name in c.changes()})
        change = f": {', '.join(map(grid.context.symbol, names))} moved to a legal value"
        entries.append(("repaired", "repaired" + (change if names else "")))
    empty = {empty_state(c) for c in cells if not comparison.has_value(c)}
    entries += [(state, state) for state in heatmap_cells.HATCHES if state in empty]
    valued = list(filter(comparison.has_value, cells))
    if any(c.trials_without_result for c in valued):
        entries.append((heatmap_cells.INCOMPLETE, "some seeds failed or diverged"))
    if not all(in_ranking(c, comparison) for c in valued):
        entries.append((heatmap_cells.UNRANKED, "gray: not in the ranking"))
    return entries


def _best_text(comparison: Comparison) -> str:
    text = f"{'highest' if comparison.metric.higher_is_better else 'lowest'} mean"
    return text if best_has_best_mean(comparison) else f"{text} of the tied cells"


def _legend_lines(grid: Grid, width: float) -> list[LegendLine]:
    """Return the legend in lines that fit the figure."""
    lines: list[LegendLine] = []
    x = width
    for mark, text in legend_entries(grid):
        entry_width = SWATCH + 0.06 + text_size(text, 7.5)[0]
        if x + entry_width > width - 0.05:
            lines.append([])
            x = LEFT
        lines[-1].append((x, mark, text))
        x += entry_width + 0.2
    return lines


def _draw_legend(fig: Figure, lines: list[LegendLine], top: float, height: float) -> float:
    """Draw the legend from ``top`` (inches) downwards; return the height of the next line."""
    width, total = fig.get_size_inches()
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.set(xlim=(0, width), ylim=(0, total))
    for k, line in enumerate(lines):
        y = top - k * height
        for x, mark, text in line:
            heatmap_cells.draw_swatch(ax, x, y, mark, SWATCH)
            ax.text(x + SWATCH + 0.06, y - 0.005, text, size=7.5, va="center")
    return top - len(lines) * height


def _wrapped_notes(context: Context, width: float) -> list[str]:
    """Return the notes under the heatmap in lines of ``width`` inches."""
    notes = phrases.single_seed_warning, phrases.mean_note, phrases.size_confounding
    return [line for note in notes for line in wrap(note(context), int(width / 0.064))]


def _how_to_read(context: Context) -> str:
    if not context.comparison.has_values:
        return "No cell has a value."
    return phrases.paragraph(
        f"In each cell: {phrases.interval_note(context)}, and {context.solved}.",
        "Darker is better; all panels have the same scale.",
        phrases.mean_note(context),
    )


HEATMAP = Card(
    name="heatmap",
    title=lambda context: f"{context.metric.axis} over the grid",
    skip_reason=why_no_heatmap,
    figure=figure,
    panels=panels,
    how_to_read=_how_to_read,
)
