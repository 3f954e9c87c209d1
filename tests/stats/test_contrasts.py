"""Contrasts against least squares with the complete design matrix, and their coverage."""

import numpy as np
import pytest
from scipy import stats

from archsearch.stats.contrasts import (
    contrast_test,
    one_against_the_rest,
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


def test_the_seeds_are_the_repeats_of_a_contrast():
    weights = step(STACKING, "group_channels", 4, 8)
    values = study(np.random.default_rng(3), STACKING, 6, interaction=3.0)
    result, expected = contrast_test(values, weights), stats.ttest_1samp(weights @ values, 0.0)
    assert result.estimate == pytest.approx(weights @ values.mean(1))
    assert result.p_value == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    interval = result.interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((low, high))


@pytest.mark.parametrize("interaction", [0.0, 0.5, 2.0])
def test_the_interval_covers_the_truth_with_and_without_an_interaction(interaction):
    rng, weights = np.random.default_rng(4), step(STACKING, "group_channels", 4, 8)
    tests = (contrast_test(study(rng, STACKING, 12, interaction), weights) for _ in range(2000))
    share = np.mean([0.0 in test.interval(0.95) for test in tests])
    assert share == pytest.approx(0.95, abs=0.015)  # three standard errors


def test_one_seed_is_an_error():
    with pytest.raises(ValueError, match="two networks, two seeds and a weight per network"):
        contrast_test(np.ones((2, 1)), [-1.0, 1.0])
