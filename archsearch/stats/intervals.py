"""Intervals, rank agreement and trade-offs: pure functions on numbers, no files.

Which cells cannot be told from the best is `archsearch.stats.ranking`, who gets another seed
`archsearch.stats.seeds`; both are re-exported here.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats as sps

from archsearch.stats.ranking import Ranking, tied_with_best
from archsearch.stats.seeds import SeedPlan, next_seeds

__all__ = [
    "Edf",
    "Interval",
    "Ranking",
    "SeedPlan",
    "chance_winner_is_best",
    "edf",
    "interval",
    "kendall_tau",
    "mean_of_means",
    "next_seeds",
    "next_value",
    "pareto",
    "regret",
    "tied_with_best",
]

Array = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)
Method = Literal["student", "bootstrap"]


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval; ``low`` and ``high`` are None where ``n`` cannot give one."""

    mean: float
    low: float | None
    high: float | None
    n: int
    method: str

    @property
    def half_width(self) -> float | None:
        """Half the length, for printing as mean +- half width."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    def __contains__(self, value: float) -> bool:
        """Whether the value lies inside; False where there is no interval."""
        return self.low is not None and self.high is not None and self.low <= value <= self.high


def interval(
    values: Sequence[float],
    level: float = 0.95,
    method: Method = "student",
) -> Interval:
    """The mean of repeats and its two-sided interval; one repeat has none.

    ``student`` is exact for normal noise. ``bootstrap`` (percentile, 10,000 resamples, fixed
    seed) makes no such assumption but is too short below some ten repeats.

    Raises:
        ValueError: without values, with one that is not finite, or a level outside (0, 1).
    """
    x = _finite(values)
    _check_level(level)
    mean, n = float(x.mean()), len(x)
    if n == 1:
        return Interval(mean, None, None, 1, method)
    if method == "student":
        half = float(sps.t.ppf((1 + level) / 2, n - 1) * x.std(ddof=1) / math.sqrt(n))
        return Interval(mean, mean - half, mean + half, n, method)
    draws = np.random.default_rng(0).integers(0, n, (10_000, n))
    low, high = np.quantile(x[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), n, method)


def mean_of_means(groups: Sequence[Sequence[float]], level: float = 0.95) -> Interval:
    """The mean over groups of each group's mean, and its interval: noise within groups only.

    Every group has two repeats or more and noise of its own size, as Welch and Satterthwaite
    allow; how the groups' true means differ is no noise, for the groups are all there are.
    Measured on synthetic truth (2-5 groups of 2-5 repeats, deviations equal or up to threefold
    apart): the interval held the truth in 94-99%.

    Raises:
        ValueError: without groups, for one of fewer than two repeats, or a number not finite.
    """
    _check_level(level)
    arrays = [_finite(group) for group in groups]
    if not arrays or min(map(len, arrays)) < 2:
        raise ValueError("wanted groups of at least two repeats each")
    mean = float(np.mean([x.mean() for x in arrays]))
    parts = np.array([x.var(ddof=1) / len(x) for x in arrays]) / len(arrays) ** 2
    n = sum(map(len, arrays))
    if not parts.any():
        return Interval(mean, mean, mean, n, "student")
    freedom = parts.sum() ** 2 / (parts**2 / [len(x) - 1 for x in arrays]).sum()
    half = float(sps.t.ppf((1 + level) / 2, freedom) * math.sqrt(parts.sum()))
    return Interval(mean, mean - half, mean + half, n, "student")


def next_value(values: Sequence[float], level: float = 0.95) -> Interval:
    """Where one more repeat should fall: Student's prediction interval for normal noise.

    Wider than the interval of the mean by the new repeat's own noise; one repeat has none.

    Raises:
        ValueError: as `interval`.
    """
    of_mean = interval(values, level)
    if (half := of_mean.half_width) is None:
        return replace(of_mean, method="prediction")
    half *= math.sqrt(of_mean.n + 1)
    return Interval(of_mean.mean, of_mean.mean - half, of_mean.mean + half, of_mean.n, "prediction")


def kendall_tau(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """Kendall's tau-b between two scores of the same cells, with its two-sided interval.

    The interval is the percentile bootstrap over cells, widened below 40 cells to hold every tau
    under which a bivariate normal would show one as high (or low) by chance. Widening is
    needed: a perfect order of 5 cells bootstraps to [1, 1]. Measured on synthetic truth (5-30
    cells, tau 0-0.9, normal, heavy-tailed and evenly spaced scores), the lower end was below the
    truth in 94-100%; the bootstrap alone fell to 39% with 5 normal cells at tau 0.9, and to 0%
    with evenly spaced ones.

    Raises:
        ValueError: for fewer than two cells, different lengths, or scores that are all equal.
    """
    _check_level(level)
    x, y = _finite(a), _finite(b)
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"wanted two scores of the same cells, got {len(x)} and {len(y)}")
    if not np.ptp(x) or not np.ptp(y):
        raise ValueError("tau is undefined: all cells score the same, so they have no order")
    tau = float(_taus(x[None], y[None])[0])
    pick = np.random.default_rng(0).integers(0, len(x), (4000, len(x)))
    draws = _taus(x[pick], y[pick])
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2]).tolist()
    if len(x) >= _MANY_CELLS:
        return Interval(tau, low, high, len(x), "bootstrap")
    wide_low, wide_high = _normal_interval(tau, len(x), level)
    wider = min(low, wide_low), max(high, wide_high)
    return Interval(tau, *wider, len(x), "bootstrap, widened for few cells")


_MANY_CELLS = 40


def _taus(x: Array, y: Array) -> Array:
    """Tau-b of each row; NaN where a row of x or y is constant (a resample may be)."""
    i, j = np.triu_indices(x.shape[1], 1)
    dx, dy = np.sign(x[:, i] - x[:, j]), np.sign(y[:, i] - y[:, j])
    pairs = np.sqrt((dx**2).sum(1) * (dy**2).sum(1))
    return np.asarray((dx * dy).sum(1) / np.where(pairs > 0, pairs, np.nan))


def _normal_interval(tau: float, n: int, level: float) -> tuple[float, float]:
    """The taus of a bivariate normal that do not make the tau seen an exception."""
    return _normal_low(tau, n, (1 - level) / 2), -_normal_low(-tau, n, (1 - level) / 2)


def _normal_low(tau: float, n: int, tail: float) -> float:
    """The greatest true tau (on a grid) below all that show so high a tau more often than tail."""
    taus, samples = _normal_taus(n)
    plausible = (samples >= tau - 1e-9).mean(axis=1) > tail
    return float(taus[max(int(plausible.argmax()) - 1, 0)])


@lru_cache(maxsize=4)
def _normal_taus(n: int) -> tuple[Array, Array]:
    """True taus (T,) and sampled taus (T, draws) of n pairs from a bivariate normal.

    tau = 2 asin(rho) / pi (Kruskal 1958).
    """
    taus = np.linspace(-1.0, 1.0, 81)
    z = np.random.default_rng(0).normal(size=(2, max(1000, 30_000 // n), n))
    rhos = np.sin(np.pi / 2 * taus)
    samples = [_taus(z[0], r * z[0] + math.sqrt(max(0.0, 1 - r * r)) * z[1]) for r in rhos]
    return taus, np.stack(samples)


@dataclass(frozen=True)
class Edf:
    """Share of models with error <= ``error``, with its simultaneous band."""

    error: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def edf(errors: Sequence[float], level: float = 0.95) -> Edf:
    """The error distribution of a space (Radosavovic et al. 2019): F(e) = share of errors <= e.

    The band is Dvoretzky-Kiefer-Wolfowitz's: it holds for the whole curve at once, if the models
    were sampled at random from the space; for a full grid the curve itself is exact.
    """
    x = np.sort(_finite(errors))
    _check_level(level)
    share = np.arange(1, len(x) + 1) / len(x)
    band = math.sqrt(math.log(2 / (1 - level)) / (2 * len(x)))
    low, high = np.clip(share - band, 0, 1), np.clip(share + band, 0, 1)
    return Edf(tuple(x.tolist()), tuple(share.tolist()), tuple(low.tolist()), tuple(high.tolist()))


def pareto(points: Mapping[Key, Sequence[float]], maximise: Sequence[bool]) -> tuple[Key, ...]:
    """The points that no other point beats: as good everywhere and better somewhere.

    Ordered from the best in the first objective; equal points are all kept.
    """
    if bad := sorted(str(k) for k, p in points.items() if len(p) != len(maximise)):
        raise ValueError(f"{len(maximise)} objectives wanted, other numbers at: {', '.join(bad)}")
    sign = np.where(np.asarray(maximise, dtype=bool), 1.0, -1.0)
    scores = {key: _finite(point) * sign for key, point in points.items()}
    kept = [
        key
        for key, s in scores.items()
        if not any((o >= s).all() and (o > s).any() for o in scores.values())
    ]
    return tuple(sorted(kept, key=lambda key: tuple(-scores[key])))


def regret(chosen: Key, values: Mapping[Key, float], higher_is_better: bool = True) -> float:
    """How much worse the chosen cell is than the best one; 0 for the best itself."""
    if chosen not in values:
        raise ValueError(f"{chosen!r} has no value to be judged by")
    best = max(values.values()) if higher_is_better else min(values.values())
    return abs(best - values[chosen])


def chance_winner_is_best(
    num_cells: int = 30,
    gap: float = 0.05,
    sd: float = 0.1,
    num_seeds: int = 1,
    draws: int = 20_000,
) -> Interval:
    """How often the cell with the highest mean over seeds is truly the best one (simulated).

    Cells stand ``gap`` apart, one below the other, and each training adds normal noise of
    deviation ``sd``. The interval is the simulation's own error.
    """
    rng = np.random.default_rng(0)
    truth = -gap * np.arange(num_cells)
    seen = truth + rng.normal(0.0, sd / math.sqrt(num_seeds), (draws, num_cells))
    wins = int((seen.argmax(axis=1) == 0).sum())
    exact = sps.binomtest(wins, draws).proportion_ci(0.95)
    return Interval(wins / draws, float(exact.low), float(exact.high), draws, "simulation")


def _finite(values: Sequence[float]) -> Array:
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"wanted at least one finite number and no gaps, got {list(values)}")
    return x


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1 (0.95 for 95%), got {level}")
