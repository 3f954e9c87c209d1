"""The study of the four orderings: its design, and its verdicts on synthetic records."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats

from archsearch.families.internimage import Variant
from archsearch.paper.table_c import ROWS, table_c
from archsearch.results import Results, TrialResult, assemble
from archsearch.stats.contrasts import Contrast
from archsearch.stats.power import smallest_effect
from archsearch.studies.evidence import (
    PAIRS,
    PAIRS_ORIGIN,
    PAIRS_PHI,
    RECIPE,
    pairs,
    stacking,
)
from archsearch.studies.evidence_verdicts import ORDERINGS, Finding, _numbers, findings
from archsearch.study import Record, Study, Trial
from tests.golden import DATA

Effects = Mapping[str, float]
DEVIATION = 0.8


def truth(effects: Effects, requested: Mapping[str, Any]) -> float:
    """Return the accuracy of a cell without noise, from effects in the paper's direction."""
    numbers = {"C'": ("group_channels", 4), "L1": ("l1", 4), "C1": ("c1", 24)}
    steps = {n: requested.get(field) == value for n, (field, value) in numbers.items()}
    steps["(alpha, beta)"] = requested.get("alpha") == 1.09
    return 45 + sum(effects.get(name, 0.0) * is_better for name, is_better in steps.items())


def finished(
    study: Study, effects: Effects, seeds: int, rng: np.random.Generator, lost: int | None = None
) -> Results:
    """Return a run with the first seeds finished; ``lost`` is a seed on which one network fails."""
    of_seed = rng.normal(0, 1, 100)
    cell_of = {c.variant: c for c in study.cells}

    def result(trial: Trial) -> TrialResult:
        if trial.seed >= seeds:
            return TrialResult(trial, "pending")
        if trial.seed == lost and trial.variant == study.cells[0].variant:
            return TrialResult(trial, "failed", Record(trial.id, "failed"))
        value = truth(effects, cell_of[trial.variant].requested) + of_seed[trial.seed]
        value += rng.normal(0, DEVIATION)
        metrics = {
            "val_accuracy": value,
            "val_loss": 2 - value / 40,
            "test_accuracy": value + rng.normal(0, 0.2),
        }
        return TrialResult(trial, "complete", Record(trial.id, "complete", metrics))

    trials = tuple(map(result, study.trials(DATA)))
    return assemble(study.name, study, DATA, {"command": ["archsearch"]}, trials)


def study_of(effects: Effects, seed: int = 0, part: float = 1.0, lost: int | None = None) -> Any:
    rng = np.random.default_rng(seed)
    return {
        "evidence-stacking": finished(stacking(), effects, int(12 * part), rng, lost),
        "evidence-table-c": finished(pairs(), effects, int(24 * part), rng),
    }


def by_name(runs: Any, metric: str = "val_accuracy", ended: bool = False) -> dict[str, Finding]:
    return {f.ordering.name: f for f in findings(runs, ended) if f.metric == metric}


def test_the_design_has_288_trainings_of_19_networks() -> None:
    assert len(stacking().trials(DATA)) == 168
    assert len(pairs().trials(DATA)) == 120
    assert {cell.fate for cell in stacking().cells} == {"exact"}
    assert RECIPE.val_fraction * 50_000 == 10_000
    assert RECIPE.data_fraction * 40_000 == pytest.approx(5_600)


def test_the_pairs_are_those_of_the_rounding_to_equal_size() -> None:
    """They are written down, so that a later rounding cannot change the study."""
    rounded = table_c(PAIRS_ORIGIN, "equal-size", PAIRS_PHI)
    assert [cell.variant for cell in rounded] == [cell.variant for cell in pairs().cells]


def test_the_pairs_have_one_size_and_the_order_of_their_depth_by_width() -> None:
    """Table C's pairs grow from wide to deep: their ratios are those of alpha / beta."""
    assert list(PAIRS) == [(row.alpha, row.beta) for row in ROWS]
    variants = [Variant(*numbers) for numbers in PAIRS.values()]
    size = PAIRS_ORIGIN.cost().params * 2**PAIRS_PHI
    assert all(abs(v.cost().params / size - 1) < 0.01 for v in variants)
    ratios = [v.depth / v.c1 for v in variants]
    assert all(a < b for a, b in pairwise(ratios))
    wanted = [PAIRS_ORIGIN.depth / PAIRS_ORIGIN.c1 * (a / b) ** PAIRS_PHI for a, b in PAIRS]
    np.testing.assert_allclose(ratios, wanted, rtol=0.1)


def test_each_ordering_has_its_own_networks() -> None:
    cells = {study.name: study.cells for study in (stacking(), pairs())}
    num = {o.name: sum(o.block(c.requested) for c in cells[o.run]) for o in ORDERINGS}
    assert num == {"C'": 10, "L1": 10, "C1": 4, "(alpha, beta)": 5}


@pytest.mark.parametrize("name", [o.name for o in ORDERINGS])
def test_every_contrast_is_one_point_where_the_paper_is_right_by_one_point(name: str) -> None:
    ordering = next(o for o in ORDERINGS if o.name == name)
    runs = study_of({})
    rows = [c for c in runs[ordering.run].cells if ordering.block(c.cell.requested)]
    weights = ordering.weights([_numbers(c) for c in rows])
    assert weights is not None
    means = [truth({name: 1.0}, c.cell.requested) for c in rows]
    assert weights @ np.array(means) == pytest.approx(1.0)
    others = {o.name: 1.0 for o in ORDERINGS if o.name != name}
    unaffected = [truth(others, c.cell.requested) for c in rows]
    assert weights @ np.array(unaffected) == pytest.approx(0.0)


def test_each_verdict_follows_from_the_truth() -> None:
    verdicts = by_name(study_of({"C'": 2.0, "L1": -2.0, "C1": 0.0, "(alpha, beta)": 2.0}, seed=1))
    assert {name: f.verdict for name, f in verdicts.items()} == {
        "C'": "confirmed", "L1": "contradicted", "C1": "bounded", "(alpha, beta)": "confirmed",
    }  # fmt: skip
    low, high = verdicts["C1"].interval()
    assert low < 0 < high
    assert f"an advantage over {high:.2f}" in verdicts["C1"].outcome()


def test_the_loss_is_better_where_it_is_lower() -> None:
    runs = study_of({"C'": 3.0, "C1": -3.0})
    assert by_name(runs, "val_loss")["C'"].verdict == "confirmed"
    assert by_name(runs, "val_loss")["C1"].verdict == "contradicted"
    assert by_name(runs, "test_accuracy")["C'"].verdict == "confirmed"


def test_a_contrast_is_a_paired_test_over_seeds() -> None:
    """The width by hand: C1 = 24 minus 20, mean over L1, seed by seed."""
    runs = study_of({"C1": 1.0})
    values = {
        (c.cell.requested["c1"], c.cell.requested["l1"]): [
            t.record.metrics["val_accuracy"] for t in c.trials if t.record
        ]
        for c in runs["evidence-stacking"].cells
        if c.cell.requested["c1"] > 16
    }
    wide, narrow = (np.mean([values[c1, 1], values[c1, 2]], axis=0) for c1 in (24, 20))
    finding, expected = by_name(runs)["C1"], stats.ttest_rel(wide, narrow)
    assert finding.test is not None
    assert finding.test.p_value == pytest.approx(expected.pvalue)
    assert finding.test.estimate == pytest.approx(np.mean(wide - narrow))
    interval = expected.confidence_interval(1 - 0.05 / 4)
    assert finding.interval() == pytest.approx((interval.low, interval.high))


def test_an_unfinished_study_gives_no_verdict_unless_it_has_ended() -> None:
    runs = study_of({"C'": 3.0}, part=0.5)
    finding = by_name(runs)["C'"]
    assert finding.verdict == "interim"
    assert finding.outcome() == "interim: 6 of 12 seeds are complete"
    assert by_name(runs, ended=True)["C'"].verdict == "confirmed"
    assert by_name({})["L1"].outcome() == "interim: 0 of 12 seeds are complete"
    assert by_name({})["L1"].effect() == "–"
    assert by_name({}, ended=True)["L1"].verdict == "interim"


def test_a_seed_without_the_value_of_a_network_is_left_out() -> None:
    finding = by_name(study_of({}, lost=3))["C'"]
    assert finding.seeds_left_out == (3,)
    assert finding.test is not None
    assert finding.test.num_seeds == 11
    assert finding.verdict != "interim"


def test_without_effects_a_study_decides_wrongly_in_five_percent() -> None:
    """The family of four: at most 5%, within three standard errors."""
    wrong = [
        any(f.verdict != "bounded" for f in by_name(study_of({}, seed)).values())
        for seed in range(60)
    ]
    assert np.mean(wrong) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(wrong))


POWER = {"C'": 0.57, "L1": 0.71, "C1": 0.90, "(alpha, beta)": 0.47}


@pytest.mark.parametrize("name", POWER)
def test_the_smallest_effects_in_the_text_are_those_of_the_design(name: str) -> None:
    """By seed, as tested, the first of four tests; the noise is the audit's for each block."""
    ordering = next(o for o in ORDERINGS if o.name == name)
    rows = [c for c in study_of({})[ordering.run].cells if ordering.block(c.cell.requested)]
    weights = ordering.weights([_numbers(c) for c in rows])
    assert weights is not None
    deviation = 0.57 if name == "(alpha, beta)" else DEVIATION
    contrast = Contrast(name, tuple(weights.tolist()))
    effect = smallest_effect(contrast, ordering.num_seeds, deviation, tests=4, by_seed=True)
    assert effect == pytest.approx(POWER[name], abs=0.005)
