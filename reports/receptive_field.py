"""The effective receptive field, as in Fig. B: a row per network, a column per stage."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Circle

from archsearch.probes.photos import Photo, ReceptiveField
from archsearch.reports import style
from archsearch.reports.formats import Table, write_table

SIDE, GAP, LEFT, TOP, BOTTOM, ROW_TITLE = 1.5, 0.08, 0.08, 0.22, 0.62, 0.24
"""Inches: side of a panel, space between panels, margins, height of a row's title."""
FLOOR = 1e-4
"""Energy below this share of the panel's maximum is drawn as no energy."""


def render(photo: Photo, fields: Sequence[ReceptiveField], out: Path) -> list[Path]:
    """Write the figure and the table of radii into ``out``."""
    paths = style.write_figure(figure(photo, fields), out, "receptive-field")
    return paths + write_table(radii_table(fields, photo.shape[0]), out)


@style.styled()
def figure(photo: Photo, fields: Sequence[ReceptiveField]) -> Figure:
    """Draw the photo and the four stages of every network."""
    names = list(dict.fromkeys(f.network for f in fields))
    height = TOP + BOTTOM + len(names) * (SIDE + ROW_TITLE)
    fig = Figure(figsize=(LEFT * 2 + 5 * SIDE + 4 * GAP, height))
    for r, name in enumerate(names):
        bottom = height - TOP - (r + 1) * (SIDE + ROW_TITLE)
        row = [f for f in fields if f.network == name]
        ax = _axes(fig, 0, bottom)
        ax.imshow(photo)
        ax.plot(*row[0].center, marker="*", color=style.PAPER, mec=style.INK, ms=9)
        style.text_at(fig, LEFT, bottom + SIDE + 0.06, name, weight="bold", size=8.5)
        for field in row:
            ax = _axes(fig, field.stage, bottom)
            image = _draw_field(ax, field)
            if r == 0:
                ax.set_title(f"Stage {field.stage}", loc="center", pad=20)
    _draw_color_bar(fig, image)
    return fig


def _axes(fig: Figure, column: int, bottom: float) -> Axes:
    return style.framed(style.axes_at(fig, LEFT + column * (SIDE + GAP), bottom, SIDE, SIDE))


def _draw_field(ax: Axes, field: ReceptiveField) -> AxesImage:
    side = field.energy.shape[0]
    share = field.energy / max(float(field.energy.max()), np.finfo(float).tiny)
    norm = LogNorm(FLOOR, 1)
    image = ax.imshow(
        np.maximum(share, FLOOR), cmap=style.GREENS, norm=norm, interpolation="nearest"
    )
    for radius, line in ((field.radius50, "-"), (field.radius90, (0, (3, 2)))):
        ax.add_patch(Circle(field.center, radius, fill=False, color=style.LINES[1], ls=line, lw=1))
    ax.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
    ax.text(
        0.97, 0.03, f"{field.radius50:.0f} / {field.radius90:.0f} px", transform=ax.transAxes,
        ha="right", va="bottom", size=7, color=style.INK,
        bbox={"facecolor": style.PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 1.2},
    )  # fmt: skip
    return image


def _draw_color_bar(fig: Figure, image: AxesImage) -> None:
    left, length = LEFT + SIDE + GAP, 2 * SIDE + GAP
    label = "Squared gradient, share of the panel's maximum"
    bar = style.color_bar(fig, image, (left, 0.34, length), label)
    bar.set_xticks([FLOOR, 1e-3, 1e-2, 1e-1, 1], ["0.01%", "0.1%", "1%", "10%", "100%"])
    bar.set_xticks([], minor=True)
    text = "Circles contain 50% (solid) and 90% (dashed)\nof the energy; radii are in pixels."
    style.text_at(fig, left + length + 0.3, 0.42, text, size=7.5, color=style.MUTED, va="top")


def radii_table(fields: Sequence[ReceptiveField], size: int) -> Table:
    """Return a row per network and stage, with the radii in pixels of the image."""
    rows = [
        {
            "network": f.network, "stage": f.stage, "x": f.center[0], "y": f.center[1],
            "radius50": f.radius50, "radius90": f.radius90, "image_size": size,
        }
        for f in fields
    ]  # fmt: skip
    columns = {
        "Network": [f.network for f in fields],
        "Stage": [str(f.stage) for f in fields],
        "50% within (px)": [f"{f.radius50:.1f}" for f in fields],
        "90% within (px)": [f"{f.radius90:.1f}" for f in fields],
    }
    note = (
        f"Radius around the query pixel, in pixels of an image of {size} x {size}, that contains "
        "this share of the squared gradient. The paper shows images (Fig. B) and no numbers."
    )
    title = "Effective receptive field"
    return Table.of(columns, rows, note=note, title=title, name="receptive-field")
