"""Contrasts of networks that are trained on the same seeds: one number per question.

Model: value[network, seed] = mean[network] + effect[seed] + noise. A contrast is a weighted sum of
the networks' means, with weights that sum to zero. The weights are those of the additive model,
mean[network] = sum of one effect per number (C1, C', L1): least squares over all networks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from archsearch.stats.additive_design import Array, indicators, weights_of_effects
from archsearch.stats.intervals import Interval, student_interval
from archsearch.stats.p_values import t_tails

Numbers = Mapping[str, float]
"""Name of a number -> its value in one network."""


@dataclass(frozen=True)
class Contrast:
    """A question to a set of networks: one weight per network, in their order.

    ``is_slope`` says that its unit is that of the metric per unit of a number.
    """

    label: str
    weights: tuple[float, ...]
    is_slope: bool = False

    @property
    def unit_variance(self) -> float:
        """The variance of the estimate from one seed, in squared deviations of the noise."""
        return math.fsum(w * w for w in self.weights)

    def without_unused(self) -> "Contrast":
        """Return the contrast of those networks only that enter it."""
        return replace(self, weights=tuple(w for w in self.weights if w))


def step(networks: Sequence[Numbers], name: str, low: float, high: float) -> Array | None:
    """Return the weights (k,) of the effect of ``name`` from ``low`` to ``high``.

    None if the additive model cannot separate it from the other numbers.
    """
    return _weights(networks, {(name, high): 1.0, (name, low): -1.0})


def one_against_the_rest(networks: Sequence[Numbers], name: str, value: float) -> Array | None:
    """Return the weights (k,) of ``name`` = ``value`` minus the mean of its other values.

    None if there is no other value, or as `step`.
    """
    others = [level for level in _levels(networks, name) if level != value]
    if not others or len(others) == len(_levels(networks, name)):
        return None
    return _weights(networks, {(name, value): 1.0, **{(name, v): -1 / len(others) for v in others}})


def slope(networks: Sequence[Numbers], name: str) -> Array | None:
    """Return the weights (k,) of the mean change of one unit of ``name``, a straight line.

    None for fewer than three values, or as `step`.
    """
    if len(_levels(networks, name)) < 3:
        return None
    return _weights(networks, {(name, None): 1.0}, straight=name)


def _levels(networks: Sequence[Numbers], name: str) -> list[float]:
    return sorted({network[name] for network in networks})


def _weights(
    networks: Sequence[Numbers],
    wanted: Mapping[tuple[str, float | None], float],
    straight: str = "",
) -> Array | None:
    effects: list[tuple[str, float | None]] = []
    columns = [np.ones((len(networks), 1))]
    for name in networks[0]:
        values = [network[name] for network in networks]
        levels = _levels(networks, name)
        is_straight = name == straight
        effects += [(name, None)] if is_straight else [(name, level) for level in levels]
        columns.append(np.array([values]).T if is_straight else indicators(values, levels))
    target = np.array([0.0, *(wanted.get(effect, 0.0) for effect in effects)])
    design = np.hstack(columns)
    weights = weights_of_effects(target, design, np.asarray(np.linalg.pinv(design)))
    return None if weights is None else np.where(np.abs(weights) < 1e-12, 0.0, weights)


def neighbors(networks: Sequence[Numbers], name: str) -> list[tuple[float, float]]:
    """Return the steps between neighboring values of ``name``."""
    return list(pairwise(_levels(networks, name)))


def error_degrees_of_freedom(num_networks: int, num_seeds: int) -> int:
    """Return those of the noise, which is what remains after networks and seeds."""
    return (num_networks - 1) * (num_seeds - 1)


@dataclass(frozen=True)
class ContrastTest:
    """The estimate of a contrast over the seeds, its standard error and two-sided p-value."""

    estimate: float
    standard_error: float
    p_value: float
    num_seeds: int

    def interval(self, level: float) -> Interval:
        """Return the two-sided interval at this level."""
        freedom = self.num_seeds - 1
        return student_interval(self.estimate, self.standard_error, freedom, level, self.num_seeds)


def contrast_test(values: Array, weights: Sequence[float]) -> ContrastTest:
    """Test a contrast on values (k networks, n seeds), with the seeds as repeats.

    Each seed gives one value of the contrast, and Student's t test compares their mean with 0. So
    the networks may differ in noise, and the contrast may differ between seeds (errors clustered by
    seed); pooled noise would have more degrees of freedom, but its 95% interval covers the truth in
    76% of studies where an interaction of half a deviation goes with the seeds.

    Raises:
        ValueError: there are fewer than two networks or seeds, or the weights do not fit.
    """
    k, n = values.shape
    if k < 2 or n < 2 or len(weights) != k:
        raise ValueError(
            f"a contrast needs two networks, two seeds and a weight per network, got {k}, {n} and "
            f"{len(weights)}"
        )
    per_seed = np.asarray(weights) @ values
    estimate, error = float(per_seed.mean()), float(per_seed.std(ddof=1)) / math.sqrt(n)
    return ContrastTest(estimate, error, t_tails(estimate, error, n - 1), n)
