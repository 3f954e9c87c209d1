"""The time left of studies whose end is known."""

import math

import numpy as np
import pytest

from archsearch.stats.intervals import t_quantile
from archsearch.stats.remaining import makespan, ratio, remaining


def test_each_worker_takes_the_next_training_when_it_is_free() -> None:
    assert makespan([3, 1, 1, 4], workers=2) == 6  # 3 | 1 1 4
    assert makespan([3, 1, 1, 4], workers=1) == 9
    assert makespan([3, 1], workers=8) == 3
    assert makespan([], workers=2) == 0
    assert makespan([1.0] * 4000, workers=4) == 1000


def test_the_quote_counts_as_measured_time() -> None:
    assert ratio([], prior=10) == 1
    assert ratio([]) is None
    assert ratio([(10, 15), (20, 30)]) == 1.5
    assert ratio([(10, 15)], prior=10) == 1.25


def test_trainings_that_take_half_as_long_again_end_half_as_late() -> None:
    left = remaining([(10, 15), (20, 30), (4, 6)], [10, 6, 4], workers=2, after=7)
    assert left is not None
    assert (left.seconds, left.low, left.high) == pytest.approx((22, 22, 22))


def test_there_is_no_interval_of_two_trainings_and_no_time_of_none() -> None:
    left = remaining([(10, 15), (20, 30)], [10], workers=2)
    assert left is not None
    assert (left.seconds, left.low, left.high) == (15, None, None)
    assert remaining([], [10], workers=2) is None
    quoted = remaining([], [10], workers=2, prior=5, after=1)
    assert quoted is not None
    assert (quoted.seconds, quoted.low) == (11, None)


def test_the_interval_is_that_of_the_ratio_model() -> None:
    """Written out for three trainings of equal size, where the ratio is a mean."""
    left = remaining([(1, 1.0), (1, 1.2), (1, 1.4)], [1.0], workers=1)
    assert left is not None
    deviation = 0.2 * math.sqrt(1 + 1 / 3)  # of a new value from the mean of three
    half = t_quantile(0.975, 2) * deviation
    assert left.seconds == pytest.approx(1.2)
    assert left.low == pytest.approx(max(0, 1.2 - half))
    assert left.high == pytest.approx(1.2 + half)


@pytest.mark.parametrize("num_done", [3, 10])
def test_the_interval_holds_the_end_of_95_in_100_studies(num_done: int) -> None:
    rng, studies, inside = np.random.default_rng(0), 2000, 0
    for _ in range(studies):
        predicted = rng.uniform(2, 20, num_done + 8)
        actual = 1.3 * predicted + 0.1 * np.sqrt(predicted) * rng.normal(size=len(predicted))
        pairs = list(zip(predicted[:num_done], actual[:num_done], strict=True))
        left = remaining(pairs, list(predicted[num_done:]), workers=1)
        assert left is not None
        assert left.low is not None
        assert left.high is not None
        inside += left.low <= actual[num_done:].sum() <= left.high
    assert inside / studies == pytest.approx(0.95, abs=0.015)  # three standard errors
