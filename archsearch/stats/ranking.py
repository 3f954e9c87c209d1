"""Ranking: the best cell and the cells statistically tied with it.

Noise model: value[cell, seed] = mean[cell] + effect[seed] + noise. The effect of a seed (order of
the data, split) is shared by all cells, so cells are compared on the same seeds. The noise is
normal; its standard deviation differs between cells.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Key = TypeVar("Key", bound=Hashable)
Design = tuple[bytes, bytes]
"""Indices of the cell and of the seed of each value, int64 as bytes."""
Variance = Literal["moderated", "pooled"]
Table = Mapping[Key, Mapping[int, float | None]]
"""cell -> seed -> value. None or NaN: trained without a value; an absent seed was not trained."""

PRIOR_DEGREES_OF_FREEDOM = 2.5
"""How much the noise is assumed to differ between cells: variances follow an inverse chi-square
with this many degrees of freedom, so that standard deviations differ about sixfold between the 5th
and the 95th percentile. Two to five seeds cannot measure this, so it is assumed, and conservatively
large: with a prior that is estimated from the cells (limma), or with a pooled variance, a best cell
that is three times as noisy as the others is lost in 15 or 20% of studies instead of 5%.
`python -m archsearch.benchmarks.ranking` measures this."""


@dataclass(frozen=True)
class Ranking(Generic[Key]):
    """The best cell and the cells statistically tied with it.

        ``best`` has the highest estimated mean; ``tied`` holds it and every cell that is not
        significantly worse, best first. ``means`` are adjusted for the seeds that a cell lacks.
    XX    is missing or assumed.
    """

    can_rank: bool
    reason: str
    best: Key | None
    tied: tuple[Key, ...]
    means: Mapping[Key, float]
    p_values: Mapping[Key, float]
    level: float
    seeds: tuple[int, ...]
    notes: tuple[str, ...] = ()


def tied_with_best(
    table: Table[Key],
    level: float = 0.95,
    higher_is_better: bool = True,
    variance: Variance = "moderated",
    draws: int = 4000,
) -> Ranking[Key]:
    """Return the best cell and the cells statistically tied with it.

    These are multiple comparisons with the best (Hsu 1981): for each cell a one-sided test of "no
    other cell is better", by the largest t of another cell over this one; a cell whose test rejects
    is not tied. With probability ``level`` the truly best cell is in ``tied``, however many cells
    are compared; if several cells are exactly equal, this holds for each of them. The null
    distribution is that of the cell if all cells are equal, the least favorable case. It is
    simulated for these cells and seeds, missing values included.

    ``variance`` is the noise variance that differences are divided by: ``moderated`` combines each
    cell's own variance with the average (see `PRIOR_DEGREES_OF_FREEDOM`); ``pooled`` assumes equal
    noise in all cells, which is exact if that holds and anti-conservative if not.

    Measured coverage of one given cell, all 30 cells equal (`python -m
    archsearch.benchmarks.ranking`, 2,000 studies, standard error 0.5 percentage points): 94 to 99%
    for 2 to 10 seeds with equal, lognormal, skewed and heavy-tailed noise. The weakest case is a
    cell that is noisier than the others: 92 to 96% at three times their noise and, at six times,
    86% with two seeds and 92 to 97% with three to ten.

    Raises:
        ValueError: the level is outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"a level must be between 0 and 1 (0.95 for 95%), got {level}")
    sign = 1.0 if higher_is_better else -1.0
    data, notes = _Observations.of(table)
    means = dict(zip(data.keys, data.means().tolist(), strict=True))
    # Equal means differ in their last digits by the linear algebra library: keep the table's order.
    order = tuple(sorted(means, key=lambda key: -sign * float(f"{means[key]:.10g}")))
    result = Ranking(
        False, data.why_not_rankable(), order[0] if order else None, order, means, {}, level,
        data.seed_names, notes,
    )  # fmt: skip
    if result.reason:
        return result
    observed = statistic(least_squares(data.design), sign * data.values[None], variance)[0]
    p = _p_values(observed, data.design, variance, draws)
    p_values = dict(zip(data.keys, p.tolist(), strict=True))
    tied = tuple(key for key in order if key == result.best or p_values[key] > 1 - level)
    return replace(result, can_rank=True, tied=tied, p_values=p_values)


@dataclass(frozen=True)
class _Observations(Generic[Key]):
    """The values as one vector (N,), and the indices of the cell and the seed of each value."""

    keys: tuple[Key, ...]
    seed_names: tuple[int, ...]
    values: Array
    cell: Index
    seed: Index

    @classmethod
    def of(cls, table: Table[Key]) -> "tuple[_Observations[Key], tuple[str, ...]]":
        """Return the largest part of the table whose cells are linked by shared seeds, and notes
        on missing values."""
        finite = {
            key: {s: float(v) for s, v in row.items() if v is not None and np.isfinite(v)}
            for key, row in table.items()
        }
        keys = _largest_linked_group({key: set(row) for key, row in finite.items() if row})
        seeds = tuple(sorted({s for key in keys for s in finite[key]}))
        rows = [
            (finite[key][seed], i, j)
            for i, key in enumerate(keys)
            for j, seed in enumerate(seeds)
            if seed in finite[key]
        ]
        values, cell, seed = zip(*rows, strict=True) if rows else ((), (), ())
        observations = cls(
            keys, seeds, np.array(values, float), np.array(cell, np.int64), np.array(seed, np.int64)
        )
        return observations, _notes_on_missing(finite, keys, seeds)

    @property
    def design(self) -> "Design":
        return self.cell.tobytes(), self.seed.tobytes()

    def means(self) -> Array:
        """Return the estimated mean of every cell (k,), adjusted for missing seeds."""
        return np.asarray(self.values @ least_squares(self.design).to_means.T)

    def why_not_rankable(self) -> str:
        """Return the reason why these values cannot rank the cells; empty if they can."""
        if len(self.keys) < 2:
            return f"cannot rank: two cells with values are needed, got {len(self.keys)}"
        model = least_squares(self.design)
        if model.degrees_of_freedom.sum() < 0.5:
            return (
                "cannot rank: with one seed per cell, differences between cells and the noise of "
                "training cannot be separated; run at least two seeds"
            )
        noise = np.abs(self.values @ model.to_residuals).max()
        if noise <= 1e-9 * np.abs(self.values).max():
            return "cannot rank: all seeds give the same values, so the noise is unknown"
        return ""


def _largest_linked_group(seeds_of: Mapping[Key, set[int]]) -> tuple[Key, ...]:
    """Return the largest group of cells that shared seeds make comparable, in table order."""
    groups: list[tuple[set[Key], set[int]]] = []
    for key, seeds in seeds_of.items():
        joined = [group for group in groups if group[1] & seeds]
        groups = [group for group in groups if not group[1] & seeds]
        cells = {key}.union(*(group[0] for group in joined))
        groups.append((cells, seeds.union(*(group[1] for group in joined))))
    largest = max(groups, key=lambda group: len(group[0]), default=(set(), set()))[0]
    return tuple(key for key in seeds_of if key in largest)


def _notes_on_missing(
    finite: Mapping[Key, Mapping[int, float]], keys: Sequence[Key], seeds: Sequence[int]
) -> tuple[str, ...]:
    empty = [key for key, row in finite.items() if not row]
    unlinked = [key for key, row in finite.items() if row and key not in keys]
    incomplete = [key for key in keys if len(finite[key]) < len(seeds)]
    notes = [f"{key}: no value, not ranked" for key in empty]
    notes += [f"{key}: shares no seed with the others, not ranked" for key in unlinked]
    notes += [f"{k}: {len(finite[k])} of {len(seeds)} seeds have a value" for k in incomplete]
    return tuple(notes)


@dataclass(frozen=True)
class LeastSquares:
    """Least squares of value = mean[cell] + effect[seed], for one pattern of cells and seeds.

    ``to_means`` (k, N) maps N values to k cell means, ``to_residuals`` (N, N) to residuals.
    ``degrees_of_freedom`` (k,) are those of each cell's residuals. ``is_of_cell`` (N, k) is 1 where
    a value belongs to a cell, and ``count`` (k,) the number of values of each cell. A design is
    balanced if every cell has a value for every seed.
    """

    to_means: Array
    to_residuals: Array
    degrees_of_freedom: Array
    is_of_cell: Array
    count: Array
    is_balanced: bool


def balanced_design(cells: int, seeds: int) -> Design:
    """Return the design in which every cell has every seed."""
    cell, seed = np.repeat(np.arange(cells), seeds), np.tile(np.arange(seeds), cells)
    return cell.astype(np.int64).tobytes(), seed.astype(np.int64).tobytes()


@lru_cache(maxsize=16)
def least_squares(design: Design) -> LeastSquares:
    cell, seed = (np.frombuffer(part, dtype=np.int64) for part in design)
    is_of_cell: Array = np.eye(cell.max(initial=-1) + 1)[cell]
    is_of_seed: Array = np.eye(seed.max(initial=-1) + 1)[seed]
    k = is_of_cell.shape[1]
    effects = is_of_seed[:, :-1] - is_of_seed[:, -1:]  # seed effects sum to zero
    x = np.hstack([is_of_cell, effects])
    inverse: Array = np.asarray(np.linalg.pinv(x), dtype=np.float64)
    to_residuals = np.eye(len(cell)) - x @ inverse
    freedom = np.diag(to_residuals) @ is_of_cell
    balanced = len(cell) == k * is_of_seed.shape[1]
    count = is_of_cell.sum(0)
    return LeastSquares(inverse[:k], to_residuals, freedom, is_of_cell, count, balanced)


def statistic(model: LeastSquares, values: Array, variance: Variance) -> Array:
    """Return the largest t by which another cell is better than each cell: (R, N) -> (R, k)."""
    squares = (values @ model.to_residuals) ** 2 @ model.is_of_cell
    pooled = squares.sum(1, keepdims=True) / model.degrees_of_freedom.sum()
    v = np.broadcast_to(pooled, squares.shape)
    if variance == "moderated":
        prior = PRIOR_DEGREES_OF_FREEDOM
        v = (prior * pooled + squares) / (prior + model.degrees_of_freedom)
    mean, v = values @ model.to_means.T, v / model.count
    se = np.sqrt(v[:, :, None] + v[:, None, :])
    return np.asarray(((mean[:, None, :] - mean[:, :, None]) / se).max(2))


def _p_values(observed: Array, design: Design, variance: Variance, draws: int) -> Array:
    """Return the share of each cell's null values that reach its statistic (k,).

    A moderated variance may come from equal or from unequal noise: the larger share counts.
    """
    nulls = [_null_distribution(design, variance, False, draws)]
    if variance == "moderated":
        nulls.append(_null_distribution(design, variance, True, draws))
    return np.asarray(np.max([_share_reached(observed, null) for null in nulls], axis=0))


def _share_reached(observed: Array, null: Array) -> Array:
    rows = np.broadcast_to(null, (len(observed), null.shape[1]))
    below = [np.searchsorted(row, x) for row, x in zip(rows, observed, strict=True)]
    return np.asarray(1 - np.array(below) / (null.shape[1] + 1))


@lru_cache(maxsize=16)
def _null_distribution(design: Design, variance: Variance, unequal: bool, draws: int) -> Array:
    """Return the statistics of cells that are all equally good: (k, draws), each row sorted.

    In a balanced design all cells have one distribution: their draws are pooled, (1, k * draws).
    """
    null = simulate_null(design, variance, unequal, draws)
    is_balanced = least_squares(design).is_balanced
    return np.sort(null.reshape(1, -1) if is_balanced else null.T, axis=1)


def simulate_null(design: Design, variance: Variance, unequal: bool, draws: int) -> Array:
    """Simulate the statistic of cells that are all equally good: (draws, k), cells jointly.

    ``unequal`` draws each cell's noise variance from the prior; otherwise all are equal.
    """
    model = least_squares(design)
    rng = np.random.default_rng(0)
    size, k = model.is_of_cell.shape
    prior = PRIOR_DEGREES_OF_FREEDOM
    sd = np.sqrt(prior / rng.chisquare(prior, (draws, k))) if unequal else np.ones((draws, k))
    noise = rng.normal(size=(draws, size)) * (sd @ model.is_of_cell.T)
    step = max(1, 4_000_000 // k**2)  # limits memory to about 100 MB
    parts = [statistic(model, noise[i : i + step], variance) for i in range(0, draws, step)]
    return np.concatenate(parts)


def step_down(observed: Array, null: Array) -> Array:
    """Return step-down adjusted p-values (k,) of (k,) statistics and their (draws, k) null values.

    The largest statistic is tested against the maximum over all cells, each next one against the
    maximum over the cells that remain.
    """
    order = np.argsort(-observed, kind="stable")
    greatest = np.maximum.accumulate(null[:, order[::-1]], axis=1)[:, ::-1]
    p = (1 + (greatest >= observed[order]).sum(0)) / (len(null) + 1)
    result = np.empty(len(observed))
    result[order] = np.maximum.accumulate(p)
    return result
