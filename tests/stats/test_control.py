"""Comparisons with a control: against scipy's Dunnett, by their rules, and by their coverage."""

import math

import numpy as np
import pytest
from scipy import stats as sps

from archsearch.stats.control import compared_with_control
from archsearch.stats.paired_model import drawn_deviations

CELLS = ("dcnv3", "attention", "plain 3", "plain 7")


def table_of(values, cells=CELLS):
    return {cell: dict(enumerate(row)) for cell, row in zip(cells, values.tolist(), strict=True)}


def study(rng, means, seeds, deviations=1.0):
    noise = rng.normal(size=(len(means), seeds)) * np.reshape(deviations, (-1, 1))
    return np.asarray(means)[:, None] + noise + 3 * rng.normal(size=seeds)


@pytest.fixture(scope="module")
def equal_one_way():
    """Four paired cells of five seeds, and the unpaired groups of four that have the same t.

    Both have 12 degrees of freedom for the noise and a correlation of 1/2 between differences, so
    Dunnett's distribution is the same.
    """
    values = study(np.random.default_rng(1), [50.0, 49.2, 47.9, 51.5], 5)
    residuals = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    sd = math.sqrt((residuals**2).sum() / 12)
    pattern = np.array([-1.0, 0.0, 0.5, 0.5])
    pattern *= sd / pattern.std(ddof=1)
    scale = math.sqrt(5 / 4)  # of a mean of 4 instead of 5
    return values, scale, [scale * mean + pattern for mean in values.mean(1)]


def test_pooled_and_balanced_it_is_dunnett_s_test(equal_one_way):
    values, scale, groups = equal_one_way
    ours = compared_with_control(table_of(values), "dcnv3", variance="pooled").differences
    theirs = sps.dunnett(*groups[1:], control=groups[0], rng=np.random.default_rng(0))
    ends = theirs.confidence_interval(0.95)
    assert list(ours) == list(CELLS[1:])
    for i, difference in enumerate(ours.values()):
        interval = difference.interval
        assert interval.mean == pytest.approx(values[i + 1].mean() - values[0].mean())
        assert difference.p_value == pytest.approx(theirs.pvalue[i], abs=0.005)
        assert scale * interval.low == pytest.approx(ends.low[i], abs=0.02)
        assert scale * interval.high == pytest.approx(ends.high[i], abs=0.02)
        assert (interval.n, interval.method) == (5, "dunnett")


def test_two_cells_have_the_paired_t_test():
    values = study(np.random.default_rng(2), [1.0, 0.0], 6)
    result = compared_with_control(table_of(values, "ab"), "a", variance="pooled")
    expected = sps.ttest_rel(values[1], values[0])
    ours = result.differences["b"]
    assert ours.p_value == pytest.approx(expected.pvalue, abs=0.005)
    low, high = expected.confidence_interval(0.95)
    assert ours.interval.low == pytest.approx(low, rel=0.02)
    assert ours.interval.high == pytest.approx(high, rel=0.02)


def test_an_interval_excludes_zero_exactly_if_the_p_value_is_small():
    rng, significant = np.random.default_rng(3), 0
    for _ in range(200):
        result = compared_with_control(table_of(study(rng, [0.0, 1.0, 2.0, 3.0], 4)), "dcnv3")
        for difference in result.differences.values():
            assert (difference.p_value <= 0.05) == (0.0 not in difference.interval)
            significant += difference.p_value <= 0.05
    assert 60 < significant < 540


def test_a_moderated_variance_needs_more_evidence_than_a_pooled_one():
    table = table_of(study(np.random.default_rng(4), [0.0, 1.0, 2.0, 3.0], 5))
    pooled = compared_with_control(table, "dcnv3", variance="pooled").differences["plain 7"]
    ours = compared_with_control(table, "dcnv3").differences["plain 7"]
    assert ours.interval.mean == pooled.interval.mean
    assert ours.p_value > pooled.p_value
    narrow = compared_with_control(table, "dcnv3", level=0.5).differences["plain 7"]
    assert narrow.interval.half_width < ours.interval.half_width / 2


def test_an_interval_has_the_moderated_variances_of_its_cell_and_of_the_control():
    values = study(np.random.default_rng(6), [0.0] * 4, 5, [4.0, 1.0, 1.0, 0.2])
    residuals = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    squares = (residuals**2).sum(1)
    variances = (2.5 * squares.sum() / 12 + squares) / (2.5 + 3)  # 3 degrees of freedom each
    differences = compared_with_control(table_of(values), "dcnv3").differences
    halves = np.array([difference.interval.half_width for difference in differences.values()])
    critical = halves / np.sqrt((variances[1:] + variances[0]) / 5)
    assert critical == pytest.approx(critical[0])
    assert 2.4 < critical[0] < 3.5


def test_a_missing_seed_is_adjusted_by_the_other_cells():
    values = np.array([[10.0, 20.0, 31.0], [11.0, 22.0, 32.0], [10.5, 20.0, 30.0]])
    table = table_of(values, "abc")
    del table["b"][2]
    result = compared_with_control(table, "a")
    cell, seed = np.divmod([i for i in range(9) if i != 5], 3)  # least squares by indicators
    design = np.hstack([cell[:, None] == range(3), seed[:, None] == [1, 2]]).astype(float)
    means = np.linalg.lstsq(design, values[cell, seed], rcond=None)[0]
    assert result.differences["b"].interval.mean == pytest.approx(means[1] - means[0])
    assert result.differences["b"].interval.n == 2
    assert result.notes == ("b: 2 of 3 seeds have a value",)
    assert result.seeds == (0, 1, 2)


@pytest.mark.parametrize(
    ("values", "control", "reason"),
    [
        ([[1.0], [2.0]], "a", "cannot compare: with one seed per cell"),
        ([[1.0, 1.0], [2.0, 2.0]], "a", "all seeds give the same values"),
        ([[1.0, 2.0], [2.0, 2.5]], "c", "the control c has no value"),
        ([[1.0, 2.0]], "a", "cannot compare: two cells with values are needed"),
    ],
)
def test_what_cannot_be_compared_has_a_reason(values, control, reason):
    array = np.array(values)
    result = compared_with_control(table_of(array, "ab"[: len(array)]), control)
    assert reason in result.reason
    assert not result.differences


def test_a_level_that_is_no_share_is_refused():
    with pytest.raises(ValueError, match=r"0\.95 for 95%"):
        compared_with_control({}, "a", level=95)


def coverage(seeds, studies, deviations=None, variance="moderated"):
    """The share of studies in which all three intervals cover; ``None`` draws from the prior."""
    rng, means = np.random.default_rng(5), np.array([0.0, 0.3, -1.0, 2.0])
    covered = 0
    for _ in range(studies):
        sd = drawn_deviations(rng, 1, 4)[0] if deviations is None else deviations
        table = table_of(study(rng, means, seeds, sd))
        result = compared_with_control(table, "dcnv3", variance=variance)
        intervals = [difference.interval for difference in result.differences.values()]
        covered += all(m in interval for m, interval in zip(means[1:], intervals, strict=True))
    return covered / studies


def test_all_intervals_cover_together():
    assert coverage(5, 600, 1.0, "pooled") == pytest.approx(0.95, abs=0.027)  # 3 standard errors
    assert coverage(5, 600) > 0.92


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize(
    ("deviations", "least", "most"),
    [
        (1.0, 0.945, 0.975),
        (None, 0.935, 0.97),
        ([3.0, 1.0, 1.0, 1.0], 0.905, 0.95),
        ([1.0, 1.0, 3.0, 1.0], 0.925, 0.975),
        ([6.0, 1.0, 1.0, 1.0], 0.86, 0.95),
    ],
)
def test_the_printed_coverage(seeds, deviations, least, most):
    assert least < coverage(seeds, 2000, deviations) < most
