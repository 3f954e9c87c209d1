"""The gate of successive halving: a pilot decides whether a cheap rung may prune.

A pilot trains a few cells with several seeds on the rung and in full. The rung may prune if the
two orders of the cells, corrected for the noise of the seeds, agree well enough and not by chance.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import TypeVar

import numpy as np

from archsearch.core.family import Family
from archsearch.searching.rungs import Rung
from archsearch.stats.intervals import Interval, kendall_tau
from archsearch.stats.rank_agreement import Agreement, Array, agreement

Key = TypeVar("Key", bound=Hashable)

THRESHOLD = 0.5
"""Smallest tau with which a rung may prune: three in four pairs of cells in their final order."""

MAX_P_VALUE = 0.05
"""Largest p-value of "no agreement" with which a rung may prune."""

LEVEL = 0.9
"""Level of tau's two-sided interval in a pilot with one seed: its lower end is a 95% bound."""

PILOT_CELLS = 10
"""Number of pilot cells. With two seeds and the reliability of the published grid (about 0.8) a
perfect rung passes in 94 to 96% of cases and a useless one in 4% (docs/statistics.md)."""


@dataclass(frozen=True)
class Pilot:
    """The cells of the pilot and its seeds; the first seed is also that of the cheap rungs.

    With one seed, `gate_by_one_seed` decides: the rule of runs that were planned before.
    """

    cells: tuple[Family, ...]
    seeds: tuple[int, ...]


def pilot_by_cost(macs: Mapping[Family, int], num: int = PILOT_CELLS) -> tuple[Family, ...]:
    """Return ``num`` cells, or all if fewer: the middle one of each of ``num`` strata by cost.

    ``macs`` maps each cell to its multiply-adds. The strata have the same number of cells, within
    one.
    """
    ordered = sorted(macs, key=lambda variant: macs[variant])
    num = min(num, len(ordered))
    return tuple(ordered[(2 * i + 1) * len(ordered) // (2 * num)] for i in range(num))


def pilot_by_order(variants: Sequence[Family], num: int = PILOT_CELLS) -> tuple[Family, ...]:
    """Return ``num`` cells, or all if fewer, spread over the plan's order: pilots with one seed."""
    n = len(variants)
    if n <= num:
        return tuple(variants)
    return tuple(variants[round(i * (n - 1) / (num - 1))] for i in range(num))


def pilot_seeds(seeds: Sequence[int], num: int) -> tuple[int, ...]:
    """Return the first ``num`` of the study's seeds, continued by new ones if it has fewer."""
    new = islice(count(max(seeds) + 1), max(0, num - len(seeds)))
    return (*seeds[:num], *new)


@dataclass(frozen=True)
class Gate:
    """The pilot's decision about one cheap rung."""

    rung: Rung
    tau: float | None
    may_prune: bool
    reason: str

    def forced(self) -> "Gate":
        """Return this gate with permission to prune; the reason says that it overrides a no."""
        if self.may_prune:
            return self
        return Gate(self.rung, self.tau, True, f"{self.reason}; it prunes anyway (--prune force)")


Scores = Mapping[Key, Sequence[float | None]]
"""Cell -> its score by each seed of the pilot; None for a training without a score."""


def gate(rung: Rung, cheap: Scores[Key], full: Scores[Key]) -> Gate:
    """Decide whether a rung may prune, by the pilot cells that have a score in every training."""
    cells = [key for key in full if None not in (*cheap[key], *full[key])]
    try:
        agreed = agreement(_by_seed(cheap, cells), _by_seed(full, cells))
    except ValueError as error:
        return Gate(rung, None, False, f"{rung.name} may not prune: {error}")
    allowed = may_prune(agreed)
    return Gate(rung, agreed.tau, allowed, _reason(rung, agreed, allowed))


def _by_seed(scores: Scores[Key], cells: Sequence[Key]) -> Array:
    """Return the scores as (seeds, cells)."""
    num_seeds = len(next(iter(scores.values())))
    return np.array([scores[key] for key in cells], dtype=float).reshape(-1, num_seeds).T


def may_prune(agreed: Agreement) -> bool:
    """Return whether the corrected tau reaches the threshold and is not there by chance."""
    return agreed.tau is not None and agreed.tau >= THRESHOLD and agreed.p_value <= MAX_P_VALUE


def _reason(rung: Rung, agreed: Agreement, allowed: bool) -> str:
    tau = "not measurable" if agreed.tau is None else f"{agreed.tau:.2f}"
    return (
        f"{rung.name} {'may' if allowed else 'may not'} prune: tau with the full ranking {tau} "
        f"without the noise of seeds ({agreed.measured_tau:.2f} with it), needed {THRESHOLD:g}, "
        f"p = {agreed.p_value:.3f} for no agreement, needed at most {MAX_P_VALUE:g}, over "
        f"{agreed.num_cells} cells and {agreed.num_seeds} seeds (reliability of a short training "
        f"{agreed.cheap_reliability:.2f}, of a full one {agreed.full_reliability:.2f})"
    )


def gate_by_one_seed(
    rung: Rung, cheap: Mapping[Key, float | None], full: Mapping[Key, float | None]
) -> Gate:
    """Decide by a pilot with one seed, as runs of earlier plans do.

    The lower end of tau's interval must reach the threshold. The noise of both seeds lowers tau, so
    a perfect rung passes hardly ever. Without a tau (fewer than two scores, or all equal) it may
    not prune.
    """
    pairs = [(x, y) for k, y in full.items() if (x := cheap.get(k)) is not None and y is not None]
    try:
        tau = kendall_tau([x for x, _ in pairs], [y for _, y in pairs], LEVEL)
    except ValueError as error:
        return Gate(rung, None, False, f"{rung.name} may not prune: {error}")
    allowed = may_prune_by_one_seed(tau)
    reason = (
        f"{rung.name} {'may' if allowed else 'may not'} prune: tau {tau.mean:.2f} with the "
        f"full ranking over {tau.n} cells, lower 95% bound {tau.low:.2f}, needed {THRESHOLD:g}"
    )
    return Gate(rung, tau.mean, allowed, reason)


def may_prune_by_one_seed(tau: Interval) -> bool:
    """Return whether the lower end of tau's interval reaches the threshold."""
    return tau.low is not None and tau.low >= THRESHOLD
