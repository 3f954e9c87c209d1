"""Adaptive seeds on synthetic data: which trainings are requested, and coverage over all looks."""

import numpy as np
import pytest

from archsearch.stats.ranking import tied_with_best
from archsearch.stats.seeds import WORTH_A_SEED, look_level, next_seeds, rank_repeatedly
from tests.stats.test_ranking import as_table, at_least, study


def play(y, max_seeds):
    """Add the requested trainings until the plan is done: the plan, the requests and the table."""
    table = {i: {} for i in range(len(y))}
    requests = []
    while not (plan := next_seeds(table, max_seeds)).done:
        requests.append(plan.trainings)
        for cell, seed in plan.trainings:
            table[cell][seed] = float(y[cell][seed])
    return plan, requests, table


def test_every_cell_gets_three_seeds_then_only_those_that_may_be_the_best():
    y = study(np.random.default_rng(11), [0.05, 0.0, -5, -5], 0.05, 6)
    plan, requests, table = play(y, 6)
    assert requests[0] == tuple((cell, seed) for cell in range(4) for seed in (0, 1, 2))
    assert all({cell for cell, _ in more} <= {0, 1} for more in requests[1:])
    assert len(table[2]) == len(table[3]) == 3
    assert set(plan.ranking.tied) <= {0, 1}


def test_it_ends_when_one_cell_is_left():
    plan, _, table = play(study(np.random.default_rng(12), [9.0, 0, 0, 0], 0.1, 6), 6)
    assert plan.reason == "one cell is left after 3 seeds"
    assert plan.ranking.tied == (0,)
    assert sum(map(len, table.values())) == 12


def test_it_ends_at_the_largest_number_of_seeds_and_reports_the_tie():
    plan, _, table = play(study(np.random.default_rng(12), [0.0] * 3, 0.1, 3), 3)
    assert max(map(len, table.values())) == 3
    assert plan.reason == f"{len(plan.ranking.tied)} cells are still tied after 3 seeds"
    assert "at most 1 times, each at 95%" in plan.ranking.notes[-1]


def test_a_new_seed_is_trained_by_two_cells_at_least():
    """The effect of a seed is shared, so one cell alone would say nothing."""
    y = study(np.random.default_rng(0), [0.12, 0, -5, -5], 0.05, 3)
    table = as_table(y)
    ranking = rank_repeatedly(table, 5)
    assert len(ranking.tied) > 1
    assert ranking.p_values[1] < WORTH_A_SEED
    assert next_seeds(table).trainings == ((0, 3), (1, 3))


def test_a_resumed_plan_requests_what_is_missing():
    y = study(np.random.default_rng(3), [0.1, 0.0, 0.0, -5], 0.1, 5)
    _, requests, complete = play(y, 5)
    partial = {cell: dict(row) for cell, row in complete.items()}
    (cell, seed), *_ = requests[1]
    del partial[cell][seed]
    assert (cell, seed) in next_seeds(partial, 5).trainings


def test_a_failed_seed_is_not_requested_again_and_a_running_round_is_finished_first():
    table = {"a": {0: 1.0, 1: None, 2: 1.1}, "b": {0: 1.1, 1: 1.2, 2: 1}, "c": {0: 1.05, 2: 1}}
    assert next_seeds(table).trainings == (("c", 1),)


def test_an_incomplete_first_round_has_means_but_no_ranking():
    plan = next_seeds({"a": {0: 1.0}, "b": {0: 2.0}, "c": {}})
    assert plan.trainings == (("a", 1), ("a", 2), ("b", 1), ("b", 2), *(("c", s) for s in range(3)))
    assert not plan.ranking.can_rank
    assert plan.ranking.means == {"a": 1.0, "b": 2.0}
    assert plan.ranking.best == "b"


def test_seeds_that_were_planned_come_first():
    assert next_seeds({"a": {7: 1.0}, "b": {}}).trainings == (
        *(("a", s) for s in (8, 9)),
        *(("b", s) for s in (7, 8, 9)),
    )


def test_without_anything_to_compare_no_seed_is_requested():
    assert next_seeds({"a": {0: 1.0, 1: 1.1}}).done
    lost = next_seeds({k: dict.fromkeys(range(5)) for k in "ab"})
    assert (lost.done, lost.reason) == (True, "no cell has a value after 5 seeds")


def test_the_level_of_a_look_is_between_the_nominal_level_and_bonferroni():
    assert look_level(30, 3, 0.95) == 0.95, "one look"
    for max_seeds in (4, 5, 8):
        looks = max_seeds - 2
        assert 0.95 < look_level(30, max_seeds, 0.95) < 1 - 0.05 / looks


def test_a_table_that_is_tested_repeatedly_needs_more_evidence():
    y = study(np.random.default_rng(4), [0.0] * 8, 0.1, 5)
    table = as_table(y)
    once, often = tied_with_best(table), rank_repeatedly(table, 5)
    assert set(once.tied) <= set(often.tied)
    assert once.p_values == often.p_values
    assert often.level == 0.95


@pytest.mark.parametrize("noise", ["equal", "best three times as noisy"])
def test_the_best_cell_stays_tied_in_all_looks(noise):
    """The benchmark measures 30 cells; here all of 6 cells are equal, the least favorable case."""
    rng, covered, runs = np.random.default_rng(13), 0, 200
    deviations = np.where(np.arange(6) == 0, 0.1 if noise == "equal" else 0.3, 0.1)
    for _ in range(runs):
        plan, _, _ = play(study(rng, [0.0] * 6, deviations, 4), 4)
        covered += 0 in plan.ranking.tied
    level = 0.95 if noise == "equal" else 0.90
    assert covered / runs >= at_least(level, runs)
