"""The heatmap shows every cell in readable greens, and equal records give equal bytes."""

import re
import struct
from dataclasses import replace
from html import unescape
from itertools import combinations
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from archsearch.core.cell import Cell
from archsearch.reports import heatmap, heatmap_layout, style
from archsearch.reports.cell_order import reported_interval
from archsearch.reports.context import Context, HeatmapAxes
from archsearch.reports.heatmap_cells import DARK_TEXT, HATCHES, LIGHT_TEXT, readable_on, shade_of
from archsearch.results import Results, State
from tests.golden import HOSTILE, golden_results, scale_results, uneven_results


@pytest.fixture(scope="module")
def grid() -> Results:
    return golden_results()


def drawn(results: Results, metric: str | None = None) -> str:
    with style.styled():
        return style.svg(heatmap.figure(Context.of(results, metric)))


def texts(svg: str) -> list[str]:
    return [unescape(t) for t in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def test_every_cell_shows_its_value_interval_and_l3(grid: Results) -> None:
    shown, compared = texts(drawn(grid)), grid.compare()
    for cell in grid.cells:
        estimate = reported_interval(cell, compared)
        if estimate is not None and estimate.half_width is not None:
            assert f"{estimate.mean:.1f}" in shown
            assert f"± {estimate.half_width:.1f}" in shown
            l3 = getattr(cell.cell.variant, "l3", None)
            assert any(t.startswith(f"L₃ {l3}") for t in shown)


def test_cells_without_a_value_say_why(grid: Results) -> None:
    shown = texts(drawn(grid))
    legend = {"infeasible", "failed", "diverged", "pending", "interrupted", "running"}
    for state in legend:
        cells = sum(
            c.state == state and e is None
            for c, e in zip(grid.cells, grid.compare().estimates, strict=True)
        )
        assert shown.count(state) == cells + 1, state  # one more in the legend
    assert "out-of-memory" in shown
    assert "epoch 3 of 6" in shown
    assert "L₃ 52 · 4/5 seeds" in shown


def test_a_finished_cell_without_the_metric_is_not_measured(grid: Results) -> None:
    shown = texts(drawn(grid, "throughput"))
    finished = sum(c.state == "complete" for c in grid.cells)
    assert shown.count("not measured") == finished + 1  # one more in the legend
    with style.styled():
        figure = heatmap.figure(Context.of(grid, "throughput"))
        marked = heatmap.figure(Context.of(grid))
    assert len(marked.axes) == len(figure.axes) + 1  # without a value there is no color bar


def test_every_state_has_a_hatch() -> None:
    assert {*get_args(State), "not measured"} - {"complete"} <= set(HATCHES)


def background(figure: Figure, text: str) -> tuple[float, ...]:
    """Return the color behind the text ``text``."""
    for ax in figure.axes[:2]:
        for shown in ax.texts:
            x, y = shown.get_position()
            if shown.get_text() == text:
                under = [p for p in ax.patches if isinstance(p, Rectangle) and p.get_fill()
                         and p.get_x() < x < p.get_x() + p.get_width()
                         and p.get_y() < y < p.get_y() + p.get_height()]  # fmt: skip
                return tuple(under[0].get_facecolor())
    raise AssertionError(f"no cell says {text}")


def test_cells_outside_the_ranking_are_gray(grid: Results) -> None:
    with style.styled():
        figure = heatmap.figure(Context.of(grid))
    shown = texts(drawn(grid))
    assert "gray: not in the ranking" in shown
    assert to_hex(background(figure, "L₃ 52 · 4/5 seeds")) == style.FAINT  # diverged on one
    assert to_hex(background(figure, "L₃ 31 · 4/5 seeds")) != style.FAINT  # failed on one
    assert "gray: not in the ranking" not in texts(drawn(uneven_results()))


def test_with_unequal_seeds_the_best_is_the_darkest_and_the_note_explains_it() -> None:
    results = uneven_results()
    compared = results.compare()
    shade = shade_of(compared)
    best = compared.ranking.means[str(compared.ranking.best)]
    assert shade.norm.vmax == pytest.approx(best)
    shown = " ".join(texts(drawn(results)))
    assert "Cells have different seeds: each cell is shown, sorted and shaded by the mean" in shown
    assert "highest mean of those" not in shown
    changed = replace(compared.ranking, means={**compared.ranking.means, "(48, 16, 1, 61)": 99.0})
    context = replace(Context.of(results), comparison=replace(compared, ranking=changed))
    entries = heatmap.legend_entries(heatmap.grid_of(context))
    assert ("best", "highest mean of the tied cells") in entries


def test_each_kind_of_empty_cell_has_its_own_hatch() -> None:
    assert len(set(HATCHES.values())) == len(HATCHES)


def test_repairs_are_marked_with_the_change(grid: Results) -> None:
    shown = texts(drawn(grid))
    assert shown.count("48→64") == 5
    assert shown.count("80→96") == 3
    assert "repaired: C₁ moved to a legal value" in shown


def test_the_best_and_all_tied_cells_are_outlined(grid: Results) -> None:
    with style.styled():
        figure = heatmap.figure(Context.of(grid))
    frames = [
        p for ax in figure.axes[:2] for p in ax.patches
        if not p.get_fill() and p.get_edgecolor()[:3] == (0, 0, 0)
    ]  # fmt: skip
    solid = [p for p in frames if p.get_linestyle() == "-" or p.get_linestyle() == "solid"]
    tied = grid.compare().ranking.tied
    marked = sum(c.label in tied for c in grid.cells)
    assert (len(solid), len(frames)) == (1, marked)
    assert 1 < marked < 12


def test_a_single_seed_has_no_outlines_and_a_warning() -> None:
    shown = texts(drawn(golden_results(1)))
    assert not any("statistically tied" in t for t in shown)
    assert any(t.startswith("One seed per cell cannot rank these cells") for t in shown)


def test_the_range_of_sizes_is_printed_under_the_heatmap(grid: Results) -> None:
    sizes = [c.cell.cost.params / 1e6 for c in grid.cells if c.cell.cost]
    text = f"Parameters range from {min(sizes):.2f} to {max(sizes):.2f} M over {len(sizes)} cells"
    assert text in " ".join(texts(drawn(grid)))


def luminance(rgba: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_greens_darken_evenly_so_that_gray_print_keeps_their_order() -> None:
    lightness = np.array([luminance(style.GREENS(i)) ** (1 / 3) for i in range(256)])
    steps = -np.diff(lightness)
    assert steps.min() > 0
    assert steps.max() < 4 * np.median(steps)


def test_numbers_in_cells_are_readable_on_every_green() -> None:
    ink = {DARK_TEXT: 0.0, LIGHT_TEXT: 1.0}
    for i in range(256):
        green = style.GREENS(i)
        lighter, darker = sorted((luminance(green), ink[readable_on(green)]), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, i


@pytest.mark.parametrize("metric", ["val_accuracy", "val_error", "macs"])
def test_the_better_cell_is_darker_for_every_metric(grid: Results, metric: str) -> None:
    compared = grid.compare(metric)
    shade = shade_of(compared)
    means = sorted(e.mean for e in compared.estimates if e)
    best, worst = (means[-1], means[0]) if metric == "val_accuracy" else (means[0], means[-1])
    assert luminance(shade(best)) < luminance(shade(worst))


def test_a_far_outlier_does_not_wash_out_the_others(grid: Results) -> None:
    trial = grid.cells[10].trials[0]
    assert trial.record is not None
    low = replace(trial, record=replace(trial.record, metrics={"val_accuracy": 11.0}))
    cells = (replace(grid.cells[0], trials=(low,)), *grid.cells[1:])
    shade = shade_of(replace(grid, cells=cells, _compared={}).compare())
    assert shade.clipped
    assert shade.norm.vmin is not None
    assert shade.norm.vmin > 80


def test_the_same_records_give_the_same_bytes(grid: Results, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    first, second = (
        style.write_figure(heatmap.HEATMAP.content(Context.of(r)).figure, folder, "heatmap")
        for r, folder in ((grid, tmp_path), (golden_results(), tmp_path / "b"))
    )
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert not re.search(rb"\b20[2-9]\d-\d\d|matplotlib v", first[1].read_bytes())


def test_hostile_names_are_drawn_as_text(grid: Results) -> None:
    cells = (
        Cell({**grid.cells[0].cell.requested, "group_channels": HOSTILE}, "infeasible", None, None),
    )
    study = replace(grid.study, cells=cells)
    hostile = replace(grid, study=study, cells=(replace(grid.cells[0], cell=cells[0], trials=()),))
    svg = drawn(replace(hostile, _compared={}))
    assert f"C′ = {HOSTILE}" in texts(svg)
    assert "<script>" not in svg


def test_the_axes_can_be_chosen(grid: Results) -> None:
    def grid_of(results: Results, axes: HeatmapAxes | None = None) -> heatmap.Grid:
        return heatmap.grid_of(Context.of(results, axes=axes))

    by_depth = grid_of(grid, ("l1", "c1", "group_channels"))
    assert by_depth.panels == ((1,), (2,), (3,), (4,), (5,))
    assert by_depth.columns == (16, 32)
    with pytest.raises(ValueError, match="no coordinate depth in the plan; it has c1"):
        grid_of(grid, ("depth", "c1", "l1"))
    with pytest.raises(ValueError, match="names no axes"):
        grid_of(scale_results())
    with pytest.raises(ValueError, match="two cells have the position"):
        grid_of(scale_results(), ("phi", "phi", "phi"))


def test_figures_ignore_the_users_matplotlib_settings(grid: Results) -> None:
    import matplotlib

    before = drawn(grid)
    with matplotlib.rc_context({"font.size": 30, "axes.labelweight": "bold"}):
        assert drawn(grid) == before


def wide(results: Results, num_columns: int) -> Results:
    """Return a run with one row of so many networks."""
    cell = next(c for c in results.cells if c.state == "complete")
    cells = tuple(
        replace(
            cell,
            index=i,
            label=f"n{i}",
            cell=replace(cell.cell, requested={"k": 1, "y": 1, "x": i}),
        )
        for i in range(num_columns)
    )
    study = replace(results.study, axes=("k", "y", "x"))
    return replace(results, cells=cells, study=study, _compared={})


@pytest.mark.slow
def test_a_map_of_hundreds_of_columns_has_every_cell_and_a_bounded_size(grid: Results) -> None:
    with style.styled():
        figure = heatmap.figure(Context.of(wide(grid, 420)))
        panels = heatmap.panels(Context.of(wide(grid, 420)))
        labels = [t.get_text() for ax in figure.axes[:42] for t in ax.get_xticklabels()]
        shown = [t.get_text() for ax in figure.axes[:42] for t in ax.texts]
    assert labels == [str(i) for i in range(420)]
    assert len([text for text in shown if "±" in text]) == 420
    assert max(figure.get_size_inches()) < 40
    titles = [title for title, _ in panels.values()]
    assert titles[0].endswith("k = 1, part 1 of 42")
    assert len(titles) == 42 + 1
    assert max(panel.get_size_inches()[0] for _, panel in panels.values()) < 10


def test_the_blocks_of_a_map_do_not_overlap() -> None:
    rows, columns = [*range(85)], [*range(47)]
    blocks = heatmap_layout.blocks_of(("a", "b"), rows, columns)
    seen = [(b.panel, r, c) for b in blocks for r in b.rows for c in b.columns]
    assert sorted(seen) == [(p, r, c) for p in "ab" for r in rows for c in columns]
    placed = heatmap_layout.layout(blocks)
    assert placed.right <= heatmap_layout.MAX_WIDTH
    boxes = [(p.left, p.bottom, p.left + p.block.width, p.bottom + p.block.height)
             for p in placed.blocks]  # fmt: skip
    for (a, b, c, d), (e, f, g, h) in combinations(boxes, 2):
        assert c < e or g < a or d < f or h < b
    assert min(b for _, b, _, _ in boxes) == pytest.approx(0)
    assert max(h for *_, h in boxes) == pytest.approx(placed.height)


def test_a_png_has_a_bounded_number_of_pixels() -> None:
    def size(image: bytes) -> tuple[int, ...]:
        return struct.unpack(">II", image[16:24])

    assert size(style.png(Figure(figsize=(5, 4)))) == (1000, 800)
    width, height = size(style.png(Figure(figsize=(4, 400))))
    assert (width, height) == (160, style.MAX_PIXELS)
