"""Names beside points: where several lie close, each stands where it covers nothing.

A fixed order of places is tried and the least bad one taken, so the same numbers give the same
picture. A name that had to go further away is tied to its point by a thin line.
"""

from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.transforms import Bbox

SIZE = 7.5
RINGS = (6.0, 16.0, 27.0, 39.0, 52.0, 66.0)
"""Points between a name and its point, nearest first."""

SIDES = ((1, -1), (1, 1), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
"""Right or left, above or below, in the order that is preferred on the left half."""

AIR = 3.0
"""Half the side of the square, in points, that a marker is given."""

LINE_CROSSED = 1.5
"""How bad that is, where a step to the next ring counts 1; to cover a name or a marker, 100."""


def name_points(ax: Axes, names: Mapping[str, tuple[float, float]], colour: str) -> None:
    """Write each name beside its point (x, y), none over another or over a marker.

    To be called when all else is drawn and the limits are final.
    """
    middle = sum(ax.get_xlim()) / 2  # asking for the limits also settles them
    ax.get_ylim()
    to_points = 72 / _figure(ax).dpi
    lines, taken = _drawn(ax, to_points)
    room = _scaled(ax.bbox, to_points)
    for name, point in names.items():
        x, y = (float(v) * to_points for v in ax.transData.transform(point))
        places = list(_places(x, y, *_extent(name), mirrored=point[0] > middle))
        ring, box = min(places, key=lambda p: _badness(p[0], p[1], (x, y), room, taken, lines))
        taken.append(box)
        tie = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
        ax.annotate(
            name, point, xytext=(box.x0 - x, box.y0 - y), textcoords="offset points",
            ha="left", va="bottom", size=SIZE, color=colour, arrowprops=tie if ring else None,
        )  # fmt: skip


def _figure(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def _scaled(box: Bbox, by: float) -> Bbox:
    return Bbox.from_extents(*(float(v) * by for v in box.extents))


def _drawn(ax: Axes, to_points: float) -> tuple[list[Path], list[Bbox]]:
    """The lines in the picture, and a box around every marker, in points."""
    lines, markers = [], []
    for line in ax.get_lines():
        at = line.get_transform().transform(line.get_xydata()) * to_points
        if line.get_marker() not in ("None", None, "", " "):
            markers += [Bbox.from_extents(x - AIR, y - AIR, x + AIR, y + AIR) for x, y in at]
        elif len(at) > 1:
            lines.append(Path(at))
    return lines, markers


def _extent(name: str) -> tuple[float, float]:
    """Width and height of the text, in points."""
    dpi = 288.0  # fine enough that rounding to pixels does not show
    renderer = FigureCanvasAgg(Figure(dpi=dpi)).get_renderer()  # type: ignore[no-untyped-call]
    found = Figure(dpi=dpi).text(0, 0, name, size=SIZE).get_window_extent(renderer)
    return found.width * 72 / dpi, found.height * 72 / dpi


def _places(
    x: float, y: float, width: float, height: float, *, mirrored: bool
) -> Iterator[tuple[int, Bbox]]:
    """Ring and box of every place around (x, y), the preferred ones first."""
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
    room: Bbox,
    taken: Sequence[Bbox],
    lines: Sequence[Path],
) -> float:
    outside = not (room.x0 <= box.x0 and box.x1 <= room.x1)
    outside = outside or not (room.y0 <= box.y0 and box.y1 <= room.y1)
    covered = outside + sum(box.overlaps(other) for other in taken)
    if ring:
        tie = Path([point, _nearest(box, point)])
        mine = Bbox.from_extents(point[0] - 1, point[1] - 1, point[0] + 1, point[1] + 1)
        covered += sum(
            tie.intersects_bbox(other, filled=False) for other in taken if not other.overlaps(mine)
        )
    crossed = sum(line.intersects_bbox(box, filled=False) for line in lines)
    return 100.0 * covered + LINE_CROSSED * crossed + ring


def _nearest(box: Bbox, point: tuple[float, float]) -> tuple[float, float]:
    x, y = point
    return min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
