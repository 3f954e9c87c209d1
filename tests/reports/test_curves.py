"""Figures of lines and points agree with the records."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from archsearch.core.metrics import GENERAL
from archsearch.reports import style
from archsearch.reports.context import Context
from archsearch.reports.error_distribution import EDF, edf_figure
from archsearch.reports.importances import IMPORTANCES, shares
from archsearch.reports.ladder_shape import LADDER, ladder_figure
from archsearch.reports.learning import learning_figure, visible_error
from archsearch.reports.report import compute_report
from archsearch.reports.trade_off import pareto_cells, tradeoff_figure
from archsearch.results import Results
from tests.golden import golden_results, ladder_results, scale_results


@pytest.fixture(scope="module")
def grid() -> Results:
    return golden_results()


def figures(results: Results, metric: str | None = None) -> dict[str, str]:
    """Return name -> title of every figure of a run except the heatmap."""
    (run,) = compute_report([results], metric).runs
    return {c.name: c.title for c in run.contents if c.figure and not c.panels}


def lines(figure: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def test_a_learning_curve_is_the_mean_error_over_seeds(grid: Results) -> None:
    with style.styled():
        figure = learning_figure(Context.of(grid))
    best = grid.network(str(grid.compare().ranking.best))
    expected = [100 - np.mean([t.curve[i]["val_accuracy"] for t in best.trials]) for i in range(6)]
    assert lines(figure)[best.label].get_ydata() == pytest.approx(expected)


def test_the_legend_covers_no_curve(grid: Results) -> None:
    with style.styled():
        figure = learning_figure(Context.of(grid))
        figure.draw_without_rendering()
    (legend,), axes = figure.legends, figure.axes[0].get_tightbbox()
    box = legend.get_window_extent()
    assert len(legend.get_texts()) == 8
    assert 0 <= box.y0 < box.y1 <= axes.y0
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_a_diverged_training_ends_in_a_cross(grid: Results) -> None:
    with style.styled():
        figure = learning_figure(Context.of(grid))
    crosses = [line for line in figure.axes[0].get_lines() if line.get_marker() == "x"]
    diverged = sum(t.state == "diverged" for t in grid.trials)
    assert len(crosses) == diverged == 6


def test_a_training_of_one_epoch_is_a_point(grid: Results) -> None:
    """Of the best networks and of the others, also where these are one image."""
    short = replace(
        grid,
        cells=tuple(
            replace(c, trials=tuple(replace(t, curve=t.curve[:1]) for t in c.trials))
            for c in grid.cells
        ),
    )
    context = Context.of(short)
    with style.styled(), pytest.MonkeyPatch.context() as patch:
        drawn = learning_figure(context).axes[0].get_lines()
        patch.setattr("archsearch.reports.learning.MAX_DRAWN_ALONE", 0)
        as_image = learning_figure(context).axes[0].get_lines()
    points, of_image = (
        sum(len(line.get_xdata()) for line in lines if line.get_marker() == ".")
        for lines in (drawn, as_image)
    )
    networks = {c.label for c in grid.cells if any(t.curve for t in c.trials)}
    assert points == of_image == len(networks)


def test_a_perfect_model_is_drawn_at_half_an_image() -> None:
    assert visible_error(0.0, 200) == 0.25
    assert visible_error(3.0, 200) == 3.0


@pytest.mark.parametrize("cost", ["params", "macs"])
def test_the_front_is_drawn_through_the_pareto_cells(cost: str) -> None:
    results = scale_results()
    by = GENERAL[cost]
    with style.styled():
        figure = tradeoff_figure(Context.of(results), by)
    front = next(line for line in figure.axes[0].get_lines() if line.get_zorder() == 1)
    cells = pareto_cells(Context.of(results), by)
    assert sorted(front.get_xdata()) == sorted(c.cost_value(by) for c in cells)  # type: ignore[type-var]


def test_long_tick_labels_do_not_overlap() -> None:
    def labels(low: float, high: float) -> list[str]:
        with style.styled():
            figure, ax = style.axes_with_title("x", "y")
            ax.set_xlim(low, high)
            style.thin_out_x_ticks(ax)
            figure.draw_without_rendering()
            boxes = [t.get_window_extent() for t in ax.get_xticklabels() if t.get_text()]
        inside = [b for b in boxes if b.x1 > 0 and b.x0 < figure.bbox.width]
        assert all(a.x1 < b.x0 for a, b in pairwise(inside))
        return [t.get_text() for t in ax.get_xticklabels()]

    assert len(labels(0.1354, 0.1376)) >= 3
    assert labels(1, 9) == [str(i) for i in range(1, 10)]  # short labels are unchanged


def test_the_error_distribution_ends_at_one_and_counts_each_network_once(grid: Results) -> None:
    with style.styled():
        figure = edf_figure(Context.of(grid))
    drawn = lines(figure)
    networks = {c.label for c, e in zip(grid.cells, grid.compare().estimates, strict=True) if e}
    everything = drawn[f"all {len(networks)} networks"]
    assert everything.get_ydata()[-1] == 1.0
    assert len(everything.get_xdata()) == len(networks) + 1
    assert {"C′ = 16", "C′ = 32"} <= set(drawn)


def test_an_association_says_how_many_trainings_it_leaves_out(grid: Results) -> None:
    ended = sum(t.state in ("diverged", "failed") for t in grid.trials)
    with style.styled():
        text = IMPORTANCES.content(Context.of(grid)).how_to_read
    assert ended > 1
    assert text.endswith(f"Left out: {ended} trainings without a result.")


def test_a_distribution_says_how_many_networks_it_leaves_out(grid: Results) -> None:
    values = grid.compare().estimates
    networks = {c.label for c in grid.cells if c.cell.variant is not None}
    missing = len(networks) - len({c.label for c in grid.cells if values[c.index]})
    with style.styled():
        text = EDF.content(Context.of(grid)).how_to_read
    assert missing > 1
    assert text.endswith(f"Left out: {missing} networks without a value.")


def test_a_distribution_has_a_curve_for_every_value_of_the_panel(grid: Results) -> None:
    """More values than the eight colors, with two networks each."""
    networks = [*{c.label: c for c in grid.cells if c.state == "complete"}.values()]
    cells = tuple(
        replace(c, index=i, cell=replace(c.cell, requested={"k": i // 2}))
        for i, c in enumerate(networks[:20])
    )
    study = replace(grid.study, axes=("k", "k", "k"))
    many = replace(grid, cells=cells, study=study, _compared={})
    with style.styled():
        drawn = lines(edf_figure(Context.of(many)))
    assert len(drawn) == 1 + len(cells) // 2 > 8


def test_only_errors_and_losses_have_a_distribution(grid: Results) -> None:
    rates = tuple(
        replace(
            c,
            trials=tuple(
                t if t.state != "complete" or t.record is None else
                replace(t, record=replace(t.record, metrics={
                    **t.record.metrics, "images_per_second": 900.0 + c.index,
                    "peak_memory_bytes": 1e9 + c.index}))
                for t in c.trials
            ),
        )
        for c in grid.cells
    )  # fmt: skip
    measured = replace(grid, cells=rates, _compared={})
    with style.styled():
        for other in ("throughput", "memory", "macs", "seconds"):
            reason = EDF.skip_reason(Context.of(measured, other))
            assert reason == "fewer than 8 networks have an error or a loss", other
            assert "edf" not in figures(measured, other)
        loss = edf_figure(Context.of(grid, "val_loss"))
        caption = figures(grid, "val_loss")["edf"]
        errors = [edf_figure(Context.of(grid, name)) for name in ("test_accuracy", "test_error")]
    assert loss.axes[0].get_title("left") == "Share of networks with at most this loss"
    assert caption == "Loss distribution over the space"
    assert [f.axes[0].get_xlabel() for f in errors] == ["Test error (%)"] * 2


def test_the_ladder_shows_depth_against_width(grid: Results) -> None:
    results = scale_results()
    with style.styled():
        figure = ladder_figure(Context.of(results))
    points = {(x, y) for line in figure.axes[0].get_lines() for x, y in line.get_xydata()}
    assert points == {(128, 30), (112, 32), (112, 33), (112, 36), (96, 45)}
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert any(w.startswith("α 1.09 β 1.36: 9") for w in labels)
    assert LADDER.skip_reason(Context.of(grid)) == "no two networks have scaling factors"


def test_a_ladder_of_one_pair_names_its_rungs_by_phi() -> None:
    with style.styled():
        figure = ladder_figure(Context.of(ladder_results()))
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert [w.split(":")[0] for w in labels] == ["φ 0", "φ 1", "φ 2", "φ 3"]
    assert labels[-1].endswith("pending")
    with style.styled():
        unmeasured = ladder_figure(Context.of(ladder_results(), "throughput"))
    assert unmeasured.axes[0].texts[0].get_text() == "φ 0: not measured"
    assert "at α 1.09, β 1.36" in figure.axes[0].get_title("left")


def test_importances_find_the_numbers_that_determine_the_truth(grid: Results) -> None:
    def shares_of(results: Results, metric: str | None = None) -> Mapping[str, float]:
        return shares(Context.of(results, metric))

    all_shares = shares_of(grid)
    assert next(iter(all_shares)) in ("group_channels", "c1", "l3")
    assert sum(all_shares.values()) == pytest.approx(1, abs=0.01)
    assert shares_of(grid, "params") == {}
    assert shares_of(golden_results(1)) == shares_of(golden_results(1))
    assert shares_of(golden_results(1))  # one seed shows an association
    assert shares_of(golden_results(1, spread=9.0)) == {}  # not with large noise
    assert shares_of(golden_results(5, spread=9.0)) == {}  # only noise
    few = replace(grid, cells=grid.cells[:2], _compared={})
    assert shares_of(few) == {}


def test_figures_without_data_are_left_out(grid: Results) -> None:
    empty = replace(grid, cells=tuple(replace(c, trials=()) for c in grid.cells), _compared={})
    assert figures(empty) == {}
    assert "edf" not in figures(scale_results())
    assert set(figures(grid)) == {
        "learning", "tradeoff-params", "tradeoff-macs", "edf", "importances",
    }  # fmt: skip
