"""Box mAP of a detector on scaled images, as in Fig. C, row 3."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from archsearch.probes.scale_invariance import AtScale
from archsearch.reports.formats import Table, number, write_table
from archsearch.reports.style import horizontal_grid, series, styled, write_figure

WIDTH, HEIGHT = 7.4, 3.2
TITLES = {
    "consistency": "Box mAP (%) against the boxes at factor 1",
    "box_ap": "Box mAP (%) against the annotated boxes",
}

Points = Sequence[AtScale]


def render(points: Points, out: Path) -> list[Path]:
    """Write the curves and their numbers into ``out``."""
    return write_figure(figure(points), out, "scale-invariance") + write_table(table(points), out)


@styled()
def figure(points: Points) -> Figure:
    """Draw two panels with a line per network."""
    fig = Figure(figsize=(WIDTH, HEIGHT))
    names = list(dict.fromkeys(p.network for p in points))
    for i, (field, title) in enumerate(TITLES.items()):
        ax = fig.add_axes((0.075 + i * 0.49, 0.16, 0.42, 0.7))
        for j, name in enumerate(names):
            _plot(ax, [p for p in points if p.network == name], field, j)
        ax.set_xlabel("Factor of the image's sides")
        ax.set_title(title, weight="normal", size=8.5, x=-0.12, pad=8)
        ax.set_ylim(bottom=0)
        horizontal_grid(ax)
    ax.legend(loc="lower right")
    return fig


def _plot(ax: Axes, points: Points, field: str, i: int) -> None:
    pairs = [(p.factor, value) for p in points if (value := getattr(p, field)) is not None]
    x, y = zip(*pairs, strict=True) if pairs else ((), ())
    ax.plot(x, y, **series(i), marker="o", markersize=3, label=points[0].network)


def table(points: Points) -> Table:
    """Return a row per network and factor."""
    columns = {
        "Network": [p.network for p in points],
        "Factor": [f"{p.factor:g}" for p in points],
        "Shorter side": [f"{p.shorter_side} px" for p in points],
        "Against factor 1 (%)": [number(p.consistency, ".1f") for p in points],
        "Against the annotation (%)": [number(p.box_ap, ".1f") for p in points],
    }
    note = (
        f"Box mAP over IoU 0.5 to 0.95 of {points[0].num_images} images, with boxes scaled back to "
        "the image as stored. All boxes that a network returns at factor 1 (score 0.05 and above, "
        "at most 100) are the truth of the first column. Larger factors enlarge the stored image, "
        "which has no more detail. One set of weights each and no interval: differences of "
        "networks are not tested. The paper shows curves (Fig. C, row 3) and no numbers."
    )
    title, rows = "Box mAP on scaled images", map(vars, points)
    return Table.of(columns, rows, note=note, title=title, name="scale-invariance")
