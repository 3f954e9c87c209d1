"""The power of a planned study: what it finds with 80% probability, and the seeds that needs.

The noise model is that of `archsearch.stats.contrasts`: networks share their seeds. The noise of
all networks is pooled, as if a contrast differed no more between seeds than other noise; errors
clustered by seed need more (`by_seed`). Several tests share the error of 5%: the
largest effect is tested first, at 5% divided by their number (Holm), which is what counts here.
"""

import math

import numpy as np

from archsearch.stats.contrasts import Contrast, error_degrees_of_freedom

POWER = 0.8
LEVEL = 0.95
MAX_SEEDS = 1000


def detectable_t(degrees_of_freedom: int, tests: int = 1) -> float:
    """Return the noncentrality at which a two-sided t test rejects with 80% power.

    It is an effect in standard errors of its estimate, by the noncentral t distribution; a
    rejection on the wrong side, less than 1 in 10,000, is not counted.
    """
    from scipy.special import nctdtrinc, stdtrit

    critical = stdtrit(degrees_of_freedom, 1 - (1 - LEVEL) / 2 / tests)
    return float(nctdtrinc(degrees_of_freedom, 1 - POWER, critical))


def smallest_effect(
    contrast: Contrast, seeds: int, deviation: float, tests: int = 1, by_seed: bool = False
) -> float:
    """Return the smallest effect that the contrast finds with 80% power, in units of deviation.

    ``deviation`` is the standard deviation of the noise; ``tests`` share the error of 5%. With
    ``by_seed`` the seeds are the repeats, as in `archsearch.stats.contrasts.contrast_test`.

    Raises:
        ValueError: fewer than two seeds, a deviation that is not above 0, or fewer than one test.
    """
    _check(seeds, deviation, tests)
    freedom = _freedom(contrast, seeds, by_seed)
    error = deviation * math.sqrt(contrast.unit_variance / seeds)
    return detectable_t(freedom, tests) * error


def _freedom(contrast: Contrast, seeds: int, by_seed: bool) -> int:
    return seeds - 1 if by_seed else error_degrees_of_freedom(len(contrast.weights), seeds)


def _check(seeds: int, deviation: float, tests: int) -> None:
    problems = []
    if seeds < 2:
        problems.append(f"at least two seeds are needed to know the noise, got {seeds}")
    if not 0 < deviation < math.inf:
        problems.append(f"a deviation must be a number above 0, got {deviation:g}")
    if tests < 1:
        problems.append(f"the number of tests must be 1 or more, got {tests}")
    if problems:
        raise ValueError("; ".join(problems))


def seeds_needed(contrast: Contrast, effect: float, deviation: float, tests: int = 1) -> int | None:
    """Return the fewest seeds with which the contrast finds ``effect``; None above `MAX_SEEDS`.

    Raises:
        ValueError: the effect is not above 0, or as `smallest_effect`.
    """
    if not 0 < effect < math.inf:
        raise ValueError(f"an effect to find must be a number above 0, got {effect:g}")
    low, high = 1, MAX_SEEDS
    if smallest_effect(contrast, high, deviation, tests) > effect:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = smallest_effect(contrast, middle, deviation, tests) <= effect
        low, high = (low, middle) if enough else (middle, high)
    return high


def simulated_power(
    contrast: Contrast,
    effect: float,
    seeds: int,
    deviation: float,
    tests: int = 1,
    by_seed: bool = False,
    draws: int = 4000,
) -> float:
    """Return the share of simulated studies that find ``effect``, to check `smallest_effect`.

    Values of every network and seed are drawn, with seeds that shift all networks; each study is
    tested by Student's t with the noise of all networks pooled, or by seed.
    """
    from scipy.special import stdtrit

    rng, weights = np.random.default_rng(0), np.array(contrast.weights)
    shape, freedom = (draws, len(weights), seeds), _freedom(contrast, seeds, by_seed)
    means = weights[:, None] * effect / contrast.unit_variance
    values = means + deviation * rng.normal(size=shape)
    values += 3 * deviation * rng.normal(size=(draws, 1, seeds))
    per_seed = np.einsum("k,dkn->dn", weights, values)
    if by_seed:
        variance = per_seed.var(1, ddof=1)
    else:
        residual = values - values.mean(1, keepdims=True) - values.mean(2, keepdims=True)
        residual += values.mean((1, 2), keepdims=True)
        variance = (residual**2).sum((1, 2)) / freedom * contrast.unit_variance
    t = per_seed.mean(1) / np.sqrt(variance / seeds)
    return float(np.mean(t > stdtrit(freedom, 1 - (1 - LEVEL) / 2 / tests)))
