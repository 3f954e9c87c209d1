"""Intervals, tau, error distributions and Pareto fronts, with coverage on synthetic data."""

import math

import numpy as np
import pytest
from scipy import stats as sps

from archsearch.stats import intervals
from archsearch.stats.intervals import (
    Interval,
    edf,
    interval,
    kendall_tau,
    mean_of_means,
    pareto,
    prediction_interval,
    probability_winner_is_best,
)


def test_student_interval_is_the_textbook_one():
    # 79, 80, 81, 82: mean 80.5, standard error sqrt(5/3)/2, t(0.975, 3) = 3.1824
    result = interval([79, 80, 81, 82])
    half = 3.18244630528 * math.sqrt(5 / 3) / 2
    assert (result.mean, result.n, result.method) == (80.5, 4, "student")
    assert result.low == pytest.approx(80.5 - half)
    assert result.half_width == pytest.approx(half)
    assert 80.5 in result
    assert 85.0 not in result


def test_one_repeat_has_no_interval():
    single = interval([80.0])
    assert (single.mean, single.low, single.high, single.half_width) == (80.0, None, None, None)
    assert 80.0 not in single


def test_student_interval_has_its_nominal_coverage():
    rng = np.random.default_rng(1)
    for level in (0.8, 0.95):
        hits = sum(3.0 in interval(row, level) for row in rng.normal(3.0, 2.0, (2000, 3)))
        assert hits / 2000 == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 2000))


@pytest.mark.parametrize(
    ("values", "level", "message"),
    [
        ([], 0.95, "at least one finite number"),
        ([1.0, math.nan], 0.95, "nan"),
        ([1.0], 95, "between 0 and 1"),
    ],
)
def test_interval_rejects_wrong_values(values, level, message):
    with pytest.raises(ValueError, match=message):
        interval(values, level)


def test_tau_equals_scipys_with_ties():
    a, b = [1, 2, 2, 3, 5, 4], [2, 1, 3, 3, 6, 4]
    assert kendall_tau(a, b).mean == pytest.approx(sps.kendalltau(a, b).statistic)
    assert kendall_tau(a, [-v for v in a]).mean == pytest.approx(-1)


def test_a_perfect_order_of_few_cells_has_a_wide_interval():
    five, twelve = (kendall_tau(range(n), range(n)) for n in (5, 12))
    assert five.mean == twelve.mean == 1
    assert five.low < 0.4 < twelve.low < 1
    assert five.high == 1
    upside_down = kendall_tau(range(5), range(5, 0, -1))
    assert (upside_down.low, upside_down.high) == pytest.approx((-1, -five.low))


@pytest.mark.parametrize(("cells", "tau"), [(5, 0.9), (8, 0.7), (12, 0.0)])
def test_taus_interval_covers_the_truth_with_few_cells(cells, tau):
    runs, rng, rho = 150, np.random.default_rng(3), math.sin(math.pi / 2 * tau)
    x, e = rng.normal(size=(2, runs, cells))
    y = rho * x + math.sqrt(1 - rho**2) * e
    hits = sum(tau in kendall_tau(x[i], y[i]) for i in range(runs))
    assert hits / runs >= 0.95 - 4 * math.sqrt(0.05 * 0.95 / runs)


def test_tau_rejects_scores_without_an_order():
    with pytest.raises(ValueError, match="all cells have the same score"):
        kendall_tau([1, 1, 1], [1, 2, 3])
    with pytest.raises(ValueError, match="got 2 and 3"):
        kendall_tau([1, 2], [1, 2, 3])


def test_edf_counts_and_its_band_covers_the_complete_curve():
    result = edf([3.0, 1.0, 2.0, 2.0])
    assert result.error == (1.0, 2.0, 2.0, 3.0)
    assert result.share == (0.25, 0.5, 0.75, 1.0)
    rng = np.random.default_rng(4)
    covered = 0
    for row in rng.uniform(size=(400, 50)):
        band = edf(row)
        x, low, high = (np.array(v) for v in (band.error, band.low, band.high))
        covered += bool((low <= x).all() and (high >= x - 1 / 50).all())  # F(x) = x
    assert covered / 400 >= 0.95
    assert band.low[-1] == pytest.approx(1 - math.sqrt(math.log(40) / 100))


def test_pareto_keeps_undominated_points():
    points = {"a": (90, 5), "b": (80, 4), "c": (85, 5), "d": (80, 4), "e": (95, 9)}
    assert pareto(points, [True, False]) == ("e", "a", "b", "d")
    assert pareto(points, [True, True]) == ("e",)
    assert pareto({}, [True]) == ()
    with pytest.raises(ValueError, match="other numbers at: x"):
        pareto({"x": (1, 2)}, [True])


def test_the_winner_of_one_seed_is_the_best_half_of_the_time():
    """30 cells, each 0.05 points below the next, a seed deviation of 0.1 points."""
    one = probability_winner_is_best()
    assert 0.48 < one.low < one.mean < one.high < 0.53
    assert probability_winner_is_best(num_seeds=5).mean > 0.75
    assert probability_winner_is_best(gap=10).mean == 1


def test_prediction_interval_covers_one_more_repeat() -> None:
    """At n = 3 the half width is t(2) * s * sqrt(1 + 1/3); simulated coverage is the level."""
    values = [1.0, 2.0, 4.0]
    half = 4.302653 * np.std(values, ddof=1) * np.sqrt(4 / 3)
    result = prediction_interval(values)
    assert result.half_width == pytest.approx(half, rel=1e-6)
    draws = np.random.default_rng(0).normal(size=(2000, 4))
    inside = np.mean([row[3] in prediction_interval(row[:3]) for row in draws])
    assert inside == pytest.approx(0.95, abs=0.015)  # three standard errors
    assert prediction_interval([1.0]).low is None


@pytest.mark.parametrize(
    ("groups", "repeats", "spread"), [(3, 3, 1), (5, 2, 1), (4, 3, 3), (2, 5, 3)]
)
def test_the_mean_of_means_covers_the_truth(groups, repeats, spread):
    rng, truth, runs = np.random.default_rng(4), np.array([0.0, 3.0, -1.0, 8.0, 2.0])[:groups], 1000
    sd = np.geomspace(1, spread, groups)
    inside = sum(
        truth.mean()
        in mean_of_means(truth[:, None] + sd[:, None] * rng.normal(size=(groups, repeats)))
        for _ in range(runs)
    )
    assert 0.935 < inside / runs <= 1


def test_the_mean_of_means_of_one_group_is_its_interval():
    values = [1.0, 2.0, 4.5]
    group, plain = mean_of_means([values]), interval(values)
    assert (group.low, group.high) == (pytest.approx(plain.low), pytest.approx(plain.high))
    assert mean_of_means([[1.0, 1.0], [3.0, 3.0]]) == Interval(2.0, 2.0, 2.0, 4, "student")
    with pytest.raises(ValueError, match="two repeats"):
        mean_of_means([[1.0], [2.0, 3.0]])


def test_the_front_of_many_points_is_that_of_all_pairs():
    rng = np.random.default_rng(14)
    points = dict(enumerate(rng.integers(0, 9, (60, 3)).astype(float).tolist()))
    signed = {i: np.array(p) * [1, -1, 1] for i, p in points.items()}
    undominated = {
        i
        for i, p in signed.items()
        if not any((q >= p).all() and (q > p).any() for q in signed.values())
    }
    front = pareto(points, [True, False, True])
    assert set(front) == undominated
    assert [points[i][0] for i in front] == sorted((points[i][0] for i in front), reverse=True)


def test_a_front_compares_points_with_the_front_only(monkeypatch):
    """Of 2000 points on a line away from one best point, none is compared with the others."""
    calls = []
    monkeypatch.setattr(intervals, "_dominates", lambda a, b: calls.append((a, b)) or a != b)
    assert pareto({i: (float(i), float(i)) for i in range(2000)}, [True, True]) == (1999,)
    assert len(calls) == 1999


@pytest.mark.parametrize("n", [1, 2.5, 4, 1000])
def test_a_quantile_is_scipys(n):
    assert intervals.t_quantile(0.975, n) == sps.t.ppf(0.975, n)


@pytest.mark.parametrize(("wins", "draws"), [(0, 10), (10, 10), (3, 10), (10_234, 20_000)])
def test_the_interval_of_a_share_is_the_exact_binomial_one(wins, draws):
    exact = sps.binomtest(wins, draws).proportion_ci(0.95)
    share = intervals._share_interval(wins, draws, 0.95)
    assert share == pytest.approx((exact.low, exact.high), abs=1e-9)
