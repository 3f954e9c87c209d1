"""Moderated intervals: by their formula, beside Student's, and by their coverage."""

import math

import numpy as np
import pytest
from scipy import stats as sps

from archsearch.stats.intervals import Interval, interval
from archsearch.stats.moderated import moderated_intervals, on_new_images

VALUES = {"a": [1.0, 2.0, 3.0], "b": [5.0, 5.1, 5.2], "c": [7.0, 9.0], "one": [4.0]}


def test_the_variance_is_between_the_cell_s_own_and_the_average() -> None:
    ours = moderated_intervals(VALUES)
    average = (2.0 + 0.02 + 2.0) / 5
    for key, squares, n in (("a", 2.0, 3), ("b", 0.02, 3), ("c", 2.0, 2)):
        variance = (2.5 * average + squares) / (2.5 + n - 1)
        half = sps.t.ppf(0.975, 2.5 + n - 1) * math.sqrt(variance / n)
        assert ours[key].mean == pytest.approx(np.mean(VALUES[key]))
        assert ours[key].half_width == pytest.approx(half)
        assert ours[key].n == n


def test_a_cell_with_one_seed_has_no_interval_and_an_empty_one_is_left_out() -> None:
    ours = moderated_intervals({**VALUES, "none": []})
    assert ours["one"] == Interval(4.0, None, None, 1, "student")
    assert "none" not in ours


def test_a_single_cell_has_student_s_interval() -> None:
    ours = moderated_intervals({"a": VALUES["a"]})["a"]
    assert ours.half_width == pytest.approx(interval(VALUES["a"]).half_width)


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        moderated_intervals({"a": [1.0, math.nan]})
    with pytest.raises(ValueError, match="level"):
        moderated_intervals(VALUES, level=1.0)


def test_intervals_cover_and_are_shorter_than_student_s() -> None:
    """20 cells of 3 seeds with equal noise; 95% is nominal, 97.9% was measured."""
    rng, covered, shorter = np.random.default_rng(0), [], []
    for _ in range(100):
        values = dict(enumerate(rng.normal(size=(20, 3)).tolist()))
        ours = moderated_intervals(values)
        covered += [0.0 in x for x in ours.values()]
        shorter += [ours[i].half_width < interval(row).half_width for i, row in values.items()]
    assert 0.96 < np.mean(covered) < 0.99
    assert np.mean(shorter) > 0.6


def test_new_images_add_the_binomial_deviation() -> None:
    """The published winner: 3,000 images, audited as ±2.2 together."""
    seeds = Interval(47.7, 47.7 - 1.27, 47.7 + 1.27, 3, "student")
    wider = on_new_images(seeds, 3000)
    assert wider.half_width == pytest.approx(2.2, abs=0.05)
    deviation = sps.binom(3000, 0.477).std() / 30
    assert wider.half_width == pytest.approx(math.hypot(1.27, sps.norm.ppf(0.975) * deviation))
    single = Interval(47.7, None, None, 1, "student")
    assert on_new_images(single, 3000) == single
    perfect = Interval(100.0, 99.8, 100.2, 3, "student")
    assert on_new_images(perfect, 3000).half_width == pytest.approx(0.2)


def test_an_interval_of_new_images_covers_the_true_accuracy() -> None:
    """Networks are right on an image with a chance of its own; all see the same 500 images."""
    rng, with_images, without = np.random.default_rng(1), [], []
    for _ in range(100):
        chance = rng.beta(1.0, 1.0, size=500)  # the true accuracy is 50%
        right = rng.random((10, 10, 500)) < chance
        values = dict(enumerate((100 * right.mean(2)).tolist()))
        seeds_only = moderated_intervals(values)[0]
        without.append(50.0 in seeds_only)
        with_images.append(50.0 in on_new_images(seeds_only, 500))
    assert np.mean(with_images) > 0.95
    assert np.mean(without) < 0.8
