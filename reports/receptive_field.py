"""Fig. B: what each stage answers to, a row per network, a column per stage."""

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
from archsearch.reports.formats import Table, table, write
from archsearch.reports.style import GREENS, INK, MUTED, PAPER

SIDE, GAP, LEFT, TOP, BOTTOM = 1.5, 0.08, 0.08, 0.22, 0.62
"""Inches: a panel, between panels, margins."""
ROW_TITLE = 0.24
FLOOR = 1e-4
"""Energy below this share of the panel's largest is not told from none."""


def render(picture: Photo, fields: Sequence[ReceptiveField], out: Path) -> list[Path]:
    """Write the picture and the table of radii into ``out``."""
    with style.styled():
        paths = style.save(figure(picture, fields), out, "receptive-field")
    return paths + write(radii_table(fields, picture.shape[0]), out)


def figure(picture: Photo, fields: Sequence[ReceptiveField]) -> Figure:
    """Call within `style.styled`."""
    names = list(dict.fromkeys(f.network for f in fields))
    width = LEFT * 2 + 5 * SIDE + 4 * GAP
    height = TOP + BOTTOM + len(names) * (SIDE + ROW_TITLE)
    fig = Figure(figsize=(width, height))
    for r, name in enumerate(names):
        bottom = height - TOP - (r + 1) * (SIDE + ROW_TITLE)
        row = [f for f in fields if f.network == name]
        _photo_panel(_axes(fig, 0, bottom, width, height), picture, row[0])
        fig.text(LEFT / width, (bottom + SIDE + 0.06) / height, name, weight="bold", size=8.5)
        for field in row:
            ax = _axes(fig, field.stage, bottom, width, height)
            image = _panel(ax, field)
            if r == 0:
                ax.set_title(f"Stage {field.stage}", loc="center", pad=20)
    _key(fig, image, width, height)
    return fig


def _axes(fig: Figure, column: int, bottom: float, width: float, height: float) -> Axes:
    left = LEFT + column * (SIDE + GAP)
    ax = fig.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set(visible=True, color=style.FAINT)
    return ax


def _photo_panel(ax: Axes, picture: Photo, field: ReceptiveField) -> None:
    ax.imshow(picture)
    ax.plot(*field.center, marker="*", color=PAPER, markeredgecolor=INK, markersize=9)


def _panel(ax: Axes, field: ReceptiveField) -> AxesImage:
    side = field.energy.shape[0]
    share = field.energy / max(float(field.energy.max()), np.finfo(float).tiny)
    norm = LogNorm(FLOOR, 1)
    image = ax.imshow(np.maximum(share, FLOOR), cmap=GREENS, norm=norm, interpolation="nearest")
    for radius, line in ((field.radius50, "-"), (field.radius90, (0, (3, 2)))):
        ax.add_patch(Circle(field.center, radius, fill=False, color=style.LINES[1], ls=line, lw=1))
    ax.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
    ax.text(
        0.97, 0.03, f"{field.radius50:.0f} / {field.radius90:.0f} px", transform=ax.transAxes,
        ha="right", va="bottom", size=7, color=INK,
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 1.2},
    )  # fmt: skip
    return image


def _key(fig: Figure, image: AxesImage, width: float, height: float) -> None:
    left, long = LEFT + SIDE + GAP, 2 * SIDE + GAP
    bar = fig.add_axes((left / width, 0.34 / height, long / width, 0.09 / height))
    fig.colorbar(image, cax=bar, orientation="horizontal")
    bar.set_xticks([FLOOR, 1e-3, 1e-2, 1e-1, 1], ["0.01%", "0.1%", "1%", "10%", "100%"])
    bar.set_xticks([], minor=True)
    bar.set_xlabel("Squared gradient, share of the panel's largest", size=7.5, labelpad=1)
    bar.tick_params(labelsize=7, length=2)
    words = "Circles hold 50% (solid) and 90% (dashed)\nof the energy; their radii in pixels."
    fig.text((left + long + 0.3) / width, 0.42 / height, words, size=7.5, color=MUTED, va="top")


def radii_table(fields: Sequence[ReceptiveField], size: int) -> Table:
    """Radii in pixels of the image."""
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
        f"Radius around the place, in pixels of an image of {size} x {size}, that holds so much of "
        "the squared gradient. The paper prints a picture (Fig. B) and no numbers."
    )
    return table("receptive-field", "Effective receptive field", columns, rows, note=note)
