"""The noise that networks and seeds leave, against least squares with the complete design."""

import numpy as np
import pytest

from archsearch.stats.noise import noise_deviation


def test_the_noise_is_the_residual_of_least_squares_also_with_missing_values():
    k, n = 10, 5
    rng = np.random.default_rng(2)
    values = rng.normal(size=(k, n)) + 2 * rng.normal(size=n)
    is_of = np.hstack([np.repeat(np.eye(k), n, 0), np.tile(np.eye(n)[:, 1:], (k, 1))])
    kept = np.ones(k * n, bool)
    for missing in (None, 3, 17):
        if missing is not None:
            kept[missing] = False
        squares = np.linalg.lstsq(is_of[kept], values.ravel()[kept], rcond=None)[1][0]
        table = {
            i: {s: values[i, s] if kept[i * n + s] else None for s in range(n)} for i in range(k)
        }
        freedom = kept.sum() - k - n + 1
        expected = pytest.approx((np.sqrt(squares / freedom), freedom))
        assert noise_deviation(table) == expected
    assert noise_deviation({"a": {0: 1.0}, "b": {0: 2.0}}) == (0.0, 0.0)
