"""The law of a ladder as it is reported: fitted, tested on the largest size, looking ahead."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest

from archsearch.reports import recommended, scaling_law, style
from archsearch.reports.context import Context
from archsearch.reports.formats import Table, as_markdown
from archsearch.reports.ladders import Ladder
from archsearch.reports.ladders import ladders as ladders_of
from archsearch.reports.recommended import Advice, advise
from archsearch.results import Results
from archsearch.stats.law import predict
from tests.golden import complete, golden_results, ladder_results, scale_results


def contexts(runs: Iterable[Results], target: int | None = None) -> list[Context]:
    return [Context.of(run, target=target) for run in runs]


def ladders(runs: Iterable[Results]) -> list[Ladder]:
    return ladders_of(contexts(runs))


def law_table(runs: Iterable[Results]) -> Table:
    return scaling_law.law_table(contexts(runs))


def advice(runs: Iterable[Results], target: int | None = None) -> list[Advice]:
    return advise(contexts(runs, target))


def recommendation(runs: Iterable[Results], target: int | None = None) -> str:
    return recommended.recommendation(advice(runs, target), target)


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
    assert found.test is not None
    assert found.test.prediction.error.mean == pytest.approx(expected)
    assert found.test.outcome == pytest.approx(np.mean(found.points[sizes[2]]))


def test_what_is_not_trained_yet_is_foretold(run: Results) -> None:
    content = law_table([run])
    assert "226.7M: 3" in as_markdown(content)
    trained = replace(
        run,
        cells=(*run.cells[:3], replace(run.cells[3], trials=run.cells[2].trials)),
        _compared={},
    )
    assert ladders([trained])[0].predictions == ()


def longer(run: Results) -> Results:
    """The same run by a recipe of more epochs."""
    study = replace(run.study, recipe=replace(run.study.recipe, epochs=9))
    return replace(run, study=study, _compared={})


def test_runs_with_one_recipe_and_data_are_pooled(run: Results) -> None:
    """One rung in each of two runs is a ladder; neither has one alone."""
    small = replace(run, name="small", cells=run.cells[:1], _compared={})
    large = replace(run, name="large", cells=run.cells[1:2], _compared={})
    assert ladders([small]) == ladders([large]) == []
    (found,) = ladders([small, large])
    assert found.runs == ("small", "large")
    assert found.points == {s: run_points for s, run_points in points(run).items() if s < 6e7}
    other = replace(large, data=replace(large.data, fingerprint="other"))
    assert ladders([small, other]) == []


def grown_from_another(run: Results) -> Results:
    """Every phi has the network of the next one."""
    cells = tuple(
        replace(to, cell=replace(to.cell, variant=of.cell.variant, cost=of.cell.cost))
        for to, of in pairwise(run.cells)
    )
    return replace(run, name="other", cells=cells, _compared={})


def test_ladders_of_two_origins_have_two_laws_and_two_names(run: Results) -> None:
    one, other = found = ladders([run, grown_from_another(run)])
    assert one.points == points(run)
    assert {x.rule for x in found} == {(1.09, 1.36)}
    assert [x.name for x in found] == ["α 1.09, β 1.36 (ladder-1.09)", "α 1.09, β 1.36 (other)"]
    assert set(other.points) != set(one.points)
    told = law_table([run, grown_from_another(run)])
    assert "other networks at one phi (another origin or rounding): α 1.09" in told.note
    (told_both,) = advice([run, grown_from_another(run)])
    assert set(told_both.trained) == {x.name for x in found}
    assert [x.name for x in ladders([run, run])] == ["α 1.09, β 1.36"]


def points(run: Results) -> Mapping[float, Sequence[float]]:
    (found,) = ladders([run])
    return found.points


def test_the_laws_do_not_depend_on_the_order_of_the_runs(run: Results) -> None:
    """A run with another recipe, or without any ladder, takes nothing from the others."""
    runs = [golden_results(1), run, ladder_results(1.15, 1.32, 0.2), longer(ladder_results(1.2))]
    alone = {x.rule: x.points for one in runs for x in ladders([one])}
    assert len(alone) == 3
    for order in permutations(runs):
        assert {x.rule: x.points for x in ladders(order)} == alone
        told = law_table(order)
        assert "No part in a law: grid-30m (no scaling factors)." in told.note
        assert "Not pooled, since they differ in epochs (" in told.note


def test_one_pair_by_two_recipes_has_two_laws_and_the_note_says_why(run: Results) -> None:
    slow = replace(longer(ladder_results()), name="slow")
    assert [(x.rule, x.runs) for x in ladders([slow, run])] == [
        ((1.09, 1.36), ("slow",)),
        ((1.09, 1.36), ("ladder-1.09",)),
    ]
    told = law_table([slow, run])
    assert [(row["runs"], row["alpha"]) for row in told.rows] == [
        ("slow", 1.09),
        ("ladder-1.09", 1.09),
    ]
    assert "Not pooled, since they differ in epochs (9, 4): slow; ladder-1.09." in told.note
    alone = law_table([run])
    assert "pooled" not in alone.note
    assert "Runs" not in alone.header


def test_runs_of_one_name_are_told_apart(run: Results) -> None:
    assert [x.runs for x in ladders([run, longer(run)])] == [
        ("1. ladder-1.09",),
        ("2. ladder-1.09",),
    ]


def test_a_run_that_is_too_short_for_a_law_is_named(run: Results) -> None:
    short = longer(replace(ladder_results(1.15, 1.32), cells=run.cells[:1], name="short"))
    told = law_table([run, short])
    assert "Not pooled, since they differ in epochs (4, 9): ladder-1.09; short." in told.note
    assert "No part in a law: short (no pair with results at two sizes)." in told.note


def test_the_better_law_is_recommended_with_its_doubt(run: Results) -> None:
    told = recommendation([run, ladder_results(1.15, 1.32, 0.2)])
    assert told.startswith("At 114M parameters α 1.09, β 1.36 promises the least error, ")
    assert recommendation([run]) == ""


def test_only_laws_of_one_recipe_compete(run: Results) -> None:
    rival, slow = ladder_results(1.15, 1.32, 0.2), longer(ladder_results(1.2, 1.3, 0.5))
    assert recommendation([run, slow]) == ""
    (one,) = advice([slow, run, rival])
    assert one.runs == ("ladder-1.09", "ladder-1.15")
    assert set(one.choice.errors) == {"α 1.09, β 1.36", "α 1.15, β 1.32"}
    two = recommendation([run, rival, slow, longer(ladder_results(1.25, 1.3, 0.4))])
    assert "ladder-1.09 and ladder-1.15: At 114M" in two
    assert "ladder-1.2 and ladder-1.25: At " in two


def test_a_target_is_recommended_for_with_its_interval(run: Results) -> None:
    """At the target the law's own prediction; beyond the sizes trained it says so."""
    rival = ladder_results(1.15, 1.32, 0.2)
    (one,) = advice([run, rival], 100_000_000)
    law = next(x.law for x in ladders([run]))
    assert one.choice.errors["α 1.09, β 1.36"] == predict(law, 1e8).error
    assert one.extrapolated == ()
    inside = recommendation([run, rival], 100_000_000)
    assert inside.startswith("At 100M parameters α 1.09, β 1.36 promises the least error, ")
    assert "Extrapolated" not in inside
    far = recommendation([run, rival], 1_080_000_000)
    error = predict(law, 1.08e9).error
    assert error.low is not None
    assert f"{error.mean:.2f}% (95% interval: {error.low:.2f} to {error.high:.2f}%)" in far
    assert far.startswith("At 1.08B parameters ")
    assert far.endswith(
        "Extrapolated, as that lies outside the sizes trained for α 1.09, β 1.36 (29.9M to 105M); "
        "α 1.15, β 1.32 (29.9M to 114M)."
    )
    assert "Extrapolated" in recommendation([run, rival], 1_000_000)


def test_a_target_gets_an_answer_also_where_there_is_no_choice(run: Results) -> None:
    alone = recommendation([run], 50_000_000)
    assert alone.startswith("At 50.0M parameters α 1.09, β 1.36 promises an error of ")
    assert alone.endswith("no other pair was trained to compare it with.")
    assert recommendation([golden_results(1)], 100_000_000) == (
        "No recommendation at 100M parameters: no pair (α, β) has finished trainings at two sizes."
    )
    short = replace(run, cells=run.cells[:2], _compared={})
    assert "% (no interval from two sizes); no other" in recommendation([short], 50_000_000)


def test_an_advice_is_plain_json(run: Results) -> None:
    (one,) = advice([run, ladder_results(1.15, 1.32, 0.2)], 200_000_000)
    told = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert (told["size"], told["best"], told["sure"]) == (2e8, "α 1.09, β 1.36", True)
    assert told["extrapolated"] == list(told["errors"])
    assert told["errors"]["α 1.09, β 1.36"]["low"] < told["errors"]["α 1.09, β 1.36"]["mean"]


def test_one_size_a_rule_is_no_law(run: Results) -> None:
    for other in (scale_results(), golden_results(1)):
        reason = scaling_law.LAW.applies(Context.of(other))
        assert reason == "no pair (alpha, beta) has results at two sizes"
    with style.styled():
        content = scaling_law.LAW.content(Context.of(run))
    assert content.table is not None
    assert content.figure is not None


def test_an_error_of_zero_is_left_out_of_the_law(run: Results) -> None:
    perfect = tuple(complete(t.trial, 100.0) for t in run.cells[2].trials)
    cells = (*run.cells[:2], replace(run.cells[2], trials=perfect), run.cells[3])
    changed = replace(run, cells=cells, _compared={})
    assert len(ladders([changed])[0].points) == 2
    told = law_table([changed])
    left_out = "Left out for an error of zero, which no power law has: α 1.09, β 1.36 at 104.5M."
    assert left_out in told.note
