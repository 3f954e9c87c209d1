"""Names beside points that are close to each other."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from archsearch.core.metrics import GENERAL
from archsearch.reports import style
from archsearch.reports.context import Context
from archsearch.reports.labels import name_points
from archsearch.reports.trade_off import tradeoff_figure
from archsearch.results import load

PUBLISHED = Path(__file__).parents[2] / "studies/results"


def boxes(figure: Figure) -> dict[str, Bbox]:
    """Return the box of each name, without its line."""
    figure.draw_without_rendering()
    names = [t for t in figure.axes[0].texts if isinstance(t, Annotation)]
    return {name.get_text(): Text.get_window_extent(name) for name in names}


def overlaps(boxes: dict[str, Bbox]) -> list[tuple[str, str]]:
    return [(a, b) for a, b in combinations(boxes, 2) if boxes[a].overlaps(boxes[b])]


def crowd(points: dict[str, tuple[float, float]]) -> Figure:
    with style.styled():
        figure, ax = style.axes_with_title("x", "y")
        ax.plot(*zip(*points.values(), strict=True), "o")
        ax.plot([0, 1], [0, 1])
        name_points(ax, points, style.LINES[1])
    return figure


@pytest.mark.parametrize("seed", range(5))
def test_names_of_close_points_cover_neither_each_other_nor_a_point(seed: int) -> None:
    positions = 0.5 + np.random.default_rng(seed).uniform(-0.06, 0.06, (4, 2))
    points = {f"(24, 4, 2, {i})": (float(x), float(y)) for i, (x, y) in enumerate(positions)}
    figure = crowd(points)
    names, ax = boxes(figure), figure.axes[0]
    assert overlaps(names) == []
    for box in names.values():
        assert not any(box.contains(*ax.transData.transform(p)) for p in points.values())
        assert ax.bbox.x0 <= box.x0
        assert box.x1 <= ax.bbox.x1


def test_equal_points_give_equal_positions_and_a_single_name_is_close_to_its_point() -> None:
    points = {"one": (0.4, 0.5), "two": (0.41, 0.5), "three": (0.42, 0.5)}
    first, again = ({k: b.extents.tolist() for k, b in boxes(crowd(points)).items()} for _ in "12")
    assert first == again
    (alone,) = crowd({"alone": (0.4, 0.6)}).axes[0].texts
    assert isinstance(alone, Annotation)
    assert alone.arrow_patch is None


@pytest.mark.parametrize("cost", ["params", "macs"])
@pytest.mark.parametrize("run", sorted(p.parent.name for p in PUBLISHED.glob("*/study.json")))
def test_no_names_overlap_in_a_published_trade_off(run: str, cost: str) -> None:
    with style.styled():
        figure = tradeoff_figure(Context.of(load(PUBLISHED / run)), GENERAL[cost])
        names = boxes(figure)
    assert names
    assert overlaps(names) == []
