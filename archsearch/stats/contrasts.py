"""Contrasts of networks that are trained on the same seeds: one number per question.

Model: value[network, seed] = mean[network] + effect[seed] + noise. A contrast is a weighted sum of
the networks' means, with weights that sum to zero. The weights are those of the additive model,
mean[network] = sum of one effect per number (C1, C', L1): least squares over all networks.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from archsearch.stats.intervals import Interval, student_interval

Array = NDArray[np.float64]
Numbers = Mapping[str, float]
"""Name of a number -> its value in one network."""

INTERACTION_LEVEL = 0.1
"""Below this p-value a contrast is taken to differ between seeds, and its seeds are the repeats."""


@dataclass(frozen=True)
class Contrast:
    """A question to a set of networks: one weight per network, in their order."""

    label: str
    weights: tuple[float, ...]

    @property
    def unit_variance(self) -> float:
        """The variance of the estimate from one seed, in squared deviations of the noise."""
        return math.fsum(w * w for w in self.weights)

    def without_unused(self) -> "Contrast":
        """Return the contrast of those networks only that enter it."""
        return Contrast(self.label, tuple(w for w in self.weights if w))


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
    columns: dict[tuple[str, float | None], Array] = {}
    for name in networks[0]:
        values = np.array([network[name] for network in networks])
        levels = [None] if name == straight else _levels(networks, name)
        for level in levels:
            columns[name, level] = values if level is None else (values == level) * 1.0
    design = np.stack([np.ones(len(networks)), *columns.values()], axis=1)
    target = np.array([0.0, *(wanted.get(key, 0.0) for key in columns)])
    weights = np.linalg.pinv(design.T) @ target
    if not np.allclose(design.T @ weights, target, atol=1e-8):
        return None
    return np.asarray(np.where(np.abs(weights) < 1e-12, 0.0, weights))


def neighbors(networks: Sequence[Numbers], name: str) -> list[tuple[float, float]]:
    """Return the steps between neighboring values of ``name``."""
    return list(pairwise(_levels(networks, name)))


def error_degrees_of_freedom(num_networks: int, num_seeds: int) -> int:
    """Return those of the noise, which is what remains after networks and seeds."""
    return (num_networks - 1) * (num_seeds - 1)


def residual_deviation(values: Array) -> float:
    """Return the standard deviation of the noise of values (k networks, n seeds)."""
    centered = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    return math.sqrt((centered**2).sum() / error_degrees_of_freedom(*values.shape))


@dataclass(frozen=True)
class ContrastTest:
    """The estimate of a contrast with its standard error, degrees of freedom and p-value.

    ``by_seed`` says that the contrast differs between seeds (``interaction_p_value``), so that the
    seeds are the repeats; otherwise the pooled noise of all networks is the error.
    """

    estimate: float
    standard_error: float
    degrees_of_freedom: int
    p_value: float
    by_seed: bool
    interaction_p_value: float
    num_seeds: int

    def interval(self, level: float) -> Interval:
        """Return the two-sided interval at this level."""
        return student_interval(
            self.estimate, self.standard_error, self.degrees_of_freedom, level, self.num_seeds
        )


def contrast_test(values: Array, weights: Sequence[float]) -> ContrastTest:
    """Test a contrast on values (k networks, n seeds).

    Two networks have no noise beside that of the contrast itself; then the seeds are the repeats.

    Raises:
        ValueError: there are fewer than two networks or seeds, or the weights do not fit.
    """
    k, n = values.shape
    if k < 2 or n < 2 or len(weights) != k:
        raise ValueError(
            f"a contrast needs two networks, two seeds and a weight per network, got {k}, {n} and "
            f"{len(weights)}"
        )
    w = np.asarray(weights)
    per_seed = w @ values
    own_error = float(per_seed.std(ddof=1)) / math.sqrt(n)
    pooled_error = residual_deviation(values) * math.sqrt(float(w @ w) / n)
    interaction = _interaction_p_value(values, w)
    by_seed = interaction < INTERACTION_LEVEL or k == 2
    error, freedom = (own_error, n - 1) if by_seed else (pooled_error, (k - 1) * (n - 1))
    estimate = float(per_seed.mean())
    p = _two_sided(estimate, error, freedom)
    return ContrastTest(estimate, error, freedom, p, by_seed, interaction, n)


def _interaction_p_value(values: Array, w: Array) -> float:
    """Return the p-value of "the contrast differs between seeds no more than the other noise"."""
    from scipy.special import fdtrc

    k, n = values.shape
    if k == 2:
        return 1.0
    own = float(((w @ values - (w @ values).mean()) ** 2).sum() / (w @ w))
    rest = residual_deviation(values) ** 2 * (k - 1) * (n - 1) - own
    freedom = (k - 2) * (n - 1)
    return float(fdtrc(n - 1, freedom, own / (n - 1) / max(rest / freedom, 1e-300)))


def _two_sided(estimate: float, error: float, freedom: int) -> float:
    from scipy.special import stdtr

    if error == 0:
        return 1.0 if estimate == 0 else 0.0
    return float(2 * stdtr(freedom, -abs(estimate) / error))


def holm(p_values: Mapping[Hashable, float]) -> dict[Hashable, float]:
    """Return Holm's adjusted p-values: the smallest times the number of tests, and so on."""
    adjusted, largest = {}, 0.0
    for i, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        largest = max(largest, min(1.0, p_values[key] * (len(p_values) - i)))
        adjusted[key] = largest
    return {key: adjusted[key] for key in p_values}
