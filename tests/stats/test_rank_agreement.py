"""Agreement of two noisy rankings: by hand, and its error rates on synthetic pilots."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from archsearch.benchmarks.gate import pass_rates, passes, pilot
from archsearch.stats.rank_agreement import agreement, normal_scores


def test_normal_scores_are_the_quantiles_of_the_ranks():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 5, (2, 9)).astype(float)  # with ties
    expected = norm.ppf(rankdata(values, axis=1) / 10)
    expected -= expected.mean(1, keepdims=True)
    assert normal_scores(values) == pytest.approx(expected)


def test_the_corrected_tau_by_hand():
    """Three cells have the normal scores -q, 0 and q; in units of q squared, by pairs of seeds.

    Cheap orders 1 2 3 and 1 3 2: their product is 1 of 2, so the reliability is 1/2. Full: 1 2 3
    twice, reliability 1. Cheap seed 0 with full seed 1: 2; cheap seed 1 with full seed 0: 1. Their
    mean, 3/2 of 2, is the correlation 3/4; corrected it is 3/4 / sqrt(1/2), more than 1.
    """
    cheap, full = np.array([[1.0, 2, 3], [1, 3, 2]]), np.array([[1.0, 2, 3], [1, 2, 3]])
    agreed = agreement(cheap, full)
    assert agreed.cheap_reliability == pytest.approx(1 / 2)
    assert agreed.full_reliability == pytest.approx(1)
    assert agreed.measured_tau == pytest.approx(2 / np.pi * np.arcsin(3 / 4))
    assert agreed.tau == 1.0
    assert (agreed.num_cells, agreed.num_seeds) == (3, 2)


def test_the_corrected_tau_by_pairs_of_seeds():
    """The same number from the covariances of every pair of different seeds, below 1."""
    rng = np.random.default_rng(4)
    truth = rng.normal(size=(2, 12))
    cheap = truth[0] + truth[1] + rng.normal(size=(3, 12)) / 2
    full = truth[0] + rng.normal(size=(3, 12)) / 2
    x, y = ([norm.ppf(rankdata(row) / 13) for row in side] for side in (cheap, full))

    def mean_covariance(a, b):
        return np.mean([np.dot(a[i], b[j]) for i, j in permutations(range(3), 2)])

    correlation = mean_covariance(x, y) / (mean_covariance(x, x) * mean_covariance(y, y)) ** 0.5
    agreed = agreement(cheap, full)
    assert 0 < agreed.measured_tau < agreed.tau < 1
    assert agreed.tau == pytest.approx(2 / np.pi * np.arcsin(correlation))


def test_the_p_value_is_that_of_all_permutations_of_the_cells():
    rng = np.random.default_rng(2)
    cheap, full = rng.normal(size=(2, 2, 6))
    full += 0.4 * cheap.mean(0)
    x, y = normal_scores(cheap), normal_scores(full)

    def statistic(order):
        return x[0][order] @ y[1] + x[1][order] @ y[0]

    orders = [list(order) for order in permutations(range(6))]
    exact = np.mean([statistic(o) >= statistic(orders[0]) - 1e-12 for o in orders])
    assert 0.02 < exact < 0.5
    assert agreement(cheap, full).p_value == pytest.approx(
        exact, abs=0.03
    )  # six errors of 2,000 draws


def test_noise_that_short_and_full_trainings_share_is_no_agreement():
    """True orders are independent, but each seed has the same noise on the rung and in full."""
    rng = np.random.default_rng(0)
    pilots = [pilot(rng, (2, 30), 0.0, 0.5, 0.8) for _ in range(200)]
    measured = [agreement(cheap, full).measured_tau for cheap, full in pilots]
    assert np.mean(measured) == pytest.approx(0, abs=0.03)


def test_one_bad_cell_does_not_decide():
    """Nine cells disagree; the tenth is far worse in every training, which would be r = 0.99."""
    rng = np.random.default_rng(1)
    order = np.array([4.0, 0, 8, 2, 6, 1, 7, 3, 5])
    cheap, full = (np.append(x, -1000.0) for x in (order, np.arange(9.0)))
    noise = rng.normal(size=(2, 2, 10)) / 10
    agreed = agreement(cheap + noise[0], full + noise[1])
    assert np.corrcoef(cheap, full)[0, 1] > 0.99
    assert agreed.tau < 0.5


@pytest.mark.parametrize(
    ("cheap", "full", "message"),
    [
        (np.ones((1, 5)), np.ones((1, 5)), "two or more seeds of three or more cells.*1 by 5"),
        (np.ones((2, 2)), np.ones((2, 2)), "got 2 by 2"),
        (np.eye(3)[:2], np.eye(4)[:2], "got 2 by 3 and 2 by 4"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), "finite"),
        (np.eye(3)[:2], np.ones((2, 3)), "no order"),
    ],
)
def test_unusable_scores_are_refused(cheap, full, message):
    with pytest.raises(ValueError, match=message):
        agreement(cheap, full)


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_a_perfect_rung_passes_mostly_and_a_useless_one_hardly_ever(shared):
    """The pilot of halving at the reliability of the published grid; standard error .02."""
    perfect, good, threshold, useless = pass_rates(passes, (2, 10), 0.8, shared, studies=150)
    assert perfect > 0.88
    assert 0.7 < good < perfect
    assert 0.35 < threshold < good
    assert useless < 0.07


def test_simulated_trainings_have_the_reliability_and_tau_that_are_named():
    rng = np.random.default_rng(3)
    cheap, full = pilot(rng, (2, 100_000), 0.7, 0.65, 0.5)
    assert np.corrcoef(cheap)[0, 1] == pytest.approx(0.65, abs=0.01)
    assert np.corrcoef(full)[0, 1] == pytest.approx(0.65, abs=0.01)
    rho = np.sin(np.pi * 0.7 / 2)
    assert np.corrcoef(cheap[0], full[1])[0, 1] == pytest.approx(0.65 * rho, abs=0.01)
    same_seed = 0.65 * rho + 0.35 * 0.5**0.5
    assert np.corrcoef(cheap[0], full[0])[0, 1] == pytest.approx(same_seed, abs=0.01)
