"""The law of a ladder in a report: fitted, tested on the largest size, and its predictions."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest

from archsearch.families.internimage import Variant
from archsearch.reports import recommendation, scaling_law, style
from archsearch.reports.context import Context
from archsearch.reports.formats import Table, as_markdown
from archsearch.reports.ladders import Ladder
from archsearch.reports.ladders import ladders as ladders_of
from archsearch.reports.recommendation import GroupRecommendation
from archsearch.reports.summary import summarize
from archsearch.results import CellResult, Results
from archsearch.stats.law import predict
from tests.golden import complete, diverged, golden_results, ladder_results, scale_results


def contexts(runs: Iterable[Results], target: int | None = None) -> list[Context]:
    return [Context.of(run, target=target) for run in runs]


def ladders(runs: Iterable[Results]) -> list[Ladder]:
    return ladders_of(contexts(runs))


def law_table(runs: Iterable[Results]) -> Table:
    return scaling_law.law_table(contexts(runs))


def recommendations(
    runs: Iterable[Results], target: int | None = None
) -> list[GroupRecommendation]:
    return recommendation.recommendations(contexts(runs, target))


def text_of(runs: Iterable[Results], target: int | None = None) -> str:
    return recommendation.recommendation_text(recommendations(runs, target), target)


@pytest.fixture(scope="module")
def run() -> Results:
    return ladder_results()


def test_the_exponent_is_recovered(run: Results) -> None:
    (ladder,) = ladders([run])
    assert ladder.rule == (1.09, 1.36)
    assert 0.3 in ladder.law.exponent
    assert len(ladder.points) == 3


def test_the_largest_size_is_predicted_from_the_smaller_ones_only(run: Results) -> None:
    (ladder,) = ladders([run])
    sizes = sorted(ladder.points)
    x, y = np.log(sizes), np.log([np.mean(ladder.points[s]) for s in sizes])
    slope = (y[1] - y[0]) / (x[1] - x[0])
    expected = math.exp(y[1] + slope * (x[2] - x[1]))
    assert ladder.test is not None
    assert ladder.test.prediction.error.mean == pytest.approx(expected)
    assert ladder.test.outcome == pytest.approx(np.mean(ladder.points[sizes[2]]))


def test_untrained_sizes_are_predicted(run: Results) -> None:
    content = law_table([run])
    assert "226.7M: 3" in as_markdown(content)
    trained = replace(
        run,
        cells=(*run.cells[:3], replace(run.cells[3], trials=run.cells[2].trials)),
        _compared={},
    )
    assert ladders([trained])[0].predictions == ()


def longer(run: Results) -> Results:
    """Return the run with a recipe of more epochs."""
    study = replace(run.study, recipe=replace(run.study.recipe, epochs=9))
    return replace(run, study=study, _compared={})


def test_runs_with_one_recipe_and_data_are_pooled(run: Results) -> None:
    """One size in each of two runs is a ladder; neither run has one by itself."""
    small = replace(run, name="small", cells=run.cells[:1], _compared={})
    large = replace(run, name="large", cells=run.cells[1:2], _compared={})
    assert ladders([small]) == ladders([large]) == []
    (ladder,) = ladders([small, large])
    assert ladder.runs == ("small", "large")
    assert ladder.points == {s: run_points for s, run_points in points(run).items() if s < 6e7}
    other = replace(large, data=replace(large.data, fingerprint="other"))
    assert ladders([small, other]) == []


def with_another_origin(run: Results) -> Results:
    """Return the run in which every phi has the network of the next phi."""
    cells = tuple(
        replace(to, cell=replace(to.cell, variant=of.cell.variant, cost=of.cell.cost))
        for to, of in pairwise(run.cells)
    )
    return replace(run, name="other", cells=cells, _compared={})


def test_ladders_of_two_origins_have_two_laws_and_two_names(run: Results) -> None:
    one, other = both = ladders([run, with_another_origin(run)])
    assert one.points == points(run)
    assert {x.rule for x in both} == {(1.09, 1.36)}
    assert [x.name for x in both] == ["α 1.09, β 1.36 (ladder-1.09)", "α 1.09, β 1.36 (other)"]
    assert set(other.points) != set(one.points)
    table = law_table([run, with_another_origin(run)])
    assert "different networks at one phi (another origin or rounding): α 1.09" in table.note
    (group,) = recommendations([run, with_another_origin(run)])
    assert set(group.trained) == {x.name for x in both}
    assert [x.name for x in ladders([run, run])] == ["α 1.09, β 1.36"]


def points(run: Results) -> Mapping[float, Sequence[float]]:
    (ladder,) = ladders([run])
    return ladder.points


def test_the_laws_do_not_depend_on_the_order_of_the_runs(run: Results) -> None:
    """A run with another recipe, or without a ladder, does not change the others."""
    runs = [golden_results(1), run, ladder_results(1.15, 1.32, 0.2), longer(ladder_results(1.2))]
    alone = {x.rule: x.points for one in runs for x in ladders([one])}
    assert len(alone) == 3
    for order in permutations(runs):
        assert {x.rule: x.points for x in ladders(order)} == alone
        table = law_table(order)
        assert "In no law: grid-30m (no scaling factors)." in table.note
        assert "Not pooled, since they differ in epochs (" in table.note


def test_one_pair_with_two_recipes_has_two_laws_and_a_note(run: Results) -> None:
    slow = replace(longer(ladder_results()), name="slow")
    assert [(x.rule, x.runs) for x in ladders([slow, run])] == [
        ((1.09, 1.36), ("slow",)),
        ((1.09, 1.36), ("ladder-1.09",)),
    ]
    table = law_table([slow, run])
    assert [(row["runs"], row["alpha"]) for row in table.rows] == [
        ("slow", 1.09),
        ("ladder-1.09", 1.09),
    ]
    assert "Not pooled, since they differ in epochs (9, 4): slow; ladder-1.09." in table.note
    alone = law_table([run])
    assert "pooled" not in alone.note
    assert "Runs" not in alone.header


def test_runs_with_one_name_are_numbered(run: Results) -> None:
    assert [x.runs for x in ladders([run, longer(run)])] == [
        ("1. ladder-1.09",),
        ("2. ladder-1.09",),
    ]


def test_a_run_with_too_few_sizes_for_a_law_is_named(run: Results) -> None:
    short = longer(replace(ladder_results(1.15, 1.32), cells=run.cells[:1], name="short"))
    table = law_table([run, short])
    assert "Not pooled, since they differ in epochs (4, 9): ladder-1.09; short." in table.note
    assert "In no law: short (no pair with results at two sizes)." in table.note


def test_the_better_law_is_recommended(run: Results) -> None:
    text = text_of([run, ladder_results(1.15, 1.32, 0.2)])
    assert text.startswith("At 114M parameters α 1.09, β 1.36 has the lowest predicted error, ")
    assert text_of([run]) == ""


def test_only_laws_of_one_recipe_compete(run: Results) -> None:
    second, slow = ladder_results(1.15, 1.32, 0.2), longer(ladder_results(1.2, 1.3, 0.5))
    assert text_of([run, slow]) == ""
    (one,) = recommendations([slow, run, second])
    assert one.runs == ("ladder-1.09", "ladder-1.15")
    assert set(one.choice.errors) == {"α 1.09, β 1.36", "α 1.15, β 1.32"}
    two = text_of([run, second, slow, longer(ladder_results(1.25, 1.3, 0.4))])
    assert "ladder-1.09 and ladder-1.15: At 114M" in two
    assert "ladder-1.2 and ladder-1.25: At " in two


def test_a_target_is_recommended_for_with_its_interval(run: Results) -> None:
    """The error is the law's prediction at the target; extrapolation is stated."""
    second = ladder_results(1.15, 1.32, 0.2)
    (one,) = recommendations([run, second], 100_000_000)
    law = next(x.law for x in ladders([run]))
    assert one.choice.errors["α 1.09, β 1.36"] == predict(law, 1e8).error
    assert one.extrapolated == ()
    inside = text_of([run, second], 100_000_000)
    assert inside.startswith("At 100M parameters α 1.09, β 1.36 has the lowest predicted error, ")
    assert "Extrapolated" not in inside
    far = text_of([run, second], 400_000_000)
    error = predict(law, 4e8).error
    assert error.low is not None
    assert f"{error.mean:.2f}% (95% interval: {error.low:.2f} to {error.high:.2f}%)" in far
    assert far.startswith("At 400M parameters ")
    assert far.endswith(
        "Extrapolated outside the trained sizes of α 1.09, β 1.36 (29.9M to 105M); "
        "α 1.15, β 1.32 (29.9M to 114M)."
    )
    assert "Extrapolated" in text_of([run, second], 1_000_000)


def test_a_target_beyond_four_times_the_largest_size_is_refused(run: Results) -> None:
    second = ladder_results(1.15, 1.32, 0.2)
    with pytest.raises(
        ValueError, match=r"no recommendation at 1\.08B .* more than 4 times"
    ) as error:
        text_of([run, second], 1_080_000_000)
    assert "α 1.09, β 1.36 (105M); α 1.15, β 1.32 (114M)" in str(error.value)
    only_one = r"size of α 1\.09, β 1\.36 \(105M\): intervals"
    with pytest.raises(ValueError, match=only_one):
        text_of([run, second], 430_000_000)


def test_from_five_sizes_on_the_interval_of_a_target_includes_laws_with_a_floor(
    run: Results,
) -> None:
    """Without a true floor the data still admit a small one, so the interval reaches higher."""
    long = of_many_sizes(run, 0.0)
    (one,) = recommendations([long], 2_000_000_000)
    (ladder,) = ladders([long])
    interval, straight = one.choice.errors[ladder.name], predict(ladder.law, 2e9).error
    assert interval.high is not None
    assert straight.high is not None
    assert interval.high > straight.high
    assert interval.low is not None
    assert straight.low is not None
    assert interval.low <= straight.low
    assert interval.mean == straight.mean


def test_without_a_target_the_size_is_one_that_every_pair_can_be_predicted_at(run: Results) -> None:
    small = replace(run, name="small", cells=with_rule(run, 1.2).cells[:2], _compared={})
    larger = resized(run, 5.0)
    (one,) = recommendations([larger, small])
    assert one.choice.size == pytest.approx(4 * 50_079_880)


def with_rule(run: Results, alpha: float) -> Results:
    cells = (
        replace(c, cell=replace(c.cell, requested={**c.cell.requested, "alpha": alpha}))
        for c in run.cells
    )
    return replace(run, cells=tuple(cells), _compared={})


def resized(run: Results, factor: float) -> Results:
    """Return the run with every size but the smallest multiplied."""

    def larger(cell: CellResult) -> CellResult:
        assert cell.cell.cost is not None
        size = round(cell.cell.cost.params * (factor if cell.index else 1))
        return replace(cell, cell=replace(cell.cell, cost=replace(cell.cell.cost, params=size)))

    return replace(run, cells=tuple(map(larger, run.cells)), _compared={})


def test_an_untrained_size_that_is_too_far_is_named_and_not_predicted(run: Results) -> None:
    short = replace(run, cells=(*run.cells[:2], run.cells[3]), _compared={})
    (ladder,) = ladders([short])
    assert (len(ladder.predictions), len(ladder.too_far)) == (0, 1)
    note = law_table([short]).note
    assert "Not predicted, being more than 4 times the largest trained size: α 1.09" in note
    assert "at 226.7M" in note
    assert ladders([resized(short, 1.0)])[0].test is None


def of_many_sizes(run: Results, floor: float) -> Results:
    """Return a ladder of six doubling sizes with an exact law above the floor."""
    cells = []
    for i in range(6):
        of = run.cells[0]
        variant = of.cell.variant
        assert isinstance(variant, Variant)
        assert of.cell.cost is not None
        wide = variant.with_numbers(variant.c1 + 16 * i, 16, 4, 18)
        errors = floor + (40 - floor) * 2 ** (-0.5 * i) * np.array([0.99, 1.0, 1.01 + i % 2 / 200])
        trials = tuple(
            complete(replace(t.trial, variant=wide), 100 - float(e))
            for t, e in zip(of.trials, errors, strict=True)
        )
        cost = replace(of.cell.cost, params=of.cell.cost.params * 2**i)
        requested = {**of.cell.requested, "phi": i}
        cell = replace(of.cell, variant=wide, cost=cost, requested=requested)
        cells.append(replace(of, index=i, cell=cell, trials=trials))
    return replace(run, cells=tuple(cells), _compared={})


def test_a_floor_is_shown_where_the_data_identify_it(run: Results) -> None:
    table = law_table([of_many_sizes(run, 15.0)])
    assert table.rows[0]["floor"] == pytest.approx(15.0, abs=0.7)
    assert table.rows[0]["floor_low"] > 10
    assert "Exponent above the floor" in table.header
    assert "no floor is shown" not in table.note
    straight = law_table([of_many_sizes(run, 0.0)])
    assert "Floor (%)" not in straight.header
    assert "no floor is shown for α 1.09, β 1.36, since" in straight.note
    assert "floor" not in law_table([run]).header


def test_a_target_gets_an_answer_also_for_a_single_pair(run: Results) -> None:
    alone = text_of([run], 50_000_000)
    assert alone.startswith("At 50.0M parameters α 1.09, β 1.36 has a predicted error of ")
    assert alone.endswith("no other pair was trained for comparison.")
    assert text_of([golden_results(1)], 100_000_000) == (
        "No recommendation at 100M parameters: no pair (α, β) has finished trainings at two sizes."
    )
    short = replace(run, cells=run.cells[:2], _compared={})
    assert "% (no interval from two sizes); no other" in text_of([short], 50_000_000)


def test_a_recommendation_is_plain_json(run: Results) -> None:
    (one,) = recommendations([run, ladder_results(1.15, 1.32, 0.2)], 200_000_000)
    content = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert (content["size"], content["best"], content["has_single_best"]) == (
        2e8,
        "α 1.09, β 1.36",
        True,
    )
    assert content["extrapolated"] == list(content["errors"])
    assert content["errors"]["α 1.09, β 1.36"]["low"] < content["errors"]["α 1.09, β 1.36"]["mean"]


def test_one_size_per_pair_gives_no_law(run: Results) -> None:
    for other in (scale_results(), golden_results(1)):
        reason = scaling_law.LAW.skip_reason(Context.of(other))
        assert reason == "no pair (alpha, beta) has results at two sizes"
    with style.styled():
        content = scaling_law.LAW.content(Context.of(run))
    assert content.table is not None
    assert content.figure is not None


def with_accuracies(run: Results, index: int, *accuracies: float | None) -> Results:
    """Return the run in which the seeds of one cell have these accuracies; None diverged."""
    seeds = zip(run.cells[index].trials, accuracies, strict=True)
    trials = tuple(diverged(t.trial) if a is None else complete(t.trial, a) for t, a in seeds)
    cells = list(run.cells)
    cells[index] = replace(cells[index], trials=trials)
    return replace(run, cells=tuple(cells), _compared={})


def test_one_seed_without_an_error_stays_in_the_mean_of_its_size(run: Results) -> None:
    changed = with_accuracies(run, 2, 100.0, 96.0, 95.0)
    (ladder,) = ladders([changed])
    largest = max(ladder.points)
    assert sorted(ladder.points[largest]) == pytest.approx([0.0, 4.0, 5.0])
    assert math.exp(ladder.law.log_errors[-1]) == pytest.approx(3.0)
    note = law_table([changed]).note
    assert "Some seeds have an error of zero, which is in the mean" in note
    assert "α 1.09, β 1.36 at 104.5M" in note
    with style.styled():
        assert "<svg" in style.svg(scaling_law.law_figure(contexts([changed])))


def test_a_size_with_only_wrong_answers_stays_in_the_law(run: Results) -> None:
    (ladder,) = ladders([with_accuracies(run, 0, 0.0, 0.0, 0.0)])
    assert math.exp(ladder.law.log_errors[0]) == pytest.approx(100.0)
    assert ladder.left_out == ()


@pytest.mark.parametrize(
    ("accuracies", "reason"),
    [
        ((100.0,) * 3, "every seed has an error of zero, which a power law cannot have"),
        ((None,) * 3, "no training has a result: 3 diverged"),
        ((94.0, None, 95.0), "of 3 seeds 1 diverged"),
    ],
)
def test_what_a_law_leaves_out_is_in_table_json_and_page(
    run: Results, accuracies: tuple[float | None, ...], reason: str
) -> None:
    changed, text = with_accuracies(run, 1, *accuracies), f"α 1.09, β 1.36 at 50.1M ({reason})"
    table = law_table([changed])
    assert f"Left out of the law: {text}." in table.note
    assert reason in table.rows[0]["left_out"]
    assert f"Left out of the scaling law: {text}." in summarize(Context.of(changed)).caveats
    assert "left_out" not in law_table([run]).rows[0]


def test_a_law_that_lost_its_second_size_is_missing_with_the_reason(run: Results) -> None:
    """The table of the law is not drawn then, but the page says why."""
    short = replace(with_accuracies(run, 0, 100.0, 100.0, 100.0), _compared={})
    short = replace(short, cells=short.cells[:2])
    assert ladders([short]) == []
    assert "29.9M (every seed has an error of zero" in " ".join(
        summarize(Context.of(short)).caveats
    )


def test_a_pair_without_a_law_beside_one_with_a_law_is_named(run: Results) -> None:
    lone = replace(run.cells[2], cell=replace(run.cells[2].cell, requested={"alpha": 2, "beta": 1}))
    both = replace(run, cells=(*run.cells, replace(lone, index=len(run.cells))), _compared={})
    assert "In no law: α 2, β 1 (no results at two sizes)." in law_table([both]).note


def test_every_ladder_is_drawn_in_a_style_of_its_own() -> None:
    runs = [ladder_results(1 + i / 100, 1.3) for i in range(10)]
    with style.styled():
        (ax,) = scaling_law.law_figure(contexts(runs)).axes
    labels = [line for line in ax.lines if not str(line.get_label()).startswith("_")]
    assert len(labels) == 10
    assert len({(line.get_color(), str(line.get_linestyle())) for line in labels}) > 8
    assert len({str(style.series(i)) for i in range(32)}) == 32
