"""How sure it is that a network is on the front of result against cost, given few seeds."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from archsearch.stats.noise import noise_residuals
from archsearch.stats.paired_model import Array

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
    residuals, freedom = noise_residuals(values)
    if not freedom or min(map(len, values.values())) < 2:
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


def _resampled_means(cells: list[Mapping[int, float]], residuals: Array, draws: int) -> Array:
    """The means of every network (networks, draws) in resampled studies."""
    rng = np.random.default_rng(0)
    noise = (rng.choice(residuals, (draws, len(cell))).mean(axis=1) for cell in cells)
    return np.stack([np.mean([*c.values()]) + n for c, n in zip(cells, noise, strict=True)])
