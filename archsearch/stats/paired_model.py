"""The noise model of a ranking: least squares, the max-t statistic and its null distribution.

value[cell, seed] = mean[cell] + effect[seed] + noise. Time and memory grow with the number of
values times the smaller number of cells and seeds, not with pairs of cells.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Variance = Literal["moderated", "pooled"]
Design = tuple[bytes, bytes]
"""The indices of the cell and of the seed of each value, as bytes."""

PRIOR_DEGREES_OF_FREEDOM = 2.5
"""How much the noise is assumed to differ between cells: variances follow an inverse chi-square
with this many degrees of freedom, so that standard deviations differ about sixfold between the 5th
and the 95th percentile. Two to five seeds cannot measure this, so it is assumed, and conservatively
large: with a pooled variance instead, a best cell that is three times as noisy as the others is
lost in 20% of studies of 30 cells, instead of 7% (`python -m archsearch.benchmarks.ranking`)."""

ENOUGH_DRAWS = 400_000
"""Simulated statistics of a balanced design, whose cells have one distribution; at most."""

CHUNK_VALUES = 1_000_000
"""Simulated values that are in memory at a time, about 8 MB per array."""

MANY_CELLS = 250
"""Null distributions of more cells that lack seeds are large, so none is kept."""


@dataclass(frozen=True)
class Groups:
    """The group of each of N values: its index (N,), and the number of values per group (G,).

    ``order`` (N,) sorts the values by group, ``starts`` (G,) is where each group starts then.
    """

    index: Index
    count: Index
    order: Index
    starts: Index

    @classmethod
    def of(cls, index: Index) -> "Groups":
        count = np.bincount(index).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.int64)
        return cls(index, count, np.argsort(index, kind="stable"), starts)

    def sums(self, values: Array) -> Array:
        """Return the sum of each group: (R, N) -> (R, G)."""
        return np.asarray(np.add.reduceat(values[:, self.order], self.starts, axis=1))

    def centered(self, values: Array) -> Array:
        """Return the values minus the mean of their group: (R, N) -> (R, N)."""
        return values - self.means(values)[:, self.index]

    def means(self, values: Array) -> Array:
        """Return the mean of each group: (R, N) -> (R, G)."""
        return self.sums(values) / self.count


@dataclass(frozen=True)
class PairedModel:
    """Least squares of value = mean[cell] + effect[seed], for one pattern of cells and seeds.

    The factor with more levels is eliminated, by centering; ``solve`` (N, m - 1) maps centered
    values to the effects of the other one's m levels, which sum to zero. ``degrees_of_freedom``
    (k,) are those of each cell's residuals.
    """

    cells: Groups
    many: Groups
    few: Groups
    solve: Array
    degrees_of_freedom: Array

    @classmethod
    def of(cls, design: Design) -> "PairedModel":
        cells, seeds = (Groups.of(np.frombuffer(part, dtype=np.int64)) for part in design)
        many, few = (cells, seeds) if len(cells.count) >= len(seeds.count) else (seeds, cells)
        is_of = np.eye(len(few.count))[few.index]
        effects = many.centered((is_of[:, :-1] - is_of[:, -1:]).T)
        solve = np.asarray(np.linalg.pinv(effects))
        leverage = 1 / many.count[many.index] + (effects.T * solve).sum(1)
        freedom = cells.sums(1 - leverage[None])[0]
        return cls(cells, many, few, solve, freedom)

    def fit(self, values: Array) -> tuple[Array, Array]:
        """Return the means of the cells (R, k) and the residuals (R, N) of values (R, N).

        The effects of the seeds sum to zero.
        """
        free = self.many.centered(values) @ self.solve
        few = np.hstack([free, -free.sum(1, keepdims=True)])
        rest = values - few[:, self.few.index]
        many = self.many.means(rest)
        means = many if self.many is self.cells else few + many.mean(1, keepdims=True)
        return means, rest - many[:, self.many.index]

    def variances(self, residuals: Array, variance: Variance) -> Array:
        """Return the noise variance of each cell from residuals (R, N): (R, k)."""
        squares = self.cells.sums(residuals**2)
        pooled = squares.sum(1, keepdims=True) / self.degrees_of_freedom.sum()
        if variance == "pooled":
            return np.broadcast_to(pooled, squares.shape)
        return moderated_variance(squares, self.degrees_of_freedom, pooled)

    def enlarged(self, residuals: Array) -> Array:
        """Return residuals (R, N) with the variance of the noise: least squares makes them smaller.

        A model whose residuals have no degrees of freedom has none to enlarge.
        """
        freedom = self.degrees_of_freedom.sum()
        return np.asarray(residuals * np.sqrt(residuals.shape[1] / freedom))

    @property
    def is_balanced(self) -> bool:
        """Whether every cell has a value for every seed."""
        return len(self.cells.index) == len(self.many.count) * len(self.few.count)

    def statistic(self, values: Array, variance: Variance) -> Array:
        """Return the largest t by which another cell is better than each cell: (R, N) -> (R, k)."""
        means, residuals = self.fit(values)
        v = self.variances(residuals, variance)
        return greatest_t(means, v / self.cells.count)


def moderated_variance(
    squares: Array | float, degrees_of_freedom: Array | float, pooled: Array | float
) -> Array:
    """Return variances of cells: their own sums of squares combined with the average variance.

    The average counts as `PRIOR_DEGREES_OF_FREEDOM`.
    """
    prior = PRIOR_DEGREES_OF_FREEDOM
    return np.asarray((prior * pooled + squares) / (prior + degrees_of_freedom))


def greatest_t(means: Array, variances: Array) -> Array:
    """Return max over j of (mean[j] - mean[i]) / sqrt(variance[j] + variance[i]): (R, k) -> (R, k).

    A cell j with a lower mean and a higher variance than another never gives the maximum, so only
    the others are compared: about log(k) of k cells.
    """
    order = np.argsort(-means, axis=1, kind="stable")
    sorted_variances = np.take_along_axis(variances, order, axis=1)
    lowest = np.minimum.accumulate(sorted_variances, axis=1)
    dominated = np.zeros(means.shape, dtype=bool)
    dominated[:, 1:] = sorted_variances[:, 1:] >= lowest[:, :-1]
    most = int((~dominated).sum(1).max())
    positions = np.argsort(dominated, axis=1, kind="stable")[:, :most]
    greatest = np.zeros(means.shape)  # a cell compared with itself
    for candidate in np.take_along_axis(order, positions, axis=1).T[:, :, None]:
        mean, variance = (np.take_along_axis(x, candidate, axis=1) for x in (means, variances))
        np.maximum(greatest, (mean - means) / np.sqrt(variance + variances), out=greatest)
    return greatest


def design_of(cells: Iterable[Hashable], seeds: Iterable[Hashable]) -> Design:
    """Return the design of values by the cell and the seed of each, numbered as they first come."""
    return _index(cells), _index(seeds)


def _index(names: Iterable[Hashable]) -> bytes:
    listed = list(names)
    positions = {name: i for i, name in enumerate(dict.fromkeys(listed))}
    return np.array([positions[name] for name in listed], dtype=np.int64).tobytes()


def balanced_design(cells: int, seeds: int) -> Design:
    """Return the design in which every cell has every seed."""
    cell, seed = np.repeat(np.arange(cells), seeds), np.tile(np.arange(seeds), cells)
    return cell.astype(np.int64).tobytes(), seed.astype(np.int64).tobytes()


@lru_cache(maxsize=16)
def paired_model(design: Design) -> PairedModel:
    """Return the least squares of a pattern of cells and seeds."""
    return PairedModel.of(design)


def p_values_of_best(design: Design, observed: Array, variance: Variance, draws: int) -> Array:
    """Return the p-value (k,) of "no other cell is better" of each cell, by its statistic (k,).

    The null distribution of a cell is that of its statistic if all cells are equally good. A
    moderated variance may come from equal or from unequal noise: the larger p-value counts.
    """
    kinds = (False, True) if variance == "moderated" else (False,)
    shares = [_share_reached(design, observed, variance, unequal, draws) for unequal in kinds]
    return np.asarray(np.max(shares, axis=0))


def _share_reached(
    design: Design, observed: Array, variance: Variance, unequal: bool, draws: int
) -> Array:
    """Return the share of a cell's null values that reach its statistic."""
    k = len(observed)
    if paired_model(design).is_balanced:  # the cells have one distribution
        draws = max(100, min(draws, ENOUGH_DRAWS // k))
        null = _sorted_null(design, variance, unequal, draws)
        return np.asarray(1 - np.searchsorted(null, observed) / (len(null) + 1))
    null = (_null_of_few if k <= MANY_CELLS else simulate_null)(design, variance, unequal, draws)
    reached = sum((null[rows] >= observed).sum(0) for rows in _chunks(*null.shape))
    return np.asarray((1 + reached) / (draws + 1))


def simulate_null(design: Design, variance: Variance, unequal: bool, draws: int) -> Array:
    """Simulate the statistic (draws, k) for cells that are all equally good, cells jointly.

    ``unequal`` draws the noise variance of each cell from the prior; otherwise all are equal.
    """
    model, rng = paired_model(design), np.random.default_rng(0)
    null = null_deviations(rng, draws, len(model.cells.count), unequal)
    for rows, values in null_values(model, null, rng):
        null[rows] = model.statistic(values, variance)
    return null


def null_values(
    model: PairedModel, deviations: Array, rng: np.random.Generator
) -> Iterator[tuple[slice, Array]]:
    """Yield values (rows, N) of equally good cells, for consecutive rows of ``deviations``.

    The deviations (draws, k) of a row may be overwritten once its values are yielded.
    """
    num_values = len(model.cells.index)
    for rows in _chunks(len(deviations), num_values):
        noise = rng.normal(size=(rows.stop - rows.start, num_values))
        yield rows, noise * deviations[rows][:, model.cells.index]


def null_deviations(rng: np.random.Generator, draws: int, cells: int, unequal: bool) -> Array:
    """Return standard deviations (draws, cells): from the prior if ``unequal``, else all 1."""
    return drawn_deviations(rng, draws, cells) if unequal else np.ones((draws, cells))


def drawn_deviations(rng: np.random.Generator, draws: int, cells: int) -> Array:
    """Return standard deviations of the noise of cells (draws, cells), from the prior."""
    values = rng.chisquare(PRIOR_DEGREES_OF_FREEDOM, (draws, cells))
    return np.asarray(np.sqrt(PRIOR_DEGREES_OF_FREEDOM / values, out=values))


@lru_cache(maxsize=16)
def _sorted_null(design: Design, variance: Variance, unequal: bool, draws: int) -> Array:
    return np.sort(simulate_null(design, variance, unequal, draws), axis=None)


_null_of_few = lru_cache(maxsize=16)(simulate_null)


def _chunks(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Yield consecutive rows whose values fit in memory together."""
    step = max(1, CHUNK_VALUES // max(1, num_columns))
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))


def step_down(observed: Array, null: Array) -> Array:
    """Return step-down adjusted p-values (k,) of (k,) statistics and their (draws, k) null values.

    The largest statistic is tested against the maximum over all cells, each next one against the
    maximum over the cells that remain.
    """
    order = np.argsort(-observed, kind="stable")
    num_greater = np.zeros(len(observed), dtype=np.int64)
    for rows in _chunks(*null.shape):
        greatest = np.maximum.accumulate(null[rows][:, order[::-1]], axis=1)[:, ::-1]
        num_greater += (greatest >= observed[order]).sum(0)
    result = np.empty(len(observed))
    result[order] = np.maximum.accumulate((1 + num_greater) / (len(null) + 1))
    return result
