"""The power of a planned study: what it finds with 80% probability, and the seeds that needs.

The noise model is that of `archsearch.stats.contrasts`: networks share their seeds. The noise of
all networks is pooled, as if a contrast differed no more between seeds than other noise; errors
clustered by seed need more (`by_seed`). Several tests share the error of 5%: the
largest effect is tested first, at 5% divided by their number (Holm), which is what counts here.
"""

import math

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
