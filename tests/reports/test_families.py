"""Cards of a comparison of families, from results that are made up."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from archsearch.core.budget import Budget
from archsearch.core.recipes import QUICK
from archsearch.families.convnext import ConvNeXt
from archsearch.families.internimage import ORIGIN
from archsearch.reports.context import Context
from archsearch.reports.families import FAMILIES, families_table
from archsearch.reports.family_results import family_results
from archsearch.reports.importances import MIN_TRAININGS, shares
from archsearch.reports.pilots import LIMITS_OF_ONE_RECIPE, PILOTS, pilots_table
from archsearch.reports.report import compute_report
from archsearch.reports.run_details import training_setup
from archsearch.reports.summary import summarize
from archsearch.results import Results, TrialResult, assemble
from archsearch.results.pilots import best_cells, rate_choices
from archsearch.space.grid import Space
from archsearch.studies.compare import PILOT_SEED, Families, median_cell
from archsearch.study import Record, Study, Trial
from tests.golden import DATA

SPACES = (
    Space(ORIGIN, {"c1": (8, 12), "group_channels": (4,), "l1": (1, 2)}),
    Space(ConvNeXt.template(), {"c1": (12, 16, 20), "l1": (1,)}),
)
FAMILIES_OF_TEST = Families(
    spaces=SPACES, budget=Budget(600_000, tolerance=0.2), recipe=QUICK, seeds=(0, 1, 2),
    rates=(1e-3, 2e-3, 4e-3),
)  # fmt: skip
NOISE = (0.1, -0.2, 0.15)


def results(study: Study, value: Callable[[Trial], float | None]) -> Results:
    def ended(i: int, trial: Trial) -> TrialResult:
        accuracy = value(trial)
        status = "diverged" if accuracy is None else "complete"
        noise = 0.0 if trial.seed == PILOT_SEED else NOISE[(i + trial.seed) % 3]
        metrics = {} if accuracy is None else {"val_accuracy": accuracy + noise}
        metrics["images_per_second"] = 500.0
        record = Record(trial.id, status, metrics, cost=trial.variant.cost(32), seconds=2.0)
        return TrialResult(trial, status, record)

    trials = tuple(ended(i, trial) for i, trial in enumerate(study.trials(DATA)))
    return assemble(study.name, study, DATA, {"command": ["archsearch"]}, trials)


def compared(gap: float, families: Families = FAMILIES_OF_TEST) -> Context:
    """InternImage's networks are better by ``gap``; its best rate is the middle one."""

    def pilot(trial: Trial) -> float | None:
        is_convnext = isinstance(trial.variant, ConvNeXt)
        if is_convnext and trial.recipe.lr == 4e-3:
            return None
        return 50 - abs(trial.recipe.lr - 2e-3) if not is_convnext else 40.0

    def final(trial: Trial) -> float:
        return 50 + trial.variant.numbers[0] / 100 + gap * (not isinstance(trial.variant, ConvNeXt))

    study = families.pilot_rates()
    assert study is not None
    pilots = results(study, pilot)
    rates = {name: choice.rate for name, choice in rate_choices(pilots).items()}
    run = results(families.final(rates), final)
    return Context.of(replace(run, pilots={"pilot-rates": pilots}))


def column(table: Any, name: str) -> list[str]:
    return [row[list(table.header).index(name)] for row in table.body]


def test_the_better_family_is_first_and_the_other_is_worse_or_tied() -> None:
    for gap, order, rank in ((5.0, ["internimage", "convnext"], "significantly worse"),
                             (-5.0, ["convnext", "internimage"], "significantly worse"),
                             (0.0, ["convnext", "internimage"], "tied with best")):  # fmt: skip
        table = families_table(compared(gap))
        assert column(table, "Family") == order
        assert column(table, "Rank") == ["best", rank]
        first, second = table.rows
        assert (first["difference"], first["p_value"]) == (None, None)
        excludes_zero = second["difference_high"] < 0
        assert excludes_zero == (second["p_value"] < 0.05) == (rank == "significantly worse")
        means = [row["val_accuracy"] for row in table.rows]
        assert second["difference"] == pytest.approx(means[1] - means[0], abs=1e-4)


def test_the_best_network_of_a_family_has_its_costs_and_its_rate() -> None:
    families = {family.name: family for family in family_results(compared(5.0))}
    best = families["internimage"].best
    assert best is not None
    assert best.cell.cost is not None
    assert best.cell.variant.numbers[0] == 12
    assert [row["lr"] for row in families_table(compared(5.0)).rows] == [2e-3, 1e-3]
    row = families_table(compared(5.0)).rows[0]
    assert (row["params"], row["macs"]) == (best.cell.cost.params, best.cell.cost.macs)
    assert row["trained_macs_m"] == best.cell.variant.cost(32).macs / 1e6
    assert row["milliseconds_per_image"] == 2.0
    assert row["cells_trained"] == len(
        {c.cell.variant for c in families["internimage"].cells} - {None}
    )


def test_pilots_choose_the_best_rate_and_the_lower_of_equal_ones() -> None:
    table = pilots_table(compared(0.0))
    assert column(table, "Family") == ["internimage", "convnext"]
    assert column(table, "Chosen") == ["0.002", "0.001"]
    assert column(table, "Pilots") == ["3", "3"]
    assert column(table, "Validation accuracy (%) at 0.004") == ["50.00", "–"]
    assert column(table, "Remarks") == ["", "the lowest rate tried: a lower one may be better"]


def test_pilots_without_a_result_choose_nothing() -> None:
    study = FAMILIES_OF_TEST.pilot_rates()
    assert study is not None
    with pytest.raises(ValueError, match=r"no pilot training of convnext has a result \(diverged"):
        rate_choices(results(study, lambda t: None if isinstance(t.variant, ConvNeXt) else 1.0))


def test_the_best_cells_are_those_of_the_best_pilots() -> None:
    families = replace(FAMILIES_OF_TEST, num_cells=1)
    study = families.pilot_cells(families.first_rates)
    assert study is not None
    values: Mapping[int, float] = {12: 3.0, 16: 9.0, 20: 5.0, 8: 1.0}
    best = best_cells(results(study, lambda t: values[t.variant.numbers[0]]), 1)
    assert best["convnext"][0].numbers[0] == 16
    assert len(best["internimage"]) == 1
    final = families.final(families.first_rates, best)
    assert {c.cell.variant for c in results(final, lambda _: 1.0).cells} == {
        *best["convnext"], *best["internimage"]
    }  # fmt: skip
    assert final.seeds == (0, 1, 2)
    assert {trial.seed for trial in study.trials(DATA)} == {PILOT_SEED}


def test_the_cards_apply_only_to_a_comparison_of_families() -> None:
    context = compared(1.0)
    names = [content.name for content in compute_report([context.results]).runs[0].contents]
    assert names[:3] == ["families", "pilots", "one-recipe"]
    pilots = Context.of(context.results.pilots["pilot-rates"])
    for card in (FAMILIES, PILOTS, LIMITS_OF_ONE_RECIPE):
        assert card.skip_reason(pilots)
    single = replace(FAMILIES_OF_TEST, rates=(1e-3,))
    assert single.pilot_rates() is None
    run = results(single.final(single.first_rates), lambda _: 1.0)
    assert PILOTS.skip_reason(Context.of(run))


def test_the_summary_compares_the_families_and_their_numbers_are_not_mixed() -> None:
    values = replace(SPACES[0], values={"c1": (8, 12), "group_channels": (2, 4), "l1": (1, 2)})
    context = compared(5.0, replace(FAMILIES_OF_TEST, spaces=(values, SPACES[1])))
    text = "The best network is of the family internimage; convnext is significantly worse."
    assert summarize(context).confidence.startswith(text)
    assert len([t for t in context.results.trials if t.record]) >= MIN_TRAININGS
    assert shares(context) == {}
    setup = dict(training_setup(context.results))
    assert setup["Instead of the recipe's"] == "internimage lr 0.002, convnext lr 0.001"


def test_the_pilot_is_the_median_network() -> None:
    for cells in FAMILIES_OF_TEST.cells.values():
        macs = sorted({c.cost.macs for c in cells if c.cost})
        cost = median_cell(cells).cost
        assert cost is not None
        assert cost.macs == macs[(len(macs) - 1) // 2]
