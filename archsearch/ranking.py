"""Which cells cannot be told from the best, and which of them deserve another seed.

Noise model: value[cell, seed] = mean[cell] + effect[seed] + noise, the seed's effect shared by
all cells (same data order and split, so seeds are paired), the noise normal with a variance of
its own per cell.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)
Variance = Literal["moderated", "pooled"]
Table = Mapping[Key, Mapping[int, float | None]]
"""cell -> seed -> value; None (or NaN) is a trial that failed, a missing seed was not tried."""


@dataclass(frozen=True)
class Ranking(Generic[Key]):
    """Who is best and who cannot be told from it.

    ``best`` has the highest estimated mean. ``tied`` holds it and every cell not shown to be
    worse, best first. ``means`` are adjusted for seeds a cell lacks. ``p_values`` are family-wise
    adjusted: small where a cell is shown not to be the best. Where ``can_rank`` is False,
    ``reason`` says why in words, and ``tied`` holds every cell that has a value. ``notes`` tells
    what was missing and what was assumed.
    """

    can_rank: bool
    reason: str
    best: Key | None
    tied: tuple[Key, ...]
    means: Mapping[Key, float]
    p_values: Mapping[Key, float]
    level: float
    seeds: tuple[int, ...]
    notes: tuple[str, ...] = field(default_factory=tuple)


@dataclass(frozen=True)
class SeedPlan(Generic[Key]):
    """Which cells need which seed next; ``done`` with the ``reason`` when none does.

    ``ranking`` is the one to report: its level pays for having looked more than once.
    """

    cells: tuple[Key, ...]
    seed: int | None
    done: bool
    reason: str
    ranking: Ranking[Key]


def tied_with_best(
    table: Table[Key],
    level: float = 0.95,
    higher_is_better: bool = True,
    variance: Variance = "moderated",
    draws: int = 4000,
) -> Ranking[Key]:
    """The cells that cannot be told from the best.

    With probability ``level`` every truly best cell is in ``tied`` (family-wise over all cells).
    """
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1 (0.95 for 95%), got {level}")
    layout = _Layout.of(table)
    sign = 1.0 if higher_is_better else -1.0
    means = dict(zip(layout.keys, layout.estimates().tolist(), strict=True))
    order = tuple(sorted(means, key=lambda key: -sign * means[key]))
    best = order[0] if order else None
    seeds = layout.seed_names
    if reason := layout.why_not():
        return Ranking(False, reason, best, order, means, {}, level, seeds, layout.notes)
    p_values = dict(zip(layout.keys, _p_values(layout, sign, variance, draws), strict=True))
    tied = tuple(key for key in order if key == best or p_values[key] > 1 - level)
    return Ranking(True, "", best, tied, means, p_values, level, seeds, layout.notes)


def next_seeds(
    table: Table[Key],
    max_seeds: int = 5,
    level: float = 0.95,
    higher_is_better: bool = True,
) -> SeedPlan[Key]:
    """Which cells need another seed: the tied ones, until the tie breaks or seeds end."""
    ranking = tied_with_best(table, level, higher_is_better)
    tried = {key: len(table[key]) for key in ranking.tied}
    fewest = min(tried.values(), default=0)
    if ranking.can_rank and len(ranking.tied) == 1:
        return SeedPlan((), None, True, "one cell is left", ranking)
    if fewest >= max_seeds or not tried:
        return SeedPlan((), None, True, f"still tied after {fewest} seeds", ranking)
    cells = tuple(key for key in ranking.tied if tried[key] == fewest)
    return SeedPlan(cells, fewest, False, "", ranking)


@dataclass(frozen=True)
class _Layout(Generic[Key]):
    """The observed values as one vector, and which cell and seed each belongs to."""

    keys: tuple[Key, ...]
    seed_names: tuple[int, ...]
    values: Array
    cell: NDArray[np.int64]
    seed: NDArray[np.int64]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, table: Table[Key]) -> "_Layout[Key]":
        seen = {
            key: {s: float(v) for s, v in row.items() if v is not None and np.isfinite(v)}
            for key, row in table.items()
        }
        keys = tuple(key for key, row in seen.items() if row)
        seeds = tuple(sorted({s for row in seen.values() for s in row}))
        rows = [(v, i, seeds.index(s)) for i, k in enumerate(keys) for s, v in seen[k].items()]
        values, cell, seed = zip(*rows, strict=True) if rows else ((), (), ())
        notes = [f"{key}: no value, left out of the ranking" for key in table if not seen[key]]
        notes += [
            f"{key}: {len(seen[key])} of {len(seeds)} seeds"
            for key in keys
            if len(seen[key]) < len(seeds)
        ]
        return cls(
            keys,
            seeds,
            np.array(values, dtype=float),
            np.array(cell, dtype=np.int64),
            np.array(seed, dtype=np.int64),
            tuple(notes),
        )

    def design(self) -> Array:
        """One column per cell, one per seed but the last; seed columns sum to zero."""
        k, n = len(self.keys), len(self.seed_names)
        x = np.zeros((len(self.values), k + n - 1))
        x[np.arange(len(x)), self.cell] = 1.0
        effects = np.vstack([np.eye(n - 1), -np.ones(n - 1)])
        x[:, k:] = effects[self.seed]
        return x

    def estimates(self) -> Array:
        """Least-squares cell means, adjusted for the seeds a cell lacks."""
        if not len(self.values):
            return np.zeros(0)
        coefficients = np.linalg.pinv(self.design())[: len(self.keys)] @ self.values
        return np.asarray(coefficients)

    def why_not(self) -> str:
        k, n = len(self.keys), len(self.seed_names)
        if k < 2:
            return f"cannot rank: {k} cell(s) with a value, two are needed"
        if n < 2 or len(self.values) <= k + n - 1:
            return "cannot rank: one seed per cell shows no difference beyond the noise of training"
        return ""


def _p_values(layout: _Layout[Key], sign: float, variance: Variance, draws: int) -> list[float]:
    """Step-down max-t (Westfall and Young 1993) of 'this cell is the best', by simulation."""
    x = layout.design()
    k, n_cells = len(layout.keys), np.bincount(layout.cell, minlength=len(layout.keys))
    inverse = np.linalg.pinv(x)
    mean_of, hat = sign * inverse[:k], x @ inverse
    residual = np.eye(len(x)) - hat
    freedom = np.bincount(layout.cell, weights=np.diag(residual), minlength=k)
    cell_of = np.eye(k)[layout.cell]
    gram = mean_of @ mean_of.T
    d = np.diag(gram)
    weight = (d[:, None] + d - 2 * gram) / (1 / n_cells[:, None] + 1 / n_cells)

    def statistic(y: Array) -> Array:
        squares = (y @ residual) ** 2 @ cell_of
        v = np.broadcast_to(squares.sum(1, keepdims=True) / freedom.sum(), squares.shape)
        mu = y @ mean_of.T
        se2 = (v / n_cells)[:, :, None] + (v / n_cells)[:, None, :]
        return np.asarray(((mu[:, None, :] - mu[:, :, None]) / np.sqrt(se2 * weight)).max(2))

    noise = np.random.default_rng(0).normal(size=(draws, len(x)))
    seen, null = statistic(layout.values[None])[0], statistic(noise)
    order = np.argsort(-seen)
    highest = np.maximum.accumulate(null[:, order[::-1]], axis=1)[:, ::-1]
    p = (1 + (highest >= seen[order]).sum(0)) / (draws + 1)
    result = np.empty(k)
    result[order] = np.maximum.accumulate(p)
    return [float(v) for v in result]
