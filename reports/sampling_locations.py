"""Fig. 5: where each group looks. One picture by group, and one per stage by modulation."""

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
from archsearch.reports.formats import as_csv, table
from archsearch.reports.style import FAINT, GREENS, INK, LINES, MUTED, PAPER

SIDE, GAP, MARGIN, TITLE, FOOT = 2.4, 0.14, 0.1, 0.26, 0.34
SMALL, ACROSS = 1.05, 8
"""Inches: panels of the overview and of a stage's own picture, which has so many across."""
AREA = 26
"""Points^2 of the largest dot of the overview."""
LEAST_VIEW = 1 / 12
"""Half of the smallest cut-out around the place, as a share of the image."""


def render(
    picture: Photo, stages: Sequence[SamplingLocations], out: Path, network: str
) -> list[Path]:
    """Write the pictures, and every position and modulation as CSV, into ``out``."""
    with style.styled():
        paths = style.save(overview(picture, stages, network), out, "sampling-locations")
        for stage in stages:
            fig = by_modulation(picture, stage, network)
            paths += style.save(fig, out, f"sampling-locations-stage{stage.stage}")
    path = out / "sampling-locations.csv"
    content = table("sampling-locations", "", {"": []}, rows(stages, network))
    path.write_text(as_csv(content), encoding="utf-8", newline="\n")
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


def overview(picture: Photo, stages: Sequence[SamplingLocations], network: str) -> Figure:
    """Four panels, a colour per group, as the paper draws it. Call within `style.styled`."""
    width = 2 * MARGIN + 4 * SIDE + 3 * GAP
    height = SIDE + TITLE + FOOT
    fig = Figure(figsize=(width, height))
    for i, stage in enumerate(stages):
        left = MARGIN + i * (SIDE + GAP)
        ax = fig.add_axes((left / width, FOOT / height, SIDE / width, SIDE / height))
        groups = stage.points.shape[0]
        colors = colormaps["turbo"](np.linspace(0.03, 0.97, groups))
        for g in range(groups):
            _dots(ax, stage, g, color=colors[g])
        _ground(ax, picture, fade=0.6)
        _star(ax, stage, 6.5)
        low = min(-0.5, float(stage.points.min()) - 3)
        high = max(picture.shape[0] - 0.5, float(stage.points.max()) + 3)
        ax.set(xlim=(low, high), ylim=(high, low))
        plural = "group" if groups == 1 else "groups"
        ax.set_title(f"Stage {stage.stage}, block {stage.block}: {groups} {plural}", pad=4)
    words = (
        f"{network}. A colour per group; the larger a dot, the more it counts. "
        "Star: the place asked for."
    )
    fig.text(MARGIN / width, 0.12 / height, words, size=7.5, color=MUTED)
    return fig


def by_modulation(picture: Photo, stage: SamplingLocations, network: str) -> Figure:
    """A panel per group, dots coloured by modulation. Call within `style.styled`."""
    groups = stage.points.shape[0]
    across = min(ACROSS, groups)
    down = -(-groups // across)
    width = max(2 * MARGIN + across * SMALL + (across - 1) * GAP, 4.6)
    height = 0.3 + down * (SMALL + TITLE) + 0.6
    fig = Figure(figsize=(width, height))
    title = f"Stage {stage.stage}, block {stage.block}: cut out around the place asked for (cross)"
    fig.text(MARGIN / width, 1 - 0.2 / height, title, weight="bold", size=9)
    low, top = float(stage.modulation.min()), float(stage.modulation.max())
    low = low if top - low > 1e-6 else 0.0
    for g in range(groups):
        left = MARGIN + (g % across) * (SMALL + GAP)
        bottom = height - 0.3 - (g // across + 1) * (SMALL + TITLE)
        ax = fig.add_axes((left / width, bottom / height, SMALL / width, SMALL / height))
        dots = _dots(ax, stage, g, c=stage.modulation[g], cmap=GREENS, vmin=low, vmax=top, s=24)
        _ground(ax, picture, fade=0.45)
        ax.plot(*stage.center, marker="+", color=LINES[1], ms=6, mew=1.2, zorder=4)
        (x, y), half = stage.center, _half_view(stage, picture.shape[0])
        ax.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
        ax.set_title(f"Group {g + 1}", size=7.5, weight="normal", pad=3)
    bar = fig.add_axes(((MARGIN + 0.15) / width, 0.36 / height, 2.2 / width, 0.09 / height))
    fig.colorbar(dots, cax=bar, orientation="horizontal")
    bar.set_xlabel(f"Modulation (even: {1 / stage.points.shape[1]:.3f})", size=7.5, labelpad=1)
    bar.tick_params(labelsize=7, length=2)
    bar.xaxis.set_major_locator(MaxNLocator(4))
    fig.text((MARGIN + 2.55) / width, 0.36 / height, network, size=7.5, color=MUTED)
    return fig


def _dots(ax: Axes, stage: SamplingLocations, group: int, **look: Any) -> Any:
    share = stage.modulation[group] / max(float(stage.modulation.max()), 1e-9)
    x, y = stage.points[group].T
    return ax.scatter(x, y, **{"s": AREA * share, "linewidths": 0.4, "edgecolors": INK,
                               "zorder": 3, "clip_on": True, **look})  # fmt: skip


def _ground(ax: Axes, picture: Photo, fade: float) -> None:
    ax.imshow(picture, alpha=fade, zorder=1)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(visible=True, color=FAINT)


def _star(ax: Axes, stage: SamplingLocations, size: float) -> None:
    ax.plot(*stage.center, marker="*", color=PAPER, mec=INK, ms=size, mew=0.7, zorder=4)


def _half_view(stage: SamplingLocations, side: int) -> float:
    """Half the side of a cut-out that holds every point, in pixels."""
    reach = float(np.abs(stage.points - np.array(stage.center)).max())
    return max(1.2 * reach, LEAST_VIEW * side)
