"""The selection bias of a winner: the best of many noisy means is too good on average."""

from collections.abc import Callable

import numpy as np

from archsearch.stats.paired_model import CHUNK_VALUES, Array, paired_model
from archsearch.stats.ranking import Key, Observations, Table

MAX_DRAWS = 20_000
Draw = Callable[[np.random.Generator, int], Array]
"""Draws the errors (draws, k) of the means of k cells."""


def selection_bias(table: Table[Key], higher_is_better: bool = True) -> float:
    """Return by how much the best mean is expected to be better than its cell truly is.

    It is the mean error of the winner over simulated studies (at most 20,000). Their true means are
    the estimated ones, shrunken to the spread that remains without noise. The errors are normal
    with the moderated variances of the ranking.

    Raises:
        ValueError: the cells cannot be ranked, so the noise is unknown.
    """
    means, errors, _ = _means_and_noise(table, higher_is_better)
    return _mean_excess(means, errors, lambda rng, n: rng.normal(size=(n, len(means))) * errors)


def resampled_bias(table: Table[Key]) -> float:
    """Return the `selection_bias` with resampled residuals of all cells as noise.

    It assumes no distribution, but equal noise in all cells.

    Raises:
        ValueError: as `selection_bias`.
    """
    means, errors, residuals = _means_and_noise(table, higher_is_better=True)
    num_seeds = round(len(residuals) / len(means))

    def draw(rng: np.random.Generator, n: int) -> Array:
        return np.asarray(rng.choice(residuals, (n, len(means), num_seeds)).mean(axis=2))

    return _mean_excess(means, errors, draw)


def _means_and_noise(table: Table[Key], higher_is_better: bool) -> tuple[Array, Array, Array]:
    """Return means and their standard errors (k,), and residuals of the noise's variance (N,)."""
    data, _ = Observations.of(table)
    if reason := data.why_not_rankable():
        raise ValueError(reason)
    model = paired_model(data.design)
    means, residuals = model.fit(data.values[None])
    errors = np.sqrt(model.variances(residuals, "moderated")[0] / model.cells.count)
    return means[0] if higher_is_better else -means[0], errors, model.enlarged(residuals)[0]


def _mean_excess(means: Array, errors: Array, draw: Draw) -> float:
    """Return the mean error of the cell with the best mean, over simulated studies."""
    truth, num_draws = shrunken(means, errors), min(MAX_DRAWS, max(1, CHUNK_VALUES // len(means)))
    noise = draw(np.random.default_rng(0), num_draws)
    best = (truth + noise).argmax(axis=1)
    return max(0.0, float(noise[np.arange(num_draws), best].mean()))


def shrunken(means: Array, errors: Array) -> Array:
    """Return the means (k,) with the spread that remains without their errors (k,).

    This is James and Stein's estimate (1961): the spread of the estimated means is that of the true
    ones and the noise, so simulations from them would spread too widely and show too small a bias.
    """
    k, center = len(means), means.mean()
    spread = float(((means - center) ** 2).sum())
    noise = max(0, k - 3) * float((errors**2).mean())
    return np.asarray(center + (means - center) * (max(0.0, 1 - noise / spread) if spread else 0.0))
