"""Names beside points: where several lie close, each name takes a position that covers nothing.

A fixed order of positions is tried and the least bad one taken, so the same numbers give the same
figure. A name that had to go further away is tied to its point by a thin line.
"""

from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.transforms import Bbox

from archsearch.reports.style import text_size

SIZE = 7.5
RINGS = (6.0, 16.0, 27.0, 39.0, 52.0, 66.0)
"""Points between a name and its point, nearest first."""

SIDES = ((1, -1), (1, 1), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
"""Right or left, above or below, in the order that is preferred on the left half."""

MARKER_HALF = 3.0
"""Half the side of the square, in points, that a marker is given."""

LINE_CROSSED = 1.5
"""How bad that is, where a step to the next ring counts 1; to cover a name or a marker, 100."""


def name_points(ax: Axes, names: Mapping[str, tuple[float, float]], color: str) -> None:
    """Write each name beside its point (x, y), none over another or over a marker.

    To be called when all else is drawn and the limits are final.
    """
    middle = sum(ax.get_xlim()) / 2  # asking for the limits also settles them
    ax.get_ylim()
    figure = ax.get_figure(root=True)
    assert figure is not None
    to_points = 72 / figure.dpi
    lines, taken = _lines_and_markers(ax, to_points)
    area = _scaled_box(ax.bbox, to_points)
    for name, point in names.items():
        x, y = (float(v) * to_points for v in ax.transData.transform(point))
        size = (72 * side for side in text_size(name, SIZE))
        candidates = list(_candidates(x, y, *size, mirrored=point[0] > middle))
        ring, box = min(candidates, key=lambda p: _badness(p[0], p[1], (x, y), area, taken, lines))
        taken.append(box)
        tie = {"arrowstyle": "-", "color": color, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
        ax.annotate(
            name, point, xytext=(box.x0 - x, box.y0 - y), textcoords="offset points",
            ha="left", va="bottom", size=SIZE, color=color, arrowprops=tie if ring else None,
        )  # fmt: skip


def _scaled_box(box: Bbox, by: float) -> Bbox:
    return Bbox.from_extents(*(float(v) * by for v in box.extents))


def _lines_and_markers(ax: Axes, to_points: float) -> tuple[list[Path], list[Bbox]]:
    """The lines in the figure, and a box around every marker, in points."""
    lines, markers = [], []
    for line in ax.get_lines():
        at = line.get_transform().transform(line.get_xydata()) * to_points
        if line.get_marker() not in ("None", None, "", " "):
            markers += [_square(x, y, MARKER_HALF) for x, y in at]
        elif len(at) > 1:
            lines.append(Path(at))
    return lines, markers


def _square(x: float, y: float, half: float) -> Bbox:
    return Bbox.from_extents(x - half, y - half, x + half, y + half)


def _candidates(
    x: float, y: float, width: float, height: float, *, mirrored: bool
) -> Iterator[tuple[int, Bbox]]:
    """Ring and box of every position around (x, y), the preferred ones first."""
    for ring, away in enumerate(RINGS):
        for right, up in SIDES:
            side = -right if mirrored else right
            above = -up if mirrored else up
            left = x + side * away - width * (1 - side) / 2
            bottom = y + above * (away if side == 0 else 0.6 * away) - height * (1 - above) / 2
            yield ring, Bbox.from_bounds(left, bottom, width, height)


def _badness(
    ring: int,
    box: Bbox,
    point: tuple[float, float],
    area: Bbox,
    taken: Sequence[Bbox],
    lines: Sequence[Path],
) -> float:
    outside = not (area.x0 <= box.x0 and box.x1 <= area.x1)
    outside = outside or not (area.y0 <= box.y0 and box.y1 <= area.y1)
    covered = outside + sum(box.overlaps(other) for other in taken)
    if ring:
        tie = Path([point, _nearest(box, point)])
        mine = _square(*point, 1)
        covered += sum(
            tie.intersects_bbox(other, filled=False) for other in taken if not other.overlaps(mine)
        )
    crossed = sum(line.intersects_bbox(box, filled=False) for line in lines)
    return 100.0 * covered + LINE_CROSSED * crossed + ring


def _nearest(box: Bbox, point: tuple[float, float]) -> tuple[float, float]:
    x, y = point
    return min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
