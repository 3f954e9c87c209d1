"""Intervals of cells whose own seeds are too few to measure their noise, and of new images."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from archsearch.stats.intervals import Interval, interval, student_interval, t_quantile
from archsearch.stats.paired_model import PRIOR_DEGREES_OF_FREEDOM, moderated_variance

Key = TypeVar("Key", bound=Hashable)


def moderated_intervals(
    values: Mapping[Key, Sequence[float]], level: float = 0.95
) -> dict[Key, Interval]:
    """Return the mean over its seeds of every cell with values, and its two-sided interval.

    The variance of a cell combines its own with the average over cells, as in the ranking (see
    `paired_model.PRIOR_DEGREES_OF_FREEDOM`); Student's t has the degrees of freedom of both (Smyth
    2004). With its own three seeds alone, a cell whose seeds agree by chance gets an interval far
    too short, and it is often the winner. A cell with one seed has no interval. Coverage:
    ``python -m archsearch.benchmarks.winner``.

    Raises:
        ValueError: a value is not finite, or the level is outside (0, 1).
    """
    intervals = {key: interval(row, level) for key, row in values.items() if len(row)}
    squares = {key: _squares(values[key]) for key in intervals}
    freedom = {key: of_mean.n - 1 for key, of_mean in intervals.items()}
    total = sum(freedom.values())
    average = sum(squares.values()) / total if total else 0.0
    for key, of_mean in intervals.items():
        if freedom[key]:
            variance = float(moderated_variance(squares[key], freedom[key], average))
            intervals[key] = student_interval(
                of_mean.mean,
                math.sqrt(variance / of_mean.n),
                min(PRIOR_DEGREES_OF_FREEDOM + freedom[key], total),
                level,
                of_mean.n,
            )
    return intervals


def _squares(values: Sequence[float]) -> float:
    return float(((np.asarray(values) - np.mean(values)) ** 2).sum())


def on_new_images(percent: Interval, num_images: int, level: float = 0.95) -> Interval:
    """Widen the interval of a share of images, in percent, by the sampling of the images.

    All seeds are measured on the same ``num_images``, so more seeds do not make this smaller. It is
    the binomial deviation, which is the largest possible one of independent images. A difference
    between networks on the same images needs none of it. Unchanged without an interval.
    """
    if percent.half_width is None:
        return percent
    share = min(max(percent.mean / 100, 0.0), 1.0)
    deviation = 100 * math.sqrt(share * (1 - share) / num_images)
    half = math.hypot(percent.half_width, t_quantile((1 + level) / 2, math.inf) * deviation)
    return replace(percent, low=percent.mean - half, high=percent.mean + half)
