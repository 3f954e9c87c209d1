"""The layout of a heatmap: panels, split into blocks where they are large, in lines of blocks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from archsearch.reports.heatmap_cells import CELL_HEIGHT, CELL_WIDTH

MAX_COLUMNS, MAX_ROWS = 10, 40
"""A panel with more is split into blocks of about the same size."""

LEFT, RIGHT, GAP, MAX_WIDTH = 0.48, 0.66, 0.22, 24.0
"""Inches: margins, space between blocks, and the width beyond which blocks go to a new line."""
BETWEEN = 0.85
"""Inches between two lines of blocks, for the labels under one and the titles over the next."""


@dataclass(frozen=True)
class Block:
    """A part of a panel: some of its rows and columns. ``part`` says which, if it is not all."""

    panel: Any
    rows: tuple[Any, ...]
    columns: tuple[Any, ...]
    part: str = ""

    @property
    def width(self) -> float:
        """Inches."""
        return len(self.columns) * CELL_WIDTH

    @property
    def height(self) -> float:
        """Inches."""
        return len(self.rows) * CELL_HEIGHT


@dataclass(frozen=True)
class Placed:
    """A block in a figure: its left edge and its height above the lowest line, in inches."""

    block: Block
    left: float
    bottom: float
    row_labels: bool


@dataclass(frozen=True)
class Layout:
    """All blocks of a figure; ``right`` and ``height`` are the extent of the blocks in inches.

    ``first_line`` is the bottom and the height of the first line.
    """

    blocks: tuple[Placed, ...]
    right: float
    height: float
    first_line: tuple[float, float]


def blocks_of(panels: Sequence[Any], rows: Sequence[Any], columns: Sequence[Any]) -> list[Block]:
    """Return the blocks of every panel, in reading order."""
    parts = [(r, c) for r in _chunks(rows, MAX_ROWS) for c in _chunks(columns, MAX_COLUMNS)]
    return [
        Block(panel, *part, f"part {i} of {len(parts)}" if len(parts) > 1 else "")
        for panel in panels
        for i, part in enumerate(parts, 1)
    ]


def layout(blocks: Sequence[Block]) -> Layout:
    """Return the positions of the blocks; each line has the height of its highest block."""
    lines = list(_lines(blocks))
    heights = [max(block.height for block in line) for line in lines]
    placed: list[Placed] = []
    bottom = total = sum(heights) + BETWEEN * (len(lines) - 1)
    right = 0.0
    for line, height in zip(lines, heights, strict=True):
        bottom -= height
        left = LEFT
        for i, block in enumerate(line):
            placed.append(Placed(block, left, bottom, row_labels=i == 0 or bool(block.part)))
            right = max(right, left + block.width)
            left += block.width + _gap(block)
        bottom -= BETWEEN
    return Layout((*placed,), right, total, (total - heights[0], heights[0]))


def _gap(block: Block) -> float:
    """Return the space after a block; parts of a panel have row labels of their own."""
    return GAP + (LEFT if block.part else 0.0)


def _lines(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    line: list[Block] = []
    width = LEFT + RIGHT
    for block in blocks:
        if line and width + block.width > MAX_WIDTH:
            yield line
            line, width = [], LEFT + RIGHT
        line.append(block)
        width += block.width + _gap(block)
    yield line


def _chunks(values: Sequence[Any], largest: int) -> list[tuple[Any, ...]]:
    """Split values into as few chunks as possible, of about the same length."""
    number = -(-len(values) // largest)
    ends = [round(i * len(values) / number) for i in range(number + 1)]
    return [tuple(values[a:b]) for a, b in pairwise(ends)]
