"""The time that a study still needs, from predicted times and those measured so far.

A training's actual time is modeled as one common ratio times its predicted time, with a variance
proportional to the predicted time. The best linear estimate of the ratio is then the total actual
time over the total predicted time, and the error of a predicted total is known (Royall 1970, On
finite population sampling theory under certain linear regression models).
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LEVEL = 0.95
MIN_PAIRS = 3
"""Measured trainings that an interval needs: it rests on how much their ratios differ."""

MOST_SCHEDULED = 1000
"""With more trainings left, the last ones are too short a part to matter."""

Pair = tuple[float, float]
"""Predicted and actual seconds of the same work."""


@dataclass(frozen=True)
class Remaining:
    """Seconds until a study ends, with a 95% interval; None for its ends if it is not known.

    The interval supposes that the ratio of later trainings varies as that of the earlier ones; a
    machine that others begin to use is not foreseen.
    """

    seconds: float
    low: float | None = None
    high: float | None = None


def makespan(seconds: Iterable[float], workers: int) -> float:
    """How long ``workers`` need for these trainings, each taking the next one when it is free."""
    seconds = list(seconds)
    if len(seconds) > MOST_SCHEDULED:
        return max(sum(seconds) / workers, max(seconds))
    busy_until = [0.0] * max(1, min(workers, len(seconds)))
    for one in seconds:
        heapq.heapreplace(busy_until, busy_until[0] + one)
    return max(busy_until)


def ratio(pairs: Sequence[Pair], prior: float = 0.0) -> float | None:
    """Actual over predicted seconds; the prediction itself counts as ``prior`` seconds as foreseen.

    None if nothing is measured and ``prior`` is zero.
    """
    predicted, actual = (sum(column) + prior for column in zip((0.0, 0.0), *pairs, strict=True))
    return actual / predicted if predicted > 0 else None


def remaining(
    pairs: Sequence[Pair],
    left: Sequence[float],
    workers: int,
    *,
    prior: float = 0.0,
    after: float = 0.0,
) -> Remaining | None:
    """The time until the trainings with the predicted seconds ``left`` have ended on ``workers``.

    ``pairs`` are the trainings so far, ``after`` the seconds that follow the last one. None if
    nothing is known: no pair and no prior.
    """
    factor = ratio(pairs, prior)
    if factor is None:
        return None
    seconds = factor * makespan(left, workers)
    spread = _relative_spread(pairs, sum(left), factor, prior)
    if spread is None:
        return Remaining(seconds + after)
    low = max(0.0, seconds * (1 - spread))
    return Remaining(seconds + after, low + after, seconds * (1 + spread) + after)


def _relative_spread(
    pairs: Sequence[Pair], left: float, factor: float, prior: float
) -> float | None:
    """Half the width of the interval of the time left, relative to it."""
    if len(pairs) < MIN_PAIRS or left <= 0:
        return None
    from archsearch.stats.intervals import t_quantile

    freedom = len(pairs) - 1
    variance = sum((actual - factor * p) ** 2 / p for p, actual in pairs) / freedom
    done = sum(predicted for predicted, _ in pairs) + prior
    error = math.sqrt(variance * (left + left**2 / done))
    return t_quantile((1 + LEVEL) / 2, freedom) * error / (factor * left)
