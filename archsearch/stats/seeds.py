"""Adaptive seeds: the cells that need another seed (``--seeds auto``).

The rule and the number of its looks are measured by `python -m archsearch.benchmarks.seeds`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Generic

import numpy as np

from archsearch.stats.paired_model import balanced_design, drawn_deviations, paired_model
from archsearch.stats.ranking import Key, Ranking, Table, tied_with_best

FIRST_SEEDS = 3
"""Seeds of every cell before the first look. Two seeds can hardly exclude a cell, and a noisy best
cell that had low values in both would get no more: coverage drops to 84% (6 cells, one of them
three times as noisy as the others)."""

WORTH_A_SEED = 0.1
"""A cell gets another seed while the p-value of "no other cell is better" is above this.

That is a race by upper confidence bounds. A smaller value leaves fewer cells tied and costs more
trainings; a larger one saves trainings and leaves more cells tied, as the benchmark shows."""


@dataclass(frozen=True)
class SeedPlan(Generic[Key]):
    """The trainings (cell, seed) to run next; if there are none, ``reason`` says why.

    ``ranking`` is the one to report, since it is corrected for repeated testing.
    """

    trainings: tuple[tuple[Key, int], ...]
    reason: str
    ranking: Ranking[Key]

    @property
    def done(self) -> bool:
        return not self.trainings


def next_seeds(
    table: Table[Key], max_seeds: int = 5, level: float = 0.95, higher_is_better: bool = True
) -> SeedPlan[Key]:
    """Return the trainings to run next: three seeds for every cell, then one more for each cell
    that may still be the best (see `WORTH_A_SEED`), until one cell is left or those cells have
    ``max_seeds``.

    It depends only on the table, so a resumed study continues as an uninterrupted one. A seed
    without a value (None) is not requested again.
    """
    ranking = rank_repeatedly(table, max_seeds, level, higher_is_better)
    if len(table) < 2:
        return SeedPlan((), "there is nothing to compare", ranking)
    seeds = _seed_order(table, max_seeds)
    counts = dict.fromkeys(table, min(FIRST_SEEDS, max_seeds))
    while True:
        rounds = {key: seeds[:n] for key, n in counts.items()}
        if missing := [(k, s) for k, own in rounds.items() for s in own if s not in table[k]]:
            return SeedPlan(tuple(missing), "", ranking)
        known = {key: {s: table[key][s] for s in own} for key, own in rounds.items()}
        test = rank_repeatedly(known, max_seeds, level, higher_is_better)
        more = [key for key in _worth_a_seed(test, table) if counts[key] < max_seeds]
        if len(more) < 2 or (test.can_rank and len(test.tied) == 1):
            return SeedPlan((), _reason(ranking, max(counts.values())), ranking)
        counts |= {key: counts[key] + 1 for key in more}


def rank_repeatedly(
    table: Table[Key], max_seeds: int, level: float = 0.95, higher_is_better: bool = True
) -> Ranking[Key]:
    """Return `tied_with_best` of a table that is tested again whenever it gets more seeds.

    Each test is at the level of `look_level`, so that the truly best cell stays tied in all of them
    with probability ``level``.
    """
    at = look_level(len(table), max_seeds, level)
    ranking = tied_with_best(table, at, higher_is_better)
    looks = max_seeds - min(FIRST_SEEDS, max_seeds) + 1
    note = f"tested after every seed, at most {looks} times, each at {100 * at:.4g}%"
    return replace(ranking, level=level, notes=(*ranking.notes, note))


@lru_cache(maxsize=16)
def look_level(cells: int, max_seeds: int, level: float) -> float:
    """Return the level of each look, from `FIRST_SEEDS` to ``max_seeds`` seeds.

    The truly best cell is then tied in all looks with probability ``level``.

    It is a group-sequential boundary that is constant in p-values (as Pocock 1977), simulated for
    cells that are all equally good and have all seeds. Looks share their data, so it is nearer to
    ``level`` than Bonferroni's.
    """
    looks = range(min(FIRST_SEEDS, max_seeds), max_seeds + 1)
    if len(looks) == 1 or cells < 2:
        return level
    rng = np.random.default_rng(1)
    draws = max(20, min(4000, 100_000 // cells))
    noise = (
        rng.normal(size=(draws, cells, max_seeds)) * drawn_deviations(rng, draws, cells)[..., None]
    )
    smallest = np.ones(draws * cells)
    for n in looks:
        model = paired_model(balanced_design(cells, n))
        values = model.statistic(noise[:, :, :n].reshape(draws, -1), "moderated").ravel()
        below = np.searchsorted(np.sort(values), values)
        smallest = np.minimum(smallest, 1 - below / len(values))
    return 1 - float(np.quantile(smallest, 1 - level))


def _seed_order(table: Table[Key], max_seeds: int) -> tuple[int, ...]:
    """Return the seeds in the order in which cells get them: those of the table, then new ones."""
    seeds = sorted({seed for row in table.values() for seed in row})
    first_new = max(seeds, default=-1) + 1
    return (*seeds, *range(first_new, first_new + max_seeds))[:max_seeds]


def _worth_a_seed(test: Ranking[Key], table: Mapping[Key, object]) -> tuple[Key, ...]:
    """Return the cells that may still be the best, and the two most plausible ones in any case.

    The effect of a seed is shared by the cells, so a seed of a single cell would say nothing. All
    cells with a value are returned if they cannot be ranked.
    """
    if not test.can_rank:
        return test.tied or tuple(table)
    p = test.p_values
    two = sorted(p, key=lambda key: -p[key])[:2]
    return tuple(key for key in p if key in two or p[key] > WORTH_A_SEED)


def _reason(ranking: Ranking[Key], seeds: int) -> str:
    if ranking.can_rank and len(ranking.tied) == 1:
        return f"one cell is left after {seeds} seeds"
    state = f"{len(ranking.tied)} cells are still tied" if ranking.means else "no cell has a value"
    return f"{state} after {seeds} seeds"
