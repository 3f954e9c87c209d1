"""Agreement of two rankings of the same cells, without the noise of their seeds."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DRAWS = 1999
"""Permutations of the cells behind a p-value."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of the order of cells by cheap and by full trainings, over several seeds.

    ``tau`` is Kendall's tau between the two orders without noise; None where the seeds of one of
    them do not agree at all. ``measured_tau`` is that between single trainings. A reliability is
    the correlation of two trainings of the same length. ``p_value`` tests "no agreement".
    """

    tau: float | None
    measured_tau: float
    cheap_reliability: float
    full_reliability: float
    p_value: float
    num_cells: int
    num_seeds: int


def agreement(cheap: Array, full: Array) -> Agreement:
    """Return the agreement of scores (seeds, cells); row i of both has the same seed.

    The correlation is corrected for attenuation (Spearman 1904): that of a cheap and a full
    training, divided by the root of the product of their reliabilities. All three are averaged
    over pairs of different seeds, so the noise that a short and a full training of one seed share
    drops out. They are taken from normal scores of the ranks, so that one bad cell does not decide,
    and tau = 2 asin(correlation) / pi (Kruskal 1958). The p-value permutes the cells of one
    ranking; it is one-sided. Measured: ``python -m archsearch.benchmarks.gate``.

    Raises:
        ValueError: the shapes differ, a score is not finite, there are fewer than two seeds or
            three cells, or all cells of a training have the same score.
    """
    _check(cheap, full)
    x, y = normal_scores(cheap), normal_scores(full)
    between, reliabilities = _over_seeds(x, y), (_reliability(x), _reliability(y))
    correlation = float(np.trace(between)) / math.sqrt(_size_of(x) * _size_of(y))
    return Agreement(
        _corrected_tau(correlation, *reliabilities),
        _tau(correlation),
        *reliabilities,
        _p_value(between),
        cheap.shape[1],
        len(cheap),
    )


def _check(cheap: Array, full: Array) -> None:
    if cheap.shape != full.shape or cheap.ndim != 2 or cheap.shape[0] < 2 or cheap.shape[1] < 3:
        raise ValueError(
            "agreement needs the scores of two or more seeds of three or more cells, by short and "
            f"by full trainings; got {_shape(cheap)} and {_shape(full)}"
        )
    if not (np.isfinite(cheap).all() and np.isfinite(full).all()):
        raise ValueError("agreement needs finite scores, got one that is not a finite number")
    if not (np.ptp(cheap, axis=1).all() and np.ptp(full, axis=1).all()):
        raise ValueError("all cells of a seed have the same score, so there is no order")


def _shape(values: Array) -> str:
    return " by ".join(map(str, values.shape))


def normal_scores(values: Array) -> Array:
    """Return the normal quantile of each cell's rank in its row (van der Waerden 1952), centered.

    Values and result are (seeds, cells); equal values share their mean rank.
    """
    from scipy.special import ndtri

    num_cells = values.shape[1]
    signs = np.sign(values[:, :, None] - values[:, None, :]).sum(2)
    scores = ndtri((signs + num_cells + 1) / 2 / (num_cells + 1))
    return np.asarray(scores - scores.mean(1, keepdims=True))


def _over_seeds(x: Array, y: Array) -> Array:
    """Return the mean product over pairs of different seeds: scores (seeds, cells) -> (cells of x,
    cells of y). Its trace is a sum of covariances without the noise within a seed."""
    num_seeds = len(x)
    all_pairs = np.outer(x.sum(0), y.sum(0))
    return np.asarray((all_pairs - x.T @ y) / (num_seeds * (num_seeds - 1)))


def reliability(values: Array) -> float:
    """Return the correlation of two trainings with different seeds, from scores (seeds, cells)."""
    return _reliability(normal_scores(values))


def _reliability(x: Array) -> float:
    return float(np.trace(_over_seeds(x, x))) / _size_of(x)


def _size_of(x: Array) -> float:
    """Return the mean sum of squares of a row."""
    return float((x**2).sum(1).mean())


def _corrected_tau(correlation: float, cheap: float, full: float) -> float | None:
    if cheap <= 0 or full <= 0:
        return None
    return _tau(correlation / math.sqrt(cheap * full))


def _tau(correlation: float) -> float:
    return 2 / math.pi * math.asin(min(1.0, max(-1.0, correlation)))


def _p_value(between: Array) -> float:
    """Return how often a permutation of the cells agrees as well as the observed order."""
    num_cells = len(between)
    permuted = between[_permutations(num_cells), np.arange(num_cells)].sum(1)
    num_as_large = int((permuted >= np.trace(between) - 1e-12).sum())
    return (1 + num_as_large) / (DRAWS + 1)


@lru_cache(maxsize=8)
def _permutations(num_cells: int) -> NDArray[np.int64]:
    rows = np.tile(np.arange(num_cells), (DRAWS, 1))
    return np.random.default_rng(0).permuted(rows, axis=1)
