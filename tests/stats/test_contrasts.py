"""Contrasts against least squares with the complete design matrix, and their coverage."""

import numpy as np
import pytest
from scipy import stats

from archsearch.stats.contrasts import (
    contrast_test,
    holm,
    one_against_the_rest,
    residual_deviation,
    slope,
    step,
)
from tests.stats.test_power import STACKING, WIDTHS

UNBALANCED = [
    {"c1": c1, "group_channels": g, "l1": l1}
    for c1, g, l1 in [(12, 4, 1), (12, 4, 2), (16, 4, 1), (16, 4, 2), (16, 8, 1), (16, 8, 3),
                      (20, 4, 1), (24, 8, 1)]
]  # fmt: skip


def dummies(networks, name):
    values = [network[name] for network in networks]
    return np.array([[v == level for level in sorted(set(values))[1:]] for v in values], float)


@pytest.mark.parametrize("networks", [STACKING, UNBALANCED], ids=["balanced", "unbalanced"])
def test_a_step_is_the_coefficient_of_the_additive_model(networks):
    values = np.random.default_rng(0).normal(45, 1, len(networks))
    columns = [dummies(networks, name) for name in ("group_channels", "l1", "c1")]
    design = np.hstack([np.ones((len(networks), 1)), *columns])
    coefficients = np.linalg.lstsq(design, values, rcond=None)[0]
    assert step(networks, "group_channels", 4, 8) @ values == pytest.approx(coefficients[1])
    assert step(networks, "l1", 1, 2) @ values == pytest.approx(coefficients[2])
    later = coefficients[2 : 2 + columns[1].shape[1]]
    difference = later[-1] - np.mean([0.0, *later[:-1]])
    last = max(network["l1"] for network in networks)
    assert one_against_the_rest(networks, "l1", last) @ values == pytest.approx(difference)


def test_the_slope_is_that_of_a_straight_line_through_the_means():
    values = np.random.default_rng(1).normal(size=len(STACKING))
    depths = [network["l1"] for network in STACKING]
    assert slope(STACKING, "l1") @ values == pytest.approx(stats.linregress(depths, values).slope)


def test_a_step_that_another_number_shares_has_no_weights():
    confounded = [{"c1": 16, "l1": 1}, {"c1": 20, "l1": 2}]
    assert step(confounded, "c1", 16, 20) is None
    assert slope(WIDTHS, "l1") is None
    assert one_against_the_rest(WIDTHS, "l1", 4) is None


def study(rng, networks, seeds, interaction=0.0):
    weights = step(networks, "group_channels", 4, 8)
    values = rng.normal(size=(len(networks), seeds)) + 2 * rng.normal(size=seeds)
    pattern = weights / np.abs(weights).max()
    return values + interaction * pattern[:, None] * rng.normal(size=seeds)


def test_pooled_noise_gives_the_t_of_least_squares():
    rng, weights = np.random.default_rng(2), step(STACKING, "group_channels", 4, 8)
    values = study(rng, STACKING, 5)
    k, n = values.shape
    is_of = np.hstack([np.repeat(np.eye(k), n, 0), np.tile(np.eye(n)[:, 1:], (k, 1))])
    coefficients, squares, *_ = np.linalg.lstsq(is_of, values.ravel(), rcond=None)
    freedom = k * n - is_of.shape[1]
    target = np.concatenate([weights, np.zeros(n - 1)])
    variance = squares[0] / freedom * (target @ np.linalg.inv(is_of.T @ is_of) @ target)
    result = contrast_test(values, weights)
    assert not result.by_seed
    assert result.degrees_of_freedom == freedom
    assert result.standard_error == pytest.approx(np.sqrt(variance))
    t = target @ coefficients / np.sqrt(variance)
    assert result.p_value == pytest.approx(2 * stats.t.sf(abs(t), freedom))
    assert residual_deviation(values) == pytest.approx(np.sqrt(squares[0] / freedom))


def test_a_contrast_that_differs_between_seeds_is_repeated_by_seed():
    weights = step(STACKING, "group_channels", 4, 8)
    values = study(np.random.default_rng(3), STACKING, 6, interaction=3.0)
    result, expected = contrast_test(values, weights), stats.ttest_1samp(weights @ values, 0.0)
    assert result.by_seed
    assert result.interaction_p_value < 0.1
    assert result.p_value == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    interval = result.interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((low, high))


@pytest.mark.parametrize(("interaction", "lowest"), [(0.0, 0.93), (0.5, 0.90), (2.0, 0.93)])
def test_the_interval_covers_the_truth_with_and_without_an_interaction(interaction, lowest):
    """Half a deviation of interaction is often missed by its test, which costs some coverage."""
    rng, weights = np.random.default_rng(4), step(STACKING, "group_channels", 4, 8)
    tests = (contrast_test(study(rng, STACKING, 12, interaction), weights) for _ in range(800))
    assert np.mean([0.0 in test.interval(0.95) for test in tests]) >= lowest


def test_two_networks_are_compared_by_seed():
    values = np.random.default_rng(5).normal(size=(2, 4))
    result = contrast_test(values, [-1.0, 1.0])
    assert result.p_value == pytest.approx(stats.ttest_rel(values[1], values[0]).pvalue)


def test_holm_multiplies_the_smallest_by_the_number_of_tests():
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "e": 0.9})
    assert adjusted == pytest.approx({"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.025, "e": 0.9})


def test_one_seed_is_an_error():
    with pytest.raises(ValueError, match="two networks, two seeds and a weight per network"):
        contrast_test(np.ones((2, 1)), [-1.0, 1.0])
