"""The permutation test of association between a result and any number, on synthetic data."""

import numpy as np
import pytest

from archsearch.stats.association import association_p_value

RNG = np.random.default_rng(3)
COLUMNS = {
    "c1": RNG.choice([48, 64, 80], 22).tolist(),
    "l1": RNG.choice([1, 2, 3, 4, 5], 22).tolist(),
    "operator": RNG.choice(["dcnv3", "sigmoid"], 22).tolist(),
}


def test_p_values_of_noise_are_uniform():
    rng = np.random.default_rng(0)
    p_values = [association_p_value(COLUMNS, rng.normal(size=22), 199) for _ in range(400)]
    # 0.05 within three standard errors
    assert 0.02 < np.mean([p <= 0.05 for p in p_values]) < 0.085
    assert 0.4 < np.mean(p_values) < 0.6


@pytest.mark.parametrize(
    "effect",
    [
        lambda i: 0.1 * COLUMNS["c1"][i],
        lambda i: -abs(COLUMNS["l1"][i] - 3),  # best in the middle: no rank correlation
        lambda i: 2.0 * (COLUMNS["operator"][i] == "dcnv3"),
    ],
)
def test_a_real_effect_is_detected(effect):
    values = [effect(i) + 0.3 * z for i, z in enumerate(np.random.default_rng(1).normal(size=22))]
    assert association_p_value(COLUMNS, values) < 0.01


def test_what_cannot_be_tested_has_a_p_value_of_one():
    values = list(range(22))
    assert association_p_value({}, values) == 1.0
    assert association_p_value({"l1": [4] * 22}, values) == 1.0
    assert association_p_value(COLUMNS, [1.0] * 22) == 1.0
    assert association_p_value({"l1": [1, 2, 3]}, [1.0, 2.0, 3.0]) == 1.0
    with pytest.raises(ValueError, match="l1"):
        association_p_value({"l1": [1, 2]}, values)


def test_it_is_deterministic():
    values = np.random.default_rng(5).normal(size=22)
    assert association_p_value(COLUMNS, values) == association_p_value(COLUMNS, values)
