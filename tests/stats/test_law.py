"""The scaling law on synthetic data: exact fits, coverage, scored predictions, recommendations."""

import math

import numpy as np
import pytest

from archsearch.stats.law import fit, predict, recommend, score

SIZES = 30e6 * 2.0 ** np.arange(6)
PAIRS = [(1.03, 1.40), (1.06, 1.38), (1.09, 1.36), (1.12, 1.34), (1.15, 1.32)]


def errors(exponent, sizes=SIZES, at_30m=20.0, floor=0.0):
    return floor + (at_30m - floor) * (sizes / 30e6) ** -exponent


def noisy(rng, exponent, sizes, seeds=3, misfit=0.02, noise=0.03, seed=None):
    """size -> errors of the seeds; the misfit is per size, the effect of a seed is on all sizes."""
    seed = rng.normal(0, 0.02, seeds) if seed is None else seed
    deviations = rng.normal(0, misfit, len(sizes))[:, None] + rng.normal(
        0, noise, (len(sizes), seeds)
    )
    y = errors(exponent, sizes)[:, None] * np.exp(deviations + seed)
    return {float(s): row.tolist() for s, row in zip(sizes, y, strict=True)}


def test_an_exact_law_is_fitted_and_extrapolated():
    law = fit({s: [e] for s, e in zip(SIZES[:4], errors(0.2), strict=False)})
    assert law.exponent.mean == pytest.approx(0.2)
    assert law.exponent.low == pytest.approx(0.2)
    assert predict(law, SIZES[5]).error.mean == pytest.approx(20 * 32**-0.2)
    assert law.curvature.mean == pytest.approx(0, abs=1e-9)


def test_a_law_is_fitted_to_the_mean_also_if_a_seed_has_no_error():
    with_zero = fit({1e6: [0.0, 8.0], 2e6: [3.0], 4e6: [2.0]})
    assert with_zero.exponent.mean == fit({1e6: [4.0], 2e6: [3.0], 4e6: [2.0]}).exponent.mean


def test_a_floor_gives_curvature():
    straight = fit({s: [e] for s, e in zip(SIZES, errors(0.3), strict=True)})
    rng = np.random.default_rng(1)
    curved = errors(0.5, floor=10.0) * np.exp(rng.normal(0, 0.005, 6))
    law = fit({s: [e] for s, e in zip(SIZES, curved, strict=True)})
    assert law.curvature.low > 0.01
    assert abs(straight.curvature.mean) < 1e-9


@pytest.mark.parametrize(("sizes", "seeds"), [(3, 1), (4, 3), (5, 5)])
def test_intervals_of_exponent_curvature_and_prediction_cover(sizes, seeds):
    runs, rng = 600, np.random.default_rng(2)
    hits = {"exponent": 0, "prediction": 0, "curvature": 0}
    for _ in range(runs):
        points = noisy(rng, 0.2, SIZES[: sizes + 1], seeds)
        unseen = points.pop(float(SIZES[sizes]))
        law = fit(points)
        hits["exponent"] += 0.2 in law.exponent
        hits["prediction"] += bool(score(predict(law, SIZES[sizes]), unseen).within_interval)
        hits["curvature"] += 0.0 in law.curvature or law.curvature.low is None
    margin = 4 * math.sqrt(0.95 * 0.05 / runs)
    assert hits["exponent"] / runs == pytest.approx(0.95, abs=margin)
    assert hits["prediction"] / runs == pytest.approx(0.95, abs=margin)
    assert hits["curvature"] / runs >= 0.95 - margin


def test_a_prediction_is_scored_by_the_measured_error():
    law = fit(
        {s: [e * f] for s, e, f in zip(SIZES[:4], errors(0.2), (1, 1.02, 1, 1.01), strict=False)}
    )
    prediction = predict(law, SIZES[4])
    mean = prediction.error.mean
    hit, miss = score(prediction, [mean, mean + 0.2]), score(prediction, [50.0])
    assert (hit.within_interval, miss.within_interval) == (True, False)
    assert hit.miss == pytest.approx(0.1)
    assert miss.outcome == 50.0
    with pytest.raises(ValueError, match="no finished training"):
        score(prediction, [])


def test_predictions_for_larger_sizes_have_wider_intervals():
    law = fit(noisy(np.random.default_rng(3), 0.2, SIZES[:4]))
    near, far = predict(law, SIZES[4]).error, predict(law, SIZES[5]).error
    assert near.high / near.low < far.high / far.low
    with pytest.raises(ValueError, match="above 0"):
        predict(law, 0)


def test_few_points_state_their_limits():
    two = fit({s: [e] for s, e in zip(SIZES[:2], errors(0.2), strict=False)})
    assert two.exponent.mean == pytest.approx(0.2)
    assert (two.exponent.low, two.deviation) == (None, None)
    assert predict(two, SIZES[3]).error.low is None
    assert score(predict(two, SIZES[3]), [10.0]).within_interval is None
    assert any("two sizes determine the line" in note for note in two.notes)
    three = fit(noisy(np.random.default_rng(4), 0.2, SIZES[:3]))
    assert any("one degree of freedom" in note for note in three.notes)
    assert three.curvature.low is None
    uneven = fit({1e6: [10.0], 2e6: [9.0, 9.1], 4e6: [8.0], 8e6: [7.0]})
    assert any("1 to 2 seeds" in note for note in uneven.notes)


def test_all_wrong_points_are_reported_together():
    with pytest.raises(ValueError, match=r"size 0 must be above 0.*errors at size 5 must be"):
        fit({0.0: [1.0], 5.0: [0.0, 0.0], 6.0: [2.0]})
    with pytest.raises(ValueError, match="at size 6 must be"):
        fit({5.0: [1.0], 6.0: [3.0, -1.0]})
    with pytest.raises(ValueError, match="two sizes, got 1"):
        fit({5.0: [1.0]})


@pytest.mark.parametrize(
    "exponents",
    [(0.2, 0.2, 0.2, 0.2, 0.2), (0.2, 0.2, 0.26, 0.2, 0.2), (0.2, 0.21, 0.22, 0.19, 0.18)],
)
def test_the_best_rule_is_among_those_recommended(exponents):
    runs, rng, covered, sure = 150, np.random.default_rng(5), 0, 0
    best = {p for p, c in zip(PAIRS, exponents, strict=True) if c == max(exponents)}
    for _ in range(runs):
        seed = rng.normal(0, 0.02, 1)  # the rules are trained on the same seed
        studies = {
            pair: noisy(rng, c, SIZES[:4], seeds=1, noise=0, seed=seed)
            for pair, c in zip(PAIRS, exponents, strict=True)
        }
        advice = recommend(studies, SIZES[4], draws=2000)
        covered += best <= set(advice.tied)
        sure += advice.has_single_best
        lowest = min(advice.errors, key=lambda p, errors=advice.errors: errors[p].mean)
        assert advice.best == advice.tied[0] == lowest
    assert covered / runs >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / runs)
    if exponents[2] == 0.26:
        assert sure / runs > 0.5


def test_few_sizes_keep_two_equal_rules_tied():
    """Two rules of three sizes leave two degrees of freedom for the deviation."""
    runs, rng, covered = 300, np.random.default_rng(6), 0
    for _ in range(runs):
        studies = {p: noisy(rng, 0.2, SIZES[:3], 1, noise=0, seed=0.0) for p in PAIRS[:2]}
        covered += len(recommend(studies, SIZES[3], draws=2000).tied) == 2
    assert covered / runs >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / runs)


def test_a_recommendation_says_why_it_is_not_sure():
    points = {s: [e] for s, e in zip(SIZES[:2], errors(0.2), strict=False)}
    alone = recommend({PAIRS[2]: points}, 1e8)
    assert (alone.has_single_best, alone.reason) == (False, "there is only one rule")
    two = recommend(dict.fromkeys(PAIRS, points), 1e8)
    assert (two.has_single_best, two.reason) == (False, "two sizes give no interval")
    assert set(two.tied) == set(PAIRS)
    with pytest.raises(ValueError, match="at least one"):
        recommend({}, 1e8)
