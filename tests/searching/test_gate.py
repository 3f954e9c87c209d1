"""The gate: the pilot's cells and seeds, and when a cheap rung may prune."""

import pytest

from archsearch.core.recipes import CIFAR
from archsearch.families.internimage import ORIGIN
from archsearch.searching.gate import (
    gate,
    gate_by_one_seed,
    may_prune,
    may_prune_by_one_seed,
    pilot_by_cost,
    pilot_by_order,
    pilot_seeds,
)
from archsearch.searching.rungs import rungs
from archsearch.stats.intervals import Interval, kendall_tau
from archsearch.stats.rank_agreement import Agreement

RUNG = rungs(CIFAR)[0]
VARIANTS = tuple(ORIGIN.with_numbers(64, 16, 1, l3) for l3 in range(1, 31))
FULL = {i: [float(i), float(i)] for i in range(10)}


def test_the_pilot_has_the_middle_cell_of_each_stratum_of_cost():
    macs = {variant: (7 * i) % 30 for i, variant in enumerate(VARIANTS)}  # not in order of cost
    assert [macs[v] for v in pilot_by_cost(macs, 10)] == list(range(1, 30, 3))
    assert [macs[v] for v in pilot_by_cost(macs, 4)] == [3, 11, 18, 26]
    assert set(pilot_by_cost({v: macs[v] for v in VARIANTS[:3]}, 10)) == set(VARIANTS[:3])


def test_a_pilot_of_an_earlier_plan_spans_the_order_of_the_plan():
    chosen = pilot_by_order(VARIANTS, 10)
    assert [VARIANTS.index(v) for v in chosen] == [0, 3, 6, 10, 13, 16, 19, 23, 26, 29]
    assert pilot_by_order(VARIANTS[:3], 10) == VARIANTS[:3]


def test_the_pilot_continues_the_seeds_of_the_study():
    assert pilot_seeds((3,), 2) == (3, 4)
    assert pilot_seeds((5, 2, 9), 2) == (5, 2)
    assert pilot_seeds((0, 4, 7), 1) == (0,)


@pytest.mark.parametrize(
    ("tau", "p_value", "allowed"),
    [(0.5, 0.05, True), (0.49, 0.001, False), (0.9, 0.051, False), (None, 0.001, False)],
)
def test_a_rung_may_prune_by_the_corrected_tau_and_not_by_chance(tau, p_value, allowed):
    assert may_prune(Agreement(tau, 0.4, 0.6, 0.7, p_value, 10, 2)) is allowed


def test_the_reason_has_every_number_of_the_decision():
    decision = gate(RUNG, FULL, FULL)
    assert (decision.rung, decision.tau, decision.may_prune) == (RUNG, 1.0, True)
    assert decision.reason == (
        "cifar, 2 of 20 epochs may prune: tau with the full ranking 1.00 without the noise of "
        "seeds (1.00 with it), needed 0.5, p = 0.001 for no agreement, needed at most 0.05, over "
        "10 cells and 2 seeds (reliability of a short training 1.00, of a full one 1.00)"
    )
    against = gate(RUNG, {i: [-x for x in row] for i, row in FULL.items()}, FULL)
    assert (against.tau, against.may_prune) == (-1.0, False)


def test_without_agreement_of_the_seeds_no_rung_prunes():
    unreliable = {i: [x, -x] for i, (x, _) in FULL.items()}
    decision = gate(RUNG, unreliable, FULL)
    assert (decision.tau, decision.may_prune) == (None, False)
    assert "ranking not measurable without the noise" in decision.reason


def test_cells_without_all_scores_are_left_out_and_too_few_cannot_prune():
    cheap = {**FULL, 3: [None, 3.0]}
    assert "over 9 cells" in gate(RUNG, cheap, FULL).reason
    none = gate(RUNG, {i: [None, None] for i in FULL}, FULL)
    assert (none.tau, none.may_prune) == (None, False)
    assert "three or more cells" in none.reason
    flat = gate(RUNG, {i: [1.0, 1.0] for i in FULL}, FULL)
    assert not flat.may_prune
    assert "the same score" in flat.reason


def test_force_prunes_and_says_so():
    against = gate(RUNG, {i: [-x for x in row] for i, row in FULL.items()}, FULL)
    assert against.forced().may_prune
    assert against.forced().reason.endswith("(--prune force)")
    agreed = gate(RUNG, FULL, FULL)
    assert agreed.forced() == agreed  # nothing was overridden


def test_a_pilot_of_one_seed_decides_by_the_lower_end_of_taus_interval():
    """The rule of runs that were planned before the pilot had two seeds."""
    assert may_prune_by_one_seed(Interval(0.9, 0.5, 1.0, 10, ""))
    assert not may_prune_by_one_seed(Interval(0.9, 0.49, 1.0, 10, ""))
    assert not may_prune_by_one_seed(Interval(1.0, None, None, 1, ""))
    full = {i: float(i) for i in range(10)}
    swapped = {**full, 0: 1.5, 8: 9.5}
    admitted = gate_by_one_seed(RUNG, swapped, full)
    tau = kendall_tau(list(swapped.values()), list(full.values()), 0.9)
    assert (admitted.tau, admitted.may_prune) == (tau.mean, True)
    assert f"lower 95% bound {tau.low:.2f}, needed 0.5" in admitted.reason
    few = gate_by_one_seed(RUNG, {i: full[i] for i in range(4)}, full)
    assert not few.may_prune  # four cells are too few, even in perfect order
    flat = gate_by_one_seed(RUNG, dict.fromkeys(full, 10.0), full)
    assert (flat.may_prune, flat.tau) == (False, None)
    assert "all cells have the same score" in flat.reason
    missing = gate_by_one_seed(RUNG, dict.fromkeys(full), full)
    assert "at least one finite number" in missing.reason
