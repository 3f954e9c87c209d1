"""Ties with the best on synthetic data: coverage, power and missing values."""

import math

import numpy as np
import pytest
from scipy import stats as sps

from archsearch.stats.paired_model import step_down
from archsearch.stats.ranking import tied_with_best

NOISES = {
    "equal": lambda _, k: np.full(k, 0.1),
    "spread": lambda rng, k: 0.1 * np.exp(rng.normal(0, 0.5, k)),
    "threefold": lambda rng, k: 0.1 * np.where(rng.random(k) < 0.5, 1, 3),
    "noisy best": lambda _, k: np.where(np.arange(k) == 0, 0.3, 0.1),
}
TRUTHS = {
    "ladder": lambda k: -0.05 * np.arange(k),
    "one best": lambda k: np.where(np.arange(k) == 0, 0.05, 0.0),
    "all equal": np.zeros,
    "two best": lambda k: np.where(np.arange(k) < 2, 1.0, 0.0),
}


def study(rng, truth, noise, seeds, seed_effect=0.3):
    """(cells, seeds) values; the effect of a seed is shared by the cells."""
    k = len(truth)
    shared = rng.normal(0, seed_effect, seeds)
    deviations = np.broadcast_to(noise, k)[:, None]
    return np.asarray(truth)[:, None] + shared + rng.normal(size=(k, seeds)) * deviations


def as_table(y):
    return {i: dict(enumerate(row.tolist())) for i, row in enumerate(y)}


def coverage(truth_name, noise_name, cells, seeds, runs, **options):
    """Share of studies in which a given best cell is tied, and the mean number of ties."""
    rng = np.random.default_rng(5)
    truth = TRUTHS[truth_name](cells)
    best = int(truth.argmax())
    covered = size = 0
    for _ in range(runs):
        y = study(rng, truth, NOISES[noise_name](rng, cells), seeds)
        tied = tied_with_best(as_table(y), draws=2000, **options).tied
        covered += best in tied
        size += len(tied)
    return covered / runs, size / runs


def at_least(level, runs):
    """The level minus four standard errors of the simulation."""
    return level - 4 * math.sqrt(level * (1 - level) / runs)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize(("cells", "seeds"), [(30, 2), (5, 3)])
def test_the_truly_best_cells_are_tied(truth, noise, cells, seeds):
    share, _ = coverage(truth, noise, cells, seeds, runs=150)
    assert share >= at_least(0.95, 150)


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("cells", [3, 10, 30])
@pytest.mark.parametrize("seeds", [2, 5])
def test_the_truly_best_cells_are_tied_in_many_studies(truth, noise, cells, seeds):
    """A best cell that is three times as noisy as the others has the lowest coverage."""
    share, _ = coverage(truth, noise, cells, seeds, runs=800)
    hard = truth in ("all equal", "two best") and noise == "noisy best"
    assert share >= at_least(0.90 if hard else 0.95, 800)


def test_pooling_is_exact_for_equal_noise_and_anti_conservative_for_a_noisy_best():
    share, _ = coverage("all equal", "equal", 30, 5, runs=400, variance="pooled")
    assert share == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 400))
    unequal, _ = coverage("all equal", "noisy best", 30, 5, runs=400, variance="pooled")
    assert unequal < 0.85


def test_more_seeds_leave_fewer_ties():
    sizes = [coverage("ladder", "equal", 30, seeds, runs=60)[1] for seeds in (2, 3, 5)]
    assert sizes[0] < 13
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[2] < 6.5


def test_seeds_are_paired():
    """A difference of 0.5 at noise 0.1 is significant, although seeds move all cells by 5."""
    rng = np.random.default_rng(6)
    y = study(rng, np.array([0.5, 0.0, 0.0, 0.0]), np.full(4, 0.1), 3, seed_effect=5.0)
    ranking = tied_with_best(as_table(y))
    assert ranking.tied == (0,)
    assert ranking.means[0] - ranking.means[1] == pytest.approx(0.5, abs=0.4)


def test_for_two_cells_it_is_the_paired_t_test():
    rng = np.random.default_rng(7)
    y = study(rng, np.array([0.1, 0.0]), np.array([0.1, 0.2]), 5)
    d = y[1] - y[0]
    t = d.mean() / (d.std(ddof=1) / math.sqrt(5))
    ranking = tied_with_best(as_table(y), draws=40_000)
    # only "the other cell is not better" is tested for each cell: one-sided
    assert t < 0
    assert ranking.p_values[1] == pytest.approx(sps.t.sf(-t, 4), abs=0.01)
    assert ranking.p_values[0] == 1.0, "no cell has a higher mean"


def test_no_cell_is_rejected_before_a_less_plausible_one():
    """Step 1 cannot reject the worse cell, so step 2, which would reject, is not reached."""
    null = np.column_stack([np.full(99, 3.0), np.zeros(99)])
    assert step_down(np.array([2.0, 1.0]), null).tolist() == [1.0, 1.0]
    assert step_down(np.array([4.0, 1.0]), null).tolist() == [0.01, 0.01]


def test_equal_means_keep_the_order_of_the_table():
    table = {"a": {0: 90.0, 1: 91.0}, "b": {0: 90.0 + 3e-14, 1: 91.0}, "c": {0: 89.0, 1: 92.5}}
    assert tied_with_best(table).tied == ("c", "a", "b")


def test_lower_is_better_reverses_the_order():
    table = {"a": {0: 1.0, 1: 1.1}, "b": {0: 5.0, 1: 5.2}, "c": {0: 5.1, 1: 5.1}}
    down, up = tied_with_best(table, higher_is_better=False), tied_with_best(table)
    assert (down.best, down.tied) == ("a", ("a",))
    assert set(up.tied) == {"b", "c"}


def test_one_seed_cannot_rank_and_says_so():
    ranking = tied_with_best({"a": {0: 90.0}, "b": {0: 80.0}, "c": {0: None}})
    assert not ranking.can_rank
    assert "one seed per cell" in ranking.reason
    assert "at least two seeds" in ranking.reason
    assert (ranking.best, ranking.tied) == ("a", ("a", "b"))
    assert ranking.notes == ("c: no value, not ranked",)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({}, "got 0"),
        ({"a": {0: 1.0, 1: 2.0}}, "two cells with values are needed, got 1"),
        ({"a": {0: 1.0, 1: 1.0}, "b": {0: 3.0, 1: 3.0}}, "all seeds give the same values"),
    ],
)
def test_a_table_that_cannot_be_ranked_has_a_reason(table, reason):
    ranking = tied_with_best(table)
    assert not ranking.can_rank
    assert reason in ranking.reason


def test_missing_values_are_adjusted_by_the_paired_model_and_noted():
    y = study(np.random.default_rng(8), np.array([0, 0, -5.0, 0]), np.full(4, 0.01), 3, 2.0)
    table = as_table(y)
    table[0][2] = math.nan
    del table[1][0]
    table["lost"] = {0: None}
    table["apart"] = {9: 100.0}
    ranking = tied_with_best(table)
    assert set(ranking.means) == {0, 1, 2, 3}
    assert 2 not in ranking.tied
    for i in (0, 1, 3):  # seeds differ by 2 on average, so unadjusted means would be far off
        assert ranking.means[i] - ranking.means[2] == pytest.approx(5.0, abs=0.1)
    assert ranking.notes == (
        "lost: no value, not ranked",
        "apart: shares no seed with the others, not ranked",
        "0: 2 of 3 seeds have a value",
        "1: 2 of 3 seeds have a value",
    )


def test_coverage_holds_with_missing_values():
    rng, covered = np.random.default_rng(9), 0
    missing = rng.random((12, 4)) < 0.25
    for _ in range(300):
        y = study(rng, TRUTHS["all equal"](12), NOISES["threefold"](rng, 12), 4)
        y[missing] = np.nan
        ranking = tied_with_best(as_table(y))
        covered += 0 in ranking.tied
    assert covered / 300 >= at_least(0.95, 300)


def test_the_order_of_the_table_does_not_matter():
    y = study(np.random.default_rng(10), np.zeros(6), np.full(6, 0.1), 3)
    table = as_table(y)
    shuffled = {k: dict(reversed(table[k].items())) for k in table}
    assert tied_with_best(table) == tied_with_best(shuffled)


def test_a_level_is_a_fraction():
    with pytest.raises(ValueError, match=r"0\.95 for 95%"):
        tied_with_best({}, level=95)
