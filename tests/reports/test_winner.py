"""The number of the winner: its interval on new images, its bias, its value on the test split."""

from dataclasses import replace
from pathlib import Path

import pytest

import archsearch as a
from archsearch.core.metrics import GENERAL
from archsearch.reports.context import Context
from archsearch.reports.phrases import difference_with_unit
from archsearch.reports.report import compute_report
from archsearch.reports.report_json import report_json
from archsearch.reports.summary import summarize
from archsearch.reports.winner import Winner, num_images
from archsearch.results import load
from archsearch.stats.moderated import on_new_images
from archsearch.stats.ranking import Table
from archsearch.stats.winner import resampled_bias, selection_bias
from tests.golden import golden_results

PUBLISHED = Path(__file__).parents[2] / "studies/results/grid-2.2M-cifar10"


@pytest.fixture(scope="module")
def context() -> Context:
    return Context.of(load(PUBLISHED))


def winner_of(context: Context) -> Winner:
    return Winner.of(context, str(context.ranking.best))


def table(context: Context) -> Table[str]:
    return {c.label: c.values(context.metric) for c in context.cells if c.cell.variant}


def test_the_published_winner_is_half_a_point_too_high_by_two_ways(context: Context) -> None:
    parametric = context.comparison.selection_bias
    assert parametric == selection_bias(table(context))
    assert parametric == pytest.approx(0.5, abs=0.05)
    assert resampled_bias(table(context)) == pytest.approx(parametric, abs=0.05)


def test_the_answer_tells_the_bias_and_the_test_value(context: Context) -> None:
    summary = summarize(context)
    assert summary.headline.endswith("validation accuracy, 47.7 ± 2.2%.")
    assert (
        "As the best of 20, its mean is expected to be 0.5 points too high. On the test split, "
        "which took no part in the choice, it has 46.8 ± 1.7%."
    ) in summary.confidence
    assert ("Test split (10,000 images)", "46.8 ± 1.7%") in summary.facts
    assert "46.8 ± 1.7%" in a.Run(PUBLISHED).answer


def test_the_interval_of_the_winner_is_that_of_new_images_and_a_cell_s_is_not(
    context: Context,
) -> None:
    winner = winner_of(context)
    cell = context.comparison.estimates[winner.cell.index]
    assert cell is not None
    assert cell.half_width == pytest.approx(1.34, abs=0.01)
    assert winner.value == on_new_images(cell, 3000)


def test_numbers_json_has_the_winner_s_numbers(context: Context) -> None:
    numbers = report_json(compute_report([context.results]), [PUBLISHED], PUBLISHED)
    winner = numbers["runs"][0]["winner"]
    assert winner["network"] == "(24, 8, 1, 9)"
    assert winner["selection_bias"] == pytest.approx(0.5, abs=0.05)
    assert (winner["test_metric"], winner["test"]) == ("test_accuracy", 46.826667)
    assert winner["value_low"] < winner["test"] < winner["value_high"]


def test_an_error_is_too_low_and_has_the_test_error_beside_it(context: Context) -> None:
    by_error = Context.of(context.results, "val_error")
    text = winner_of(by_error).bias_text
    assert "0.5 points too low" in text
    assert text.endswith("it has 53.2 ± 1.7%.")
    by_loss = winner_of(Context.of(context.results, "val_loss"))
    assert by_loss.test_metric is not None
    assert by_loss.test_metric.name == "test_loss"


def test_images_count_only_for_shares_of_images(context: Context) -> None:
    metrics = context.results.study.task.all_metrics()
    assert num_images(context, metrics["val_accuracy"]) == 3000
    assert num_images(context, metrics["test_error"]) == 10_000
    assert num_images(context, metrics["val_loss"]) == 0
    assert num_images(context, GENERAL["throughput"]) == 0


def test_without_a_ranking_or_by_the_test_split_nothing_is_said() -> None:
    single = Context.of(golden_results(1))
    assert winner_of(single).selection_bias is None
    assert winner_of(single).bias_text == ""
    by_test = winner_of(Context.of(golden_results(), "test_accuracy"))
    assert (by_test.test_metric, by_test.test_text) == (None, "")
    counted = Context.of(golden_results(), "macs")
    assert winner_of(counted).bias_text == ""


def test_a_bias_that_rounds_to_zero_is_less_than_the_last_digit(context: Context) -> None:
    assert difference_with_unit(context.metric, 0.04, 1) == "less than 0.1 points"
    assert difference_with_unit(context.metric, 0.06, 1) == "0.1 points"
    small = replace(winner_of(context), selection_bias=0.0)
    assert "expected to be less than 0.1 points too high" in small.bias_text
