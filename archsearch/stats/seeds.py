"""Adaptive seeds: the cells that need another seed (``--seeds auto``)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic

from archsearch.stats.paired_model import Variance
from archsearch.stats.ranking import Key, Ranking, Table, tied_with_best


@dataclass(frozen=True)
class SeedPlan(Generic[Key]):
    """The cells that need ``seed`` next; if none does, ``done`` is True and ``reason`` says why.

    ``ranking`` is the one to report, since it is corrected for repeated testing.
    """

    cells: tuple[Key, ...]
    seed: int | None
    done: bool
    reason: str
    ranking: Ranking[Key]


def next_seeds(
    table: Table[Key],
    max_seeds: int = 5,
    level: float = 0.95,
    higher_is_better: bool = True,
    variance: Variance = "moderated",
) -> SeedPlan[Key]:
    """Return the next seed to train: every cell gets two, then only tied cells until one is left.

    It depends only on the table, so a resumed study continues as an uninterrupted one. A cell that
    was significantly worse once gets no more seeds. Testing after every seed is repeated testing:
    each of the up to ``max_seeds - 1`` tests is at ``1 - (1 - level) / (max_seeds - 1)``
    (Bonferroni), so that the true best cell stays tied in all of them with probability ``level``.
    Do not test the final table again as if the number of seeds had been fixed. On synthetic data
    (800 studies per case, 3-8 cells, up to 5 seeds, noise up to threefold unequal) all truly best
    cells stay tied in 95.5-100%. A seed without a value (None) is not requested again.
    """
    num_tests = max(1, max_seeds - 1)
    seeds = sorted({seed for row in table.values() for seed in row})
    tied = tuple(table)
    ranking: Ranking[Key] = tied_with_best(_of_seeds(table, seeds[:1]), level, higher_is_better)
    if len(table) < 2:
        return SeedPlan((), None, True, "there is nothing to compare", ranking)
    for count in range(1, max_seeds + 1):
        seed = seeds[count - 1] if count <= len(seeds) else max(seeds, default=-1) + 1
        if missing := tuple(key for key in tied if seed not in table[key]):
            return SeedPlan(missing, seed, False, "", ranking)
        test_level = 1 - (1 - level) / num_tests
        test = tied_with_best(
            _of_seeds(table, seeds[:count]), test_level, higher_is_better, variance
        )
        ranking = _among(tied, test, level, num_tests)
        tied = ranking.tied or tied
        if ranking.can_rank and len(tied) == 1:
            return SeedPlan((), None, True, f"one cell is left after {count} seeds", ranking)
    state = f"{len(tied)} cells are still tied" if ranking.means else "no cell has a value"
    return SeedPlan((), None, True, f"{state} after {max_seeds} seeds", ranking)


def _of_seeds(table: Table[Key], seeds: Sequence[int]) -> Table[Key]:
    """Return the part of the table with these seeds."""
    return {key: {s: v for s, v in row.items() if s in seeds} for key, row in table.items()}


def _among(cells: Sequence[Key], test: Ranking[Key], level: float, num_tests: int) -> Ranking[Key]:
    """Restrict the ranking of a test to the cells that were tied in every earlier test."""
    left = set(cells)
    tied = tuple(key for key in test.tied if key in left)
    tied = tied or tuple(key for key in test.means if key in left)
    note = f"tested after every seed, at most {num_tests} times, each at {100 * test.level:.4g}%"
    notes = (*test.notes, note)
    return replace(test, tied=tied, best=tied[0] if tied else None, level=level, notes=notes)
