"""Ranking: the best cell and the cells statistically tied with it.

Noise model: value[cell, seed] = mean[cell] + effect[seed] + noise. The effect of a seed (order of
the data, split) is shared by all cells, so cells are compared on the same seeds. The noise is
normal; its standard deviation differs between cells.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np

from archsearch.stats.paired_model import (
    Array,
    Design,
    Index,
    Variance,
    p_values_of_best,
    paired_model,
)

Key = TypeVar("Key", bound=Hashable)
Table = Mapping[Key, Mapping[int, float | None]]
"""cell -> seed -> value. None or NaN: trained without a value; an absent seed was not trained."""


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

    @cached_property
    def tied_set(self) -> frozenset[Key]:
        """The cells of ``tied``, for a fast test of membership."""
        return frozenset(self.tied)


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
    cell's own variance with the average (see `paired_model.PRIOR_DEGREES_OF_FREEDOM`); ``pooled``
    assumes equal noise in all cells, which is exact if that holds and anti-conservative if not.

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
    model = paired_model(data.design)
    observed = model.statistic(sign * data.values[None], variance)[0]
    p = p_values_of_best(data.design, observed, variance, draws)
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
    def design(self) -> Design:
        return self.cell.tobytes(), self.seed.tobytes()

    def means(self) -> Array:
        """Return the estimated mean of every cell (k,), adjusted for missing seeds."""
        if not self.keys:
            return np.empty(0)
        means, _ = paired_model(self.design).fit(self.values[None])
        return np.asarray(means[0])

    def why_not_rankable(self) -> str:
        """Return the reason why these values cannot rank the cells; empty if they can."""
        if len(self.keys) < 2:
            return f"cannot rank: two cells with values are needed, got {len(self.keys)}"
        model = paired_model(self.design)
        if model.degrees_of_freedom.sum() < 0.5:
            return (
                "cannot rank: with one seed per cell, differences between cells and the noise of "
                "training cannot be separated; run at least two seeds"
            )
        noise = np.abs(model.fit(self.values[None])[1]).max()
        if noise <= 1e-9 * np.abs(self.values).max():
            return "cannot rank: all seeds give the same values, so the noise is unknown"
        return ""


def _largest_linked_group(seeds_of: Mapping[Key, set[int]]) -> tuple[Key, ...]:
    """Return the largest group of cells that shared seeds make comparable, in table order."""
    keys_of: dict[int, list[Key]] = {}
    for key, seeds in seeds_of.items():
        for seed in seeds:
            keys_of.setdefault(seed, []).append(key)
    groups: list[list[Key]] = []
    while keys_of:
        groups.append(_take_linked({next(iter(keys_of))}, keys_of, seeds_of))
    position = {key: i for i, key in enumerate(seeds_of)}
    largest: list[Key] = []
    # Of equally large groups the one whose last cell comes first.
    for group in sorted(groups, key=lambda cells: max(map(position.__getitem__, cells))):
        largest = group if len(group) > len(largest) else largest
    return tuple(sorted(largest, key=position.__getitem__))


def _take_linked(
    seeds: set[int], keys_of: dict[int, list[Key]], seeds_of: Mapping[Key, set[int]]
) -> list[Key]:
    """Return the cells that are linked to these seeds; all their seeds leave ``keys_of``."""
    linked: dict[Key, None] = {}
    while seeds:
        new = dict.fromkeys(key for seed in seeds for key in keys_of.pop(seed) if key not in linked)
        linked |= new
        seeds = {seed for key in new for seed in seeds_of[key] if seed in keys_of}
    return list(linked)


def _notes_on_missing(
    finite: Mapping[Key, Mapping[int, float]], keys: Sequence[Key], seeds: Sequence[int]
) -> tuple[str, ...]:
    linked = set(keys)
    empty = [key for key, row in finite.items() if not row]
    unlinked = [key for key, row in finite.items() if row and key not in linked]
    incomplete = [key for key in keys if len(finite[key]) < len(seeds)]
    notes = [f"{key}: no value, not ranked" for key in empty]
    notes += [f"{key}: shares no seed with the others, not ranked" for key in unlinked]
    notes += [f"{k}: {len(finite[k])} of {len(seeds)} seeds have a value" for k in incomplete]
    return tuple(notes)
