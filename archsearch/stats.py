"""Intervals, rank agreement and trade-offs: pure functions on numbers, no files.

Which cells cannot be told from the best is `archsearch.ranking`, who gets another seed
`archsearch.seeds`; both are re-exported here.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats as sps

from archsearch.ranking import Ranking, tied_with_best
from archsearch.seeds import SeedPlan, next_seeds

__all__ = [
    "Edf",
    "Interval",
    "Ranking",
    "SeedPlan",
    "chance_winner_is_best",
    "edf",
    "interval",
    "kendall_tau",
    "next_seeds",
    "pareto",
    "regret",
    "tied_with_best",
]

Array = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)


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
    method: Literal["student", "bootstrap"] = "student",
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


def kendall_tau(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """Kendall's tau-b between two scores of the same cells, with its interval over cells."""
    x, y = _finite(a), _finite(b)
    if len(x) != len(y):
        raise ValueError(f"both scores must be of the same cells: got {len(x)} and {len(y)}")
    tau = float(sps.kendalltau(x, y).statistic)
    return Interval(tau, None, None, len(x), "bootstrap")


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
