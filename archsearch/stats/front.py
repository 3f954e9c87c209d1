"""How sure it is that a network is on the front of result against cost, given few seeds."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)
MAX_NUMBERS = 4_000_000
"""The most means that are drawn at once, to limit memory."""


def front_probabilities(
    values: Mapping[Key, Mapping[int, float]],
    costs: Mapping[Key, float],
    higher_is_better: tuple[bool, bool],
    draws: int = 2000,
) -> dict[Key, float]:
    """Return each network's share of resampled studies in which it is on the Pareto front.

    ``values`` holds seed -> result of each network, ``costs`` its cost, and ``higher_is_better``
    the direction of both. A resampled study has every network's mean plus the mean of as many
    residuals as it has seeds. Residuals are without the effects of networks and seeds, and of all
    networks together: two to five seeds of one network say too little about its noise. Empty if
    a network has a single seed or no degree of freedom is left.
    """
    residuals = _residuals(values)
    if not len(residuals):
        return {}
    signs = [1.0 if higher else -1.0 for higher in higher_is_better]
    order = sorted(values, key=lambda key: -signs[1] * costs[key])  # the cheapest first
    sizes = np.array([-signs[1] * costs[key] for key in order])
    draws = max(1, min(draws, MAX_NUMBERS // len(order)))
    means = signs[0] * _resampled_means([values[key] for key in order], residuals, draws)
    return dict(zip(order, _on_front(means, sizes).mean(axis=1).tolist(), strict=True))


def _on_front(means: Array, sizes: Array) -> NDArray[np.bool_]:
    """Whether no network of at most the same size is better, and no smaller one as good."""
    best_up_to = np.maximum.accumulate(means, axis=0)
    best_up_to = np.concatenate([np.full_like(means[:1], -np.inf), best_up_to])
    smaller = best_up_to[np.searchsorted(sizes, sizes, side="left")]
    as_large = best_up_to[np.searchsorted(sizes, sizes, side="right")]
    return np.asarray((means > smaller) & (means >= as_large))


def _residuals(values: Mapping[Key, Mapping[int, float]]) -> Array:
    """Residuals of network and seed effects, enlarged to the variance of the noise."""
    if not values or min(map(len, values.values())) < 2:
        return np.empty(0)
    rows = [(i, seed, y) for i, cell in enumerate(values.values()) for seed, y in cell.items()]
    cells, labels, y = (np.array(column) for column in zip(*rows, strict=True))
    _, seeds = np.unique(labels, return_inverse=True)
    within = y - (np.bincount(cells, y) / np.bincount(cells))[cells]
    residuals = within - (np.bincount(seeds, within) / np.bincount(seeds))[seeds]
    freedom = len(y) - len(values) - int(seeds.max())
    return np.asarray(residuals * (len(y) / freedom) ** 0.5) if freedom > 0 else np.empty(0)


def _resampled_means(cells: list[Mapping[int, float]], residuals: Array, draws: int) -> Array:
    """The means of every network (networks, draws) in resampled studies."""
    rng = np.random.default_rng(0)
    noise = (rng.choice(residuals, (draws, len(cell))).mean(axis=1) for cell in cells)
    return np.stack([np.mean([*c.values()]) + n for c, n in zip(cells, noise, strict=True)])
