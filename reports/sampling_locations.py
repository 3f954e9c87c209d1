"""Fig. 5: where each group samples. One figure by group, and one per stage by modulation."""

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

SIDE, GAP, MARGIN, TITLE, FOOT = 2.4, 0.14, 0.1, 0.26, 0.34
SMALL, ACROSS = 1.05, 8
"""Inches: panels of the overview and of a stage's own figure, which has so many across."""
AREA = 26
"""Points^2 of the largest dot of the overview."""
LEAST_VIEW = 1 / 12
"""Half of the smallest cut-out around the query pixel, as a share of the image."""


def render(
    photo: Photo, stages: Sequence[SamplingLocations], out: Path, network: str
) -> list[Path]:
    """Write the figures, and every position and modulation as CSV, into ``out``."""
    paths = style.write_figure(overview(photo, stages, network), out, "sampling-locations")
    for stage in stages:
        fig = by_modulation(photo, stage, network)
        paths += style.write_figure(fig, out, f"sampling-locations-stage{stage.stage}")
    path = out / "sampling-locations.csv"
    path.write_text(as_csv(Table.of({}, rows(stages, network))), encoding="utf-8", newline="\n")
    return [*paths, path]


def rows(stages: Sequence[SamplingLocations], network: str) -> list[dict[str, Any]]:
    """A row per stage, group and point k = i*K + j (i over x), in pixels of the image."""
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
    """Four panels, a color per group, as the paper draws it."""
    fig = Figure(figsize=(2 * MARGIN + 4 * SIDE + 3 * GAP, SIDE + TITLE + FOOT))
    for i, stage in enumerate(stages):
        ax = style.axes_at(fig, MARGIN + i * (SIDE + GAP), FOOT, SIDE, SIDE)
        _draw_groups(ax, photo, stage)
    text = (
        f"{network}. A colour per group; the larger a dot, the more it counts. "
        "Star: the place asked for."
    )
    style.text_at(fig, MARGIN, 0.12, text, size=7.5, color=style.MUTED)
    return fig


def _draw_groups(ax: Axes, photo: Photo, stage: SamplingLocations) -> None:
    """All groups of a stage in one panel, which is as wide as their points need."""
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
    """A panel per group, dots colored by modulation."""
    groups = stage.points.shape[0]
    across = min(ACROSS, groups)
    width = max(2 * MARGIN + across * SMALL + (across - 1) * GAP, 4.6)
    height = 0.3 + -(-groups // across) * (SMALL + TITLE) + 0.6
    fig = Figure(figsize=(width, height))
    title = f"Stage {stage.stage}, block {stage.block}: cut out around the place asked for (cross)"
    style.text_at(fig, MARGIN, height - 0.2, title, weight="bold", size=9)
    for g in range(groups):
        left = MARGIN + (g % across) * (SMALL + GAP)
        bottom = height - 0.3 - (g // across + 1) * (SMALL + TITLE)
        dots = _draw_cut_out(style.axes_at(fig, left, bottom, SMALL, SMALL), photo, stage, g)
    bar = style.axes_at(fig, MARGIN + 0.15, 0.36, 2.2, 0.09)
    fig.colorbar(dots, cax=bar, orientation="horizontal")
    bar.set_xlabel(f"Modulation (even: {1 / stage.points.shape[1]:.3f})", size=7.5, labelpad=1)
    bar.tick_params(labelsize=7, length=2)
    bar.xaxis.set_major_locator(MaxNLocator(4))
    style.text_at(fig, MARGIN + 2.55, 0.36, network, size=7.5, color=style.MUTED)
    return fig


def _draw_cut_out(ax: Axes, photo: Photo, stage: SamplingLocations, group: int) -> Any:
    """The points of one group by their modulation, around the query pixel."""
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


def _draw_points(ax: Axes, stage: SamplingLocations, group: int, **look: Any) -> Any:
    share = stage.modulation[group] / max(float(stage.modulation.max()), 1e-9)
    x, y = stage.points[group].T
    fixed = {"linewidths": 0.4, "edgecolors": style.INK, "zorder": 3, "clip_on": True}
    return ax.scatter(x, y, **{"s": AREA * share, **fixed, **look})


def _draw_photo(ax: Axes, photo: Photo, opacity: float) -> None:
    style.framed(ax).imshow(photo, alpha=opacity, zorder=1)


def _half_view(stage: SamplingLocations, side: int) -> float:
    """Half the side of a cut-out that holds every point, in pixels."""
    reach = float(np.abs(stage.points - np.array(stage.center)).max())
    return max(1.2 * reach, LEAST_VIEW * side)
