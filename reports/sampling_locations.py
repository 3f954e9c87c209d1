"""The sampling points, as in Fig. 5: a figure by group, and one per stage by modulation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from archsearch.probes.photos import Photo, SamplingLocations
from archsearch.reports import style
from archsearch.reports.formats import Table, as_csv
from archsearch.storage.files import write_bytes

SIDE, SMALL, GAP, MARGIN, TITLE, FOOT = 2.4, 1.05, 0.14, 0.1, 0.26, 0.34
"""Inches: side of a panel of the overview and of a stage's figure, space between panels, margin,
title, bottom margin."""
NUM_COLUMNS = 8
"""Panels in a row of a stage's figure."""
AREA = 26
"""Area in points^2 of the largest dot of the overview."""
MIN_HALF_VIEW = 1 / 12
"""Half the side of the smallest crop around the query pixel, as a share of the image."""


def render(
    photo: Photo, stages: Sequence[SamplingLocations], out: Path, network: str
) -> list[Path]:
    """Write the figures, and every position and modulation as CSV, into ``out``."""
    paths = style.write_figure(overview(photo, stages, network), out, "sampling-locations")
    for stage in stages:
        fig = by_modulation(photo, stage, network)
        paths += style.write_figure(fig, out, f"sampling-locations-stage{stage.stage}")
    path = out / "sampling-locations.csv"
    write_bytes(path, as_csv(Table.of({}, rows(stages, network))).encode())
    return [*paths, path]


def rows(stages: Sequence[SamplingLocations], network: str) -> list[dict[str, Any]]:
    """Return a row per stage, group and point k = i*K + j (i over x), in pixels of the image."""
    return [
        {
            "network": network, "stage": s.stage, "block": s.block, "query_x": s.center[0],
            "query_y": s.center[1], "group": g + 1, "point": k, "x": float(s.points[g, k, 0]),
            "y": float(s.points[g, k, 1]), "modulation": float(s.modulation[g, k]),
        }
        for s in stages
        for g in range(s.points.shape[0])
        for k in range(s.points.shape[1])
    ]  # fmt: skip


@style.styled()
def overview(photo: Photo, stages: Sequence[SamplingLocations], network: str) -> Figure:
    """Draw four panels with a color per group, as in the paper."""
    fig = Figure(figsize=(2 * MARGIN + 4 * SIDE + 3 * GAP, SIDE + TITLE + FOOT))
    for i, stage in enumerate(stages):
        ax = style.axes_at(fig, MARGIN + i * (SIDE + GAP), FOOT, SIDE, SIDE)
        _draw_groups(ax, photo, stage)
    text = (
        f"{network}. A color per group; the larger a dot, the larger its modulation. "
        "Star: query pixel."
    )
    style.text_at(fig, MARGIN, 0.12, text, size=7.5, color=style.MUTED)
    return fig


def _draw_groups(ax: Axes, photo: Photo, stage: SamplingLocations) -> None:
    """Draw all groups of a stage in one panel that includes all their points."""
    groups = stage.points.shape[0]
    for g, color in enumerate(colormaps["turbo"](np.linspace(0.03, 0.97, groups))):
        _draw_points(ax, stage, g, color=color)
    _draw_photo(ax, photo, opacity=0.6)
    ax.plot(*stage.center, marker="*", color=style.PAPER, mec=style.INK, ms=6.5, mew=0.7, zorder=4)
    low = min(-0.5, float(stage.points.min()) - 3)
    high = max(photo.shape[0] - 0.5, float(stage.points.max()) + 3)
    ax.set(xlim=(low, high), ylim=(high, low))
    plural = "group" if groups == 1 else "groups"
    ax.set_title(f"Stage {stage.stage}, block {stage.block}: {groups} {plural}", pad=4)


@style.styled()
def by_modulation(photo: Photo, stage: SamplingLocations, network: str) -> Figure:
    """Draw a panel per group, with dots colored by modulation."""
    groups = stage.points.shape[0]
    columns = min(NUM_COLUMNS, groups)
    width = max(2 * MARGIN + columns * SMALL + (columns - 1) * GAP, 4.6)
    height = 0.3 + -(-groups // columns) * (SMALL + TITLE) + 0.6
    fig = Figure(figsize=(width, height))
    title = f"Stage {stage.stage}, block {stage.block}: crop around the query pixel (cross)"
    style.text_at(fig, MARGIN, height - 0.2, title, weight="bold", size=9)
    for g in range(groups):
        left = MARGIN + (g % columns) * (SMALL + GAP)
        bottom = height - 0.3 - (g // columns + 1) * (SMALL + TITLE)
        dots = _draw_crop(style.axes_at(fig, left, bottom, SMALL, SMALL), photo, stage, g)
    label = f"Modulation (uniform: {1 / stage.points.shape[1]:.3f})"
    bar = style.color_bar(fig, dots, (MARGIN + 0.15, 0.36, 2.2), label)
    bar.xaxis.set_major_locator(MaxNLocator(4))
    style.text_at(fig, MARGIN + 2.55, 0.36, network, size=7.5, color=style.MUTED)
    return fig


def _draw_crop(ax: Axes, photo: Photo, stage: SamplingLocations, group: int) -> Any:
    """Draw the points of one group by their modulation, around the query pixel."""
    low, high = float(stage.modulation.min()), float(stage.modulation.max())
    low = low if high - low > 1e-6 else 0.0
    scale = {"c": stage.modulation[group], "cmap": style.GREENS, "vmin": low, "vmax": high}
    dots = _draw_points(ax, stage, group, **scale, s=24)
    _draw_photo(ax, photo, opacity=0.45)
    ax.plot(*stage.center, marker="+", color=style.LINES[1], ms=6, mew=1.2, zorder=4)
    (x, y), half = stage.center, _half_view(stage, photo.shape[0])
    ax.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
    ax.set_title(f"Group {group + 1}", size=7.5, weight="normal", pad=3)
    return dots


def _draw_points(ax: Axes, stage: SamplingLocations, group: int, **kwargs: Any) -> Any:
    share = stage.modulation[group] / max(float(stage.modulation.max()), 1e-9)
    x, y = stage.points[group].T
    defaults = {"s": AREA * share, "linewidths": 0.4, "edgecolors": style.INK, "zorder": 3}
    return ax.scatter(x, y, **defaults | kwargs)


def _draw_photo(ax: Axes, photo: Photo, opacity: float) -> None:
    style.framed(ax).imshow(photo, alpha=opacity, zorder=1)


def _half_view(stage: SamplingLocations, side: int) -> float:
    """Return half the side of a crop that includes every point, in pixels."""
    distance = float(np.abs(stage.points - np.array(stage.center)).max())
    return max(1.2 * distance, MIN_HALF_VIEW * side)
