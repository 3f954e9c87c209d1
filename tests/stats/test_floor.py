"""A power law with a floor: exact fits, when a floor is shown, and coverage of its intervals."""

import math

import numpy as np
import pytest
from scipy import stats as sps
from scipy.optimize import curve_fit

from archsearch.stats.floor import FloorLaw, fit_with_floor
from archsearch.stats.law import fit, predict

SIZES = 1e6 * 2.0 ** np.arange(9)


def curve(floor: float, exponent: float, sizes: np.ndarray = SIZES) -> np.ndarray:
    return floor + (50.0 - floor) * (sizes / 1e6) ** -exponent


def floor_law(errors: np.ndarray, num_sizes: int) -> FloorLaw:
    law = fit_with_floor({s: [e] for s, e in zip(SIZES[:num_sizes], errors, strict=False)})
    assert law is not None
    return law


def test_an_exact_law_with_a_floor_is_fitted() -> None:
    law = floor_law(curve(15.0, 0.4), 6)
    assert law.floor.mean == pytest.approx(15.0, rel=1e-4)
    assert law.exponent.mean == pytest.approx(0.4, rel=1e-4)
    assert law.is_identified
    assert law.predict(SIZES[8]).error.mean == pytest.approx(curve(15.0, 0.4)[8], rel=1e-4)


def test_the_fit_is_that_of_a_general_solver() -> None:
    """Variable projection and a search over all three parameters agree."""
    rng = np.random.default_rng(1)
    y = (curve(15.0, 0.4) * np.exp(rng.normal(0, 0.01, 9)))[:7]
    law = floor_law(y, 7)
    (floor, _, exponent), _ = curve_fit(
        lambda s, floor, b, c: floor + b * (s / 1e6) ** -c, SIZES[:7], y, (10, 40, 0.3), sigma=y
    )
    assert law.floor.mean == pytest.approx(floor, rel=1e-3)
    assert law.exponent.mean == pytest.approx(exponent, rel=1e-3)
    residuals = floor_law_residuals(law, y)
    deviation = math.sqrt(residuals @ residuals / 4)
    middle = law.predict(SIZES[3]).error
    assert middle.half_width is not None
    assert middle.half_width > sps.t.ppf(0.975, 4) * deviation * middle.mean


def floor_law_residuals(law: FloorLaw, y: np.ndarray) -> np.ndarray:
    return np.array([law.predict(s).error.mean for s in SIZES[: len(y)]]) / y - 1


def test_fewer_than_five_sizes_have_no_floor() -> None:
    points = {s: [e] for s, e in zip(SIZES[:4], curve(15.0, 0.4), strict=False)}
    assert fit_with_floor(points) is None
    with pytest.raises(ValueError, match="two sizes, got 1"):
        fit_with_floor({1e6: [1.0]})


def coverage(floor: float, sizes: int, runs: int, deviation: float = 0.01) -> dict[str, float]:
    rng, laws, hits = np.random.default_rng(2), [], []
    for _ in range(runs):
        y = curve(floor, 0.4) * np.exp(rng.normal(0, deviation, 9))
        law = floor_law(y, sizes)
        laws.append(law.is_identified)
        hits.append((floor in law.floor, 0.4 in law.exponent, y[sizes] in predicted(law, sizes)))
    floors, exponents, next_sizes = np.mean(hits, axis=0)
    return {"shown": np.mean(laws), "floor": floors, "exponent": exponents, "x2": next_sizes}


def predicted(law: FloorLaw, index: int):  # type: ignore[no-untyped-def]
    return law.predict(SIZES[index]).error


@pytest.mark.parametrize("sizes", [6, 8])
def test_intervals_with_a_floor_cover(sizes: int) -> None:
    """With eight sizes the new model's own misfit is most of a prediction's interval."""
    runs = 300
    result = coverage(15.0, sizes, runs)
    margin = 4 * math.sqrt(0.95 * 0.05 / runs)
    for name in ("floor", "exponent", "x2"):
        assert result[name] >= 0.95 - margin, name
    assert result["shown"] > 0.5


def test_a_floor_is_rarely_shown_where_there_is_none() -> None:
    """The interval is two-sided and zero is the end of its range: 2.5% are meant."""
    runs = 400
    assert coverage(0.0, 6, runs)["shown"] <= 0.025 + 4 * math.sqrt(0.025 * 0.975 / runs)


def test_a_floor_stays_unseen_in_much_noise() -> None:
    assert coverage(15.0, 5, 100, deviation=0.05)["shown"] < 0.2


def test_a_straight_law_stops_at_four_times_the_largest_size() -> None:
    law = fit({s: [e] for s, e in zip(SIZES[:4], curve(0.0, 0.4), strict=False)})
    assert predict(law, SIZES[5]).error.mean == pytest.approx(curve(0.0, 0.4)[5])
    with pytest.raises(ValueError, match="at most 4 times the largest trained size, 8,000,000"):
        predict(law, SIZES[6])
    assert predict(law, SIZES[6], math.inf).error.mean == pytest.approx(curve(0.0, 0.4)[6])
