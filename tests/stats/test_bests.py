"""Differences between the bests of groups: Tukey's and Student's tests, and their coverage."""

import math

import numpy as np
import pytest
from scipy import stats as sps

from archsearch.stats.bests import differences_of_bests

GROUPS = {"a1": "a", "a2": "a", "a3": "a", "b1": "b", "b2": "b", "c1": "c"}


def table_of(values, cells=GROUPS):
    return {cell: dict(enumerate(row)) for cell, row in zip(cells, values.tolist(), strict=True)}


def study(rng, means, seeds):
    return (
        np.asarray(means)[:, None] + rng.normal(size=(len(means), seeds)) + rng.normal(size=seeds)
    )


def test_two_cells_have_the_paired_t_test():
    values = study(np.random.default_rng(0), [1.0, 0.0], 6)
    groups = {"x": "a", "y": "b"}
    pairs = differences_of_bests(table_of(values, groups), groups, variance="pooled")
    expected = sps.ttest_rel(values[0], values[1])
    low, high = expected.confidence_interval(0.95)
    for pair, sign, ends in ((("a", "b"), 1, (low, high)), (("b", "a"), -1, (-high, -low))):
        ours = pairs[pair]
        assert ours.p_value == pytest.approx(expected.pvalue, abs=0.006)
        assert ours.interval.mean == pytest.approx(sign * (values[0] - values[1]).mean())
        assert (ours.interval.low, ours.interval.high) == pytest.approx(ends, rel=0.03, abs=0.02)


def test_groups_of_one_cell_have_tukey_s_intervals():
    values = study(np.random.default_rng(1), [1.0, 0.0, 2.0, 0.5], 5)
    groups = dict(zip("wxyz", "abcd", strict=True))
    pairs = differences_of_bests(table_of(values, groups), groups, variance="pooled")
    residuals = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    error = math.sqrt((residuals**2).sum() / 12 / 5)
    half = sps.studentized_range.ppf(0.95, 4, 12) * error
    assert len(pairs) == 12
    for (a, b), difference in pairs.items():
        change = values["abcd".index(a)].mean() - values["abcd".index(b)].mean()
        assert difference.interval.mean == pytest.approx(change)
        assert difference.interval.half_width == pytest.approx(half, rel=0.02)
        p = sps.studentized_range.sf(abs(change) / error, 4, 12)
        assert difference.p_value == pytest.approx(p, abs=0.006)


def test_the_interval_is_of_the_best_of_either_group():
    rng = np.random.default_rng(2)
    values = study(rng, [10.0, 0.0, 0.0, 5.0, -9.0, 4.0], 60)
    truths = {("a", "b"): 5.0, ("b", "a"): -5.0, ("a", "c"): 6.0, ("b", "c"): 1.0}
    pairs = differences_of_bests(table_of(values), GROUPS)
    for pair, truth in truths.items():
        found = pairs[pair].interval
        assert found.low < truth < found.high
        assert found.half_width < 0.7
        assert (pairs[pair].p_value < 0.05) == (found.low > 0 or found.high < 0)


def test_the_intervals_cover_together_though_the_bests_are_chosen_by_the_values():
    rng, covered, num = np.random.default_rng(3), 0, 400
    for _ in range(num):
        pairs = differences_of_bests(table_of(study(rng, [0.0] * 6, 3)), GROUPS)
        covered += all(0.0 in pair.interval for pair in pairs.values())
    assert covered / num > 0.94


def test_one_seed_gives_no_interval_and_a_wrong_level_is_refused():
    table = table_of(np.arange(6.0)[:, None])
    assert differences_of_bests(table, GROUPS) == {}
    with pytest.raises(ValueError, match="between 0 and 1"):
        differences_of_bests(table, GROUPS, level=95)
