"""Names beside points, placed so that they overlap neither each other nor a marker.

Positions are tried in a fixed order and the one with the lowest penalty is used, so the same
numbers give the same figure. A thin line connects a name that is not close to its point.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from archsearch.reports.style import text_size

SIZE = 7.5
RINGS = (6.0, 16.0, 27.0, 39.0, 52.0, 66.0)
"""Distances of a name from its point in points, nearest first."""

SIDES = ((1, -1), (1, 1), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
"""(right, above) of the point, in the order of preference on the left half of the figure."""

MARKER_HALF = 3.0
"""Half the side, in points, of the square that represents a marker."""

LINE_CROSSED, OVERLAP = 1.5, 100.0
"""Penalties of crossing a line and of covering a name or a marker; the next ring costs 1."""

Boxes = NDArray[np.float64]
"""(N, 4): x0, y0, x1, y1 of N boxes, in points."""


def name_points(ax: Axes, names: Mapping[str, tuple[float, float]], color: str) -> None:
    """Write each name beside its point (x, y), none over another or over a marker.

    Call it when everything else is drawn and the limits are final.
    """
    middle = sum(ax.get_xlim()) / 2  # reading the limits also computes them
    ax.get_ylim()
    figure = ax.get_figure(root=True)
    assert figure is not None
    to_points = 72 / figure.dpi
    lines, markers = _lines_and_markers(ax, to_points)
    occupied = _extents(markers)
    area = Bbox(ax.bbox.get_points() * to_points)
    for name, point in names.items():
        x, y = (float(v) * to_points for v in ax.transData.transform(point))
        width, height = (72 * side for side in text_size(name, SIZE))
        candidates = list(_candidates(x, y, width, height, area, mirrored=point[0] > middle))
        ring, box = min(candidates, key=lambda c: _penalty(c, (x, y), area, occupied, lines))
        occupied = np.vstack([occupied, box.extents])
        line = {"arrowstyle": "-", "color": color, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
        ax.annotate(
            name, point, xytext=(box.x0 - x, box.y0 - y), textcoords="offset points",
            ha="left", va="bottom", size=SIZE, color=color, arrowprops=line if ring else None,
        )  # fmt: skip


@dataclass(frozen=True)
class _Lines:
    """The lines in a figure, and the box around each."""

    paths: Sequence[Path]
    boxes: Boxes

    def num_crossing(self, box: Bbox) -> int:
        near = np.flatnonzero(_overlaps(self.boxes, box))
        return sum(self.paths[int(i)].intersects_bbox(box, filled=False) for i in near)


def _lines_and_markers(ax: Axes, to_points: float) -> tuple[_Lines, list[Bbox]]:
    """Return the lines in the figure, and a box around every marker, in points."""
    lines, markers = [], []
    for line in ax.get_lines():
        vertices = line.get_transform().transform(line.get_xydata()) * to_points
        if line.get_marker() not in ("None", None, "", " "):
            markers += [_square(x, y, MARKER_HALF) for x, y in vertices]
        elif len(vertices) > 1:
            lines.append(Path(vertices))
    return _Lines(lines, _extents([line.get_extents() for line in lines])), markers


def _square(x: float, y: float, half: float) -> Bbox:
    return Bbox.from_extents(x - half, y - half, x + half, y + half)


def _candidates(
    x: float, y: float, width: float, height: float, area: Bbox, *, mirrored: bool
) -> Iterator[tuple[int, Bbox]]:
    """Yield ring and box of every position around (x, y), in the order of preference.

    Above and below its point, a name moves sideways into the ``area``.
    """
    for ring, distance in enumerate(RINGS):
        for right, up in SIDES:
            side, above = (-right, -up) if mirrored else (right, up)
            left = x + side * distance - width * (1 - side) / 2
            if side == 0:
                left = max(area.x0, min(left, area.x1 - width))
            rise = above * (distance if side == 0 else 0.6 * distance)
            yield ring, Bbox.from_bounds(left, y + rise - height * (1 - above) / 2, width, height)


def _penalty(
    candidate: tuple[int, Bbox],
    point: tuple[float, float],
    area: Bbox,
    occupied: Boxes,
    lines: _Lines,
) -> float:
    ring, box = candidate
    is_outside = not (area.x0 <= box.x0 and box.x1 <= area.x1)
    is_outside = is_outside or not (area.y0 <= box.y0 and box.y1 <= area.y1)
    covered = is_outside + int(_overlaps(occupied, box).sum())
    if ring:
        nearest = np.clip(point, box.min, box.max)
        connector = Path(np.array([point, nearest]))
        others = _overlaps(occupied, connector.get_extents())
        others &= ~_overlaps(occupied, _square(*point, 1))  # its own marker
        boxes = map(Bbox.from_extents, occupied[others])
        covered += sum(connector.intersects_bbox(other, filled=False) for other in boxes)
    return OVERLAP * covered + LINE_CROSSED * lines.num_crossing(box) + ring


def _extents(boxes: Sequence[Bbox]) -> Boxes:
    return np.array([box.extents for box in boxes], dtype=float).reshape(-1, 4)


def _overlaps(boxes: Boxes, box: Bbox) -> NDArray[np.bool_]:
    """Return whether each of the boxes overlaps or touches ``box``, as `Bbox.overlaps`."""
    x0, y0, x1, y1 = boxes.T
    return np.asarray((x0 <= box.x1) & (box.x0 <= x1) & (y0 <= box.y1) & (box.y0 <= y1))
