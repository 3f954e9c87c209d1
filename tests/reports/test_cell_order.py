"""Every cell has one number: it is printed, sorted, shaded, on fronts, and decides the best."""

from dataclasses import replace

import pytest

from archsearch.core.metrics import GENERAL
from archsearch.core.plans import Search
from archsearch.reports import style
from archsearch.reports.cell_order import (
    best_has_best_mean,
    in_ranking,
    ranked_cells,
    reported_interval,
    seeds_differ,
)
from archsearch.reports.context import Context
from archsearch.reports.error_distribution import edf_figure
from archsearch.reports.formats import Table
from archsearch.reports.phrases import mean_note
from archsearch.reports.report import compute_report
from archsearch.reports.results_table import results_table
from archsearch.reports.summary import summarize
from archsearch.reports.trade_off import pareto_cells, pareto_table, tradeoff_figure
from archsearch.results import Comparison, Results
from archsearch.stats.intervals import pareto
from tests.golden import golden_results, scale_results, uneven_results


@pytest.fixture(scope="module")
def uneven() -> Results:
    return uneven_results()


def across(results: list[Results]) -> dict[str, Table]:
    """Return the tables that compare runs."""
    return {c.name: c.table for c in compute_report(results).cross if c.table}


def plain_best(results: Results) -> str:
    """Return the best network by plain means over the seeds that each cell has."""
    compared = results.compare()
    means = {c.label: e.mean for c, e in zip(results.cells, compared.estimates, strict=True) if e}
    return max(means, key=lambda label: means[label])


def test_a_cell_is_shown_by_the_mean_that_the_ranking_compares(uneven: Results) -> None:
    compared = uneven.compare()
    assert plain_best(uneven) not in compared.ranking.tied  # else this run would test nothing
    for cell in uneven.cells[:-1]:
        estimate, plain = reported_interval(cell, compared), cell.estimate(compared.metric)
        assert estimate is not None
        assert plain is not None
        assert estimate.mean == pytest.approx(compared.ranking.means[cell.label])
        own = compared.estimates[cell.index]
        assert own is not None
        assert estimate.half_width == pytest.approx(own.half_width)
        assert (estimate.mean == plain.mean) == (plain.n == 5)
    assert reported_interval(uneven.cells[-1], compared) is None


def test_with_equal_seeds_the_mean_is_the_plain_mean() -> None:
    results = scale_results()
    compared = results.compare()
    assert tuple(reported_interval(c, compared) for c in results.cells) == compared.estimates
    assert mean_note(Context.of(results)) == ""
    assert not seeds_differ(Context.of(results))


def test_the_best_cell_is_first_and_has_the_best_number(uneven: Results) -> None:
    content = results_table(Context.of(uneven))
    column = content.header.index("Validation accuracy (%)")
    numbers = [float(row[column].split(" ")[0]) for row in content.body[:-1]]
    ranks = [row[content.header.index("Rank")] for row in content.body]
    assert numbers == sorted(numbers, reverse=True)
    assert ranks == ["best", *["tied with best"] * 2, *["significantly worse"] * 11, ""]
    assert f"{numbers[0]:.1f} ± " in summarize(Context.of(uneven)).headline
    best, *_ = ranked_cells(Context.of(uneven))
    assert best.label == uneven.compare().ranking.best


def test_the_headline_and_the_table_agree_on_a_best_cell_that_lacks_a_seed(uneven: Results) -> None:
    compared = uneven.compare()
    best = uneven.network(str(compared.ranking.best))
    short = replace(best, trials=best.trials[1:])  # without one of the easy seeds
    cells = tuple(short if c.index == best.index else c for c in uneven.cells)
    fixed = replace(uneven.study, plan={})
    results = replace(uneven, study=fixed, cells=cells, _compared={})
    ranking = results.compare().ranking
    assert ranking.best == best.label
    assert short.estimate(compared.metric) != reported_interval(short, results.compare())
    shown = f"{ranking.means[best.label]:.1f} ± "
    assert shown in summarize(Context.of(results)).headline
    content = results_table(Context.of(results))
    assert content.body[0][content.header.index("Validation accuracy (%)")].startswith(shown)
    assert next(iter(across([results, uneven])["runs"].rows))["result"].startswith(shown)


def test_the_front_uses_the_numbers_shown(uneven: Results) -> None:
    compared, cost = uneven.compare(), GENERAL["macs"]
    front = {c.label for c in pareto_cells(Context.of(uneven), cost)}
    points = {
        c.label: (compared.ranking.means[c.label], c.cost_value(cost) or 0.0)
        for c in uneven.cells[:-1]
    }
    assert front == set(pareto(points, (True, False)))
    assert compared.ranking.best in front
    assert plain_best(uneven) not in front
    with style.styled():
        figure = tradeoff_figure(Context.of(uneven), cost)
    drawn = {y for line in figure.axes[0].get_lines() if len(line.get_ydata()) == 1
             for y in line.get_ydata()}  # fmt: skip
    assert sorted(drawn) == pytest.approx(sorted(compared.ranking.means.values()))


def test_the_distribution_and_the_table_of_runs_show_the_same_numbers(uneven: Results) -> None:
    with style.styled():
        figure = edf_figure(Context.of(uneven))
    errors = sorted(100 - m for m in uneven.compare().ranking.means.values())
    assert list(figure.axes[0].get_lines()[0].get_xdata())[1:] == pytest.approx(errors)
    tables = across([uneven, replace(uneven, name="again")])
    means = {row["network"]: row["1_uneven"] for row in tables["shared"].rows}
    ranked = uneven.compare().ranking.means
    assert means == pytest.approx({k: round(v, 6) for k, v in ranked.items()})


def test_a_network_that_diverged_on_a_seed_is_on_no_front_and_after_the_ranked_ones() -> None:
    """This holds even if its other seeds are better than all other networks."""
    results = golden_results()
    (diverged,) = (
        c for c in results.cells if c.state == "complete" and "diverged" in c.status_text
    )
    lucky = tuple(
        t if t.record is None or t.state == "diverged" else
        replace(t, record=replace(t.record, metrics={"val_accuracy": 99.9}))
        for t in diverged.trials
    )  # fmt: skip
    cells = tuple(replace(c, trials=lucky) if c is diverged else c for c in results.cells)
    biased = replace(results, cells=cells, _compared={})
    compared = biased.compare()
    assert plain_best(biased) == diverged.label
    assert not in_ranking(diverged, compared)
    for cost in (GENERAL["params"], GENERAL["macs"]):
        assert diverged.label not in {c.label for c in pareto_cells(Context.of(biased), cost)}
    with_value = [c for c in ranked_cells(Context.of(biased)) if compared.estimates[c.index]]
    assert with_value[-1].label == diverged.label
    assert (
        "1 cell outside the ranking: shown by the plain mean"
        in results_table(Context.of(biased)).note
    )
    assert "networks outside the ranking are on none" in pareto_table(Context.of(biased)).note


def test_without_a_ranking_every_cell_has_its_plain_mean() -> None:
    """Every network that has a value diverged on a seed."""
    results = golden_results()
    cells = tuple(c for c in results.cells if "1 of 5 seeds diverged" in c.status_text)
    alone = replace(results, cells=tuple(replace(c, index=0) for c in cells), _compared={})
    compared = alone.compare()
    assert not compared.ranking.means
    assert in_ranking(alone.cells[0], compared)
    assert len(pareto_cells(Context.of(alone), GENERAL["params"])) == 1
    assert (
        summarize(Context.of(alone)).headline == "No network can be ranked by validation accuracy."
    )


def test_the_note_lists_the_seeds_if_they_differ(uneven: Results) -> None:
    note = mean_note(Context.of(uneven))
    assert note.startswith("Cells have different seeds: each cell is shown, sorted and shaded by")
    assert "over seeds 0, 1, 2, 3 and 4;" in note
    assert note in results_table(Context.of(uneven)).note
    assert not seeds_differ(Context.of(uneven, "macs"))


def test_the_best_cell_stays_first_if_an_excluded_one_has_a_better_mean_now(
    uneven: Results,
) -> None:
    """Tests are repeated after every seed, but a significantly worse network stays excluded."""
    compared = uneven.compare()
    ranking = compared.ranking
    assert best_has_best_mean(compared)
    excluded = next(label for label in ranking.means if label not in ranking.tied)
    changed = replace(ranking, means={**ranking.means, excluded: 99.0})
    later = Comparison(compared.metric, compared.estimates, changed)
    assert not best_has_best_mean(later)
    context = replace(Context.of(uneven), comparison=later)
    first, second, *_ = ranked_cells(context)
    assert (first.label, second.label) == (ranking.best, excluded)
    assert "significantly worse in an earlier test stays excluded" in mean_note(context)


def test_a_front_says_which_networks_lack_its_cost() -> None:
    results = golden_results()
    plan = Search("four", {}, "tpe", ("val_accuracy", "memory"), 0, 2, 0.05)
    searched = replace(results, study=replace(results.study, plan=plan), _compared={})
    ranked = len(searched.compare().ranking.means)
    note = pareto_table(Context.of(searched)).note
    assert f"{ranked} networks without a value for peak memory, so on no front" in note
    assert "without a value" not in pareto_table(Context.of(results)).note
