"""A power law with a floor: error = floor + b size^-c, fitted by variable projection.

The floor is the error that no size removes. For every exponent c the best floor and b follow from a
linear fit, so only c is searched (Golub and Pereyra 1973). Deviations are relative to the error, as
in `archsearch.stats.law`. Intervals are profiles: all values for which the sum of squares is not
significantly larger than the smallest one (F test).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from archsearch.stats.intervals import Interval, t_quantile
from archsearch.stats.law import Points, Prediction, means_of_sizes

Array = NDArray[np.float64]
MIN_SIZES = 5
"""Three parameters leave two degrees of freedom for the deviation."""

EXPONENTS = np.geomspace(0.01, 8.0, 160)
"""Where the search for the best exponent starts; a larger one is no bound."""

FLOOR_SHARES = np.linspace(0.0, 0.999, 200)
"""Profiled floors, as shares of the smallest error."""

STEPS = np.linspace(-3.0, 3.0, 61)
"""Profiled exponents of a floor, in half widths of their interval at that floor."""


@dataclass(frozen=True)
class FloorLaw:
    """A fitted law with a floor in percent; ``log_sizes`` and ``errors`` are its points."""

    log_sizes: Array
    errors: Array
    level: float

    @cached_property
    def floor(self) -> Interval:
        """The floor in percent with its profile interval."""
        return self._interval(self._best[0], self._accepted[0])

    @cached_property
    def exponent(self) -> Interval:
        """The exponent of the part above the floor with its profile interval."""
        return self._interval(self._best[1], self._accepted[1])

    @property
    def is_identified(self) -> bool:
        """Whether the data exclude a law without floor, and bound the exponent."""
        return (self.floor.low or 0.0) > 0 and (self.exponent.high or math.inf) < EXPONENTS[-1]

    def predict(self, size: float) -> Prediction:
        """Predict the mean error at this size.

        The interval has every law that the data do not exclude, with a floor or without, and the
        misfit of the new model.
        """
        mean = float(self._curve(*self._best, size)[0])
        curve = np.append(self._curve(*self._accepted, size), mean)
        misfit = self._t * self._deviation * mean
        low = max(0.0, mean - math.hypot(mean - curve.min(), misfit))
        high = min(100.0, mean + math.hypot(curve.max() - mean, misfit))
        return Prediction(size, Interval(mean, low, high, len(self.errors), "profile"))

    def _interval(self, best: Array, accepted: Array) -> Interval:
        values, mean = np.append(accepted, best), float(best[0])
        return Interval(mean, float(values.min()), float(values.max()), len(self.errors), "profile")

    @property
    def _freedom(self) -> int:
        return len(self.errors) - 3

    @property
    def _t(self) -> float:
        return t_quantile((1 + self.level) / 2, self._freedom)

    @cached_property
    def _deviation(self) -> float:
        return math.sqrt(max(0.0, float(self._squares(*self._best)[0])) / self._freedom)

    @cached_property
    def _best(self) -> tuple[Array, Array]:
        """Floor and exponent, each (1,), with the smallest sum of squares."""
        from scipy.optimize import minimize_scalar

        squares = self._squares(self._floors(EXPONENTS), EXPONENTS)
        i = int(np.clip(squares.argmin(), 1, len(EXPONENTS) - 2))
        bounds = np.log(EXPONENTS[[i - 1, i + 1]]).tolist()
        result = minimize_scalar(
            self._at_exponent, bounds=bounds, method="bounded", options={"xatol": 1e-9}
        )
        exponent: Array = np.exp(np.atleast_1d(result.x))
        return self._floors(exponent), exponent

    def _at_exponent(self, log_exponent: float) -> float:
        exponent: Array = np.exp(np.atleast_1d(log_exponent))
        return float(self._squares(self._floors(exponent), exponent)[0])

    def _floors(self, exponents: Array) -> Array:
        """The best floor of each exponent: the linear part, from 0 to below the smallest error."""
        one, per_error, own = self._sums(exponents)
        numerator = (1 / self.errors).sum() - one * per_error / own
        floors = numerator / ((1 / self.errors**2).sum() - per_error**2 / own)
        return np.asarray(np.clip(floors, 0.0, FLOOR_SHARES[-1] * self.errors.min()))

    def _squares(self, floors: Array, exponents: Array) -> Array:
        """The sum of squared relative deviations at each pair, with the best b."""
        one, per_error, own = self._sums(exponents)
        n, first, second = len(self.errors), (1 / self.errors).sum(), (1 / self.errors**2).sum()
        explained = (one - floors * per_error) ** 2 / own
        return np.asarray(n - 2 * floors * first + floors**2 * second - explained)

    def _sums(self, exponents: Array) -> tuple[Array, Array, Array]:
        """Sums over the points of p/y, p/y^2 and (p/y)^2, with p = size^-c around their center."""
        relative = np.exp(-np.outer(exponents, self._x)) / self.errors
        return relative.sum(1), (relative / self.errors).sum(1), (relative**2).sum(1)

    @property
    def _x(self) -> Array:
        return np.asarray(self.log_sizes - self.log_sizes.mean())

    @cached_property
    def _accepted(self) -> tuple[Array, Array]:
        """Floors and exponents, flat, that the F test does not reject."""
        floors = FLOOR_SHARES * self.errors.min()
        slopes, half_widths = self._slopes(floors)
        grid = slopes[:, None] + half_widths[:, None] * STEPS
        floors, exponents = np.repeat(floors, len(STEPS)), np.maximum(grid.ravel(), 1e-4)
        limit = self._deviation**2 * (self._freedom + self._t**2)
        accepted = self._squares(floors, exponents) <= limit
        return floors[accepted], exponents[accepted]

    def _slopes(self, floors: Array) -> tuple[Array, Array]:
        """The exponent of each floor by a weighted line through log(error - floor), with the half
        width of its interval: where to look for accepted exponents."""
        above = self.errors - floors[:, None]
        weights = (above / self.errors) ** 2
        centered = self._x - (weights @ self._x / weights.sum(1))[:, None]
        spread = (weights * centered**2).sum(1)
        slopes = -(weights * centered * np.log(above)).sum(1) / spread
        return slopes, self._t * self._deviation / np.sqrt(spread)

    def _curve(self, floors: Array, exponents: Array, size: float) -> Array:
        one, per_error, own = self._sums(exponents)
        scale = (one - floors * per_error) / own
        distance = math.log(size) - float(self.log_sizes.mean())
        return np.asarray(floors + scale * np.exp(-exponents * distance))


def fit_with_floor(points: Points, level: float = 0.95) -> FloorLaw | None:
    """Fit a power law with a floor to the mean errors of `MIN_SIZES` sizes or more, else None.

    Raises:
        ValueError: as `archsearch.stats.law.fit`.
    """
    sizes, means = means_of_sizes(points)
    return FloorLaw(np.log(sizes), means, level) if len(sizes) >= MIN_SIZES else None
