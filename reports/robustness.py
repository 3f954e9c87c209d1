"""Prediction consistency under translation and rotation, as in Fig. C, rows 1 and 2."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from archsearch.probes.photos import Consistency
from archsearch.reports.formats import Table, write_table
from archsearch.reports.style import horizontal_grid, series, styled, write_figure

WIDTH, HEIGHT = 7.4, 3.2
TITLES = {"translation": "Shift (pixels)", "rotation": "Rotation (degrees)"}

Points = Sequence[Consistency]


def render(points: Points, image_size: int, out: Path) -> list[Path]:
    """Write the curves and their numbers into ``out``."""
    paths = write_figure(figure(points, image_size), out, "robustness")
    return paths + write_table(consistency_table(points, image_size), out)


@styled()
def figure(points: Points, image_size: int) -> Figure:
    """Draw two panels with a line per network and its 95% interval as a band."""
    fig = Figure(figsize=(WIDTH, HEIGHT))
    names = list(dict.fromkeys(c.network for c in points))
    low = min(c.low for c in points)
    for i, (transform, title) in enumerate(TITLES.items()):
        ax = fig.add_axes((0.075 + i * 0.49, 0.2, 0.42, 0.66))
        for j, name in enumerate(names):
            _plot(ax, [c for c in points if (c.network, c.transform) == (name, transform)], j)
        ax.set_xlabel(title if transform == "rotation" else _shift_label(points, image_size))
        ax.set_ylim(max(0.0, 100 * low - 4), 102.5)  # room for the dot at 100
        horizontal_grid(ax)
        if i == 0:
            ax.set_title("Predictions unchanged (%)", weight="normal", size=8.5, x=-0.12, pad=8)
    ax.legend(loc="lower left")
    return fig


def _shift_label(points: Points, image_size: int) -> str:
    """Return the label of shifts, with the largest shift in the paper's pixels if sizes differ."""
    title = TITLES["translation"]
    largest = max((c for c in points if c.transform == "translation"), key=lambda c: c.amount)
    if image_size == 224:
        return title
    return (
        f"{title[:-1]} of {image_size} × {image_size};\n"
        f"{largest.amount:g} equal {largest.paper_amount:.0f} of the paper's 224)"
    )


def _plot(ax: Axes, points: Points, i: int) -> None:
    x, y = [p.amount for p in points], [100 * p.share for p in points]
    low, high = [100 * p.low for p in points], [100 * p.high for p in points]
    ax.plot(x, y, **series(i), marker="o", markersize=3, label=points[0].network)
    ax.fill_between(x, low, high, color=series(i)["color"], alpha=0.15, linewidth=0)


def consistency_table(points: Points, image_size: int) -> Table:
    """Return a row per point of the curves."""
    columns = {
        "Network": [c.network for c in points],
        "Transform": [c.transform for c in points],
        "Amount": [_amount(c, c.amount) for c in points],
        "In the paper": [_amount(c, round(c.paper_amount)) for c in points],
        "Unchanged (%)": [f"{100 * c.share:.1f}" for c in points],
        "95% interval": [f"{100 * c.low:.1f} to {100 * c.high:.1f}" for c in points],
        "Accuracy (%)": [f"{c.accuracy:.1f}" for c in points],
    }
    note = (
        f"Share of {points[0].num_images} validation images at {image_size} x {image_size} that "
        "keep the prediction of the original image, over shifts in four directions and rotations "
        "in both; Wilson's intervals over images. The paper shows curves (Fig. C) and no numbers."
    )
    title, rows = "Prediction consistency", map(vars, points)
    return Table.of(columns, rows, note=note, title=title, name="robustness")


def _amount(c: Consistency, pixels: float) -> str:
    return f"{pixels:g} px" if c.transform == "translation" else f"{c.amount:g}°"
