"""The law of a ladder as it is reported: fitted, tested on the largest size, looking ahead."""

import math
from dataclasses import replace

import numpy as np
import pytest

from archsearch.results import Results
from reports import style
from reports.formats import as_markdown
from reports.scaling_law import ladders, law_figure, law_table, recommendation
from tests.golden import complete, golden_results, ladder_results, scale_results


@pytest.fixture(scope="module")
def run() -> Results:
    return ladder_results()


def test_the_exponent_is_found_again(run: Results) -> None:
    (found,) = ladders([run])
    assert found.rule == (1.09, 1.36)
    assert 0.3 in found.law.exponent
    assert len(found.points) == 3


def test_the_largest_size_is_foretold_from_the_smaller_ones_alone(run: Results) -> None:
    (found,) = ladders([run])
    sizes = sorted(found.points)
    x, y = np.log(sizes), np.log([np.mean(found.points[s]) for s in sizes])
    slope = (y[1] - y[0]) / (x[1] - x[0])
    expected = math.exp(y[1] + slope * (x[2] - x[1]))
    assert found.tested is not None
    assert found.tested.prediction.error.mean == pytest.approx(expected)
    assert found.tested.outcome == pytest.approx(np.mean(found.points[sizes[2]]))


def test_what_is_not_trained_yet_is_foretold(run: Results) -> None:
    content = law_table([run])
    assert content is not None
    assert "226.7M: 3" in as_markdown(content)
    trained = replace(
        run,
        cells=(*run.cells[:3], replace(run.cells[3], trials=run.cells[2].trials)),
        _compared={},
    )
    assert ladders([trained])[0].ahead == ()


def test_runs_are_pooled_only_with_one_recipe_and_data(run: Results) -> None:
    other = ladder_results(1.15, 1.32, 0.2)
    assert [x.rule for x in ladders([run, other])] == [(1.09, 1.36), (1.15, 1.32)]
    study = replace(other.study, recipe=replace(other.study.recipe, epochs=9))
    assert [x.rule for x in ladders([run, replace(other, study=study)])] == [(1.09, 1.36)]


def test_the_better_law_is_recommended_with_its_doubt(run: Results) -> None:
    told = recommendation([run, ladder_results(1.15, 1.32, 0.2)])
    assert told.startswith("At 114M parameters α 1.09, β 1.36 promises the least error, ")
    assert recommendation([run]) == ""


def test_one_size_a_rule_is_no_law(run: Results) -> None:
    assert law_table([scale_results()]) is None
    assert law_table([golden_results(1)]) is None
    with style.styled():
        assert law_figure([scale_results()]) is None
        assert law_figure([run]) is not None


def test_an_error_of_zero_is_left_out_of_the_law(run: Results) -> None:
    perfect = tuple(complete(t.trial, 100.0) for t in run.cells[2].trials)
    cells = (*run.cells[:2], replace(run.cells[2], trials=perfect), run.cells[3])
    assert len(ladders([replace(run, cells=cells, _compared={})])[0].points) == 2
