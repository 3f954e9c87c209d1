"""Differences between the best cells of groups of cells, such as families of networks.

The best cell of a group is unknown: the one with the highest mean is chosen among several, so its
mean is too high. Simultaneous intervals of all pairs of cells (Tukey 1953, with the noise model of
the ranking) bound the difference between the true bests, whichever cells they are:
max_i mean[i] - max_j mean[j] = max_i min_j (mean[i] - mean[j]), i in one group, j in the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from archsearch.stats.control import Difference
from archsearch.stats.intervals import Interval
from archsearch.stats.paired_model import (
    Array,
    Design,
    Variance,
    paired_model,
    simulate_null,
)
from archsearch.stats.ranking import Key, Observations, Table

DRAWS = 20_000
"""Simulated studies; the standard error of a p-value of 0.05 is then 0.0015."""

Pairs = dict[tuple[str, str], Difference]


@dataclass(frozen=True)
class _Cells:
    """Means and variances of means of the cells (k,), and the null of the largest t; sorted."""

    means: Array
    variances: Array
    nulls: tuple[Array, ...]

    def critical(self, level: float) -> float:
        return max(float(np.quantile(null, level, method="higher")) for null in self.nulls)

    def p_value(self, t: float) -> float:
        reached = max(len(null) - int(np.searchsorted(null, t)) for null in self.nulls)
        return (1 + reached) / (len(self.nulls[0]) + 1)


def differences_of_bests(
    table: Table[Key],
    groups: Mapping[Key, str],
    level: float = 0.95,
    variance: Variance = "moderated",
    draws: int = DRAWS,
) -> Pairs:
    """Return (A, B) -> the best of group A minus the best of group B, higher values being better.

    All intervals cover their true differences together with probability ``level``, also though the
    bests were chosen by the same values. The difference itself is that of the highest means. A
    p-value is below 1 - level if the interval excludes zero. Empty if the values rank nothing.

    Raises:
        ValueError: the level is outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"a level must be between 0 and 1 (0.95 for 95%), got {level}")
    data, _ = Observations.of(table)
    if data.why_not_rankable():
        return {}
    model = paired_model(data.design)
    means, residuals = model.fit(data.values[None])
    of_mean = model.variances(residuals, variance)[0] / model.cells.count
    kinds = (False, True) if variance == "moderated" else (False,)
    nulls = tuple(_largest_t(data.design, variance, unequal, draws) for unequal in kinds)
    cells = _Cells(means[0], of_mean, nulls)
    members: dict[str, list[int]] = {}
    for i, key in enumerate(data.keys):
        members.setdefault(groups[key], []).append(i)
    return {
        (a, b): _difference(cells, members[a], members[b], level, len(data.seed_names))
        for a in members
        for b in members
        if a != b
    }


def _difference(cells: _Cells, a: list[int], b: list[int], level: float, n: int) -> Difference:
    change = cells.means[a][:, None] - cells.means[b][None]
    error = np.sqrt(cells.variances[a][:, None] + cells.variances[b][None])
    half = cells.critical(level) * error
    low, high = (change - half).min(1).max(), (change + half).max(0).min()
    t = max((change / error).min(1).max(), -(change / error).max(0).min(), 0.0)
    interval = Interval(
        float(cells.means[a].max() - cells.means[b].max()), float(low), float(high), n, "tukey"
    )
    return Difference(interval, cells.p_value(float(t)))


@lru_cache(maxsize=16)
def _largest_t(design: Design, variance: Variance, unequal: bool, draws: int) -> Array:
    """Simulate the largest t of any two of several equally good cells; sorted."""
    return np.sort(simulate_null(design, variance, unequal, draws).max(1))
