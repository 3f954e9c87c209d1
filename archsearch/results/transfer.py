"""The results of fine-tuned networks beside those of the classification that they start from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from archsearch.core.metrics import Metric
from archsearch.results.cells import LEVEL, CellResult
from archsearch.results.comparison import Comparison, compare_cells
from archsearch.results.run_results import Results
from archsearch.stats.intervals import Interval, kendall_tau
from archsearch.stats.rank_agreement import Agreement, agreement
from archsearch.stats.ranking import Ranking

Verdict = Literal["is", "is not", "unknown"]


@dataclass(frozen=True)
class Transfer:
    """The fine-tuned networks, compared by their classification and by their new task.

    ``cells`` are those of classification, one for each cell of the fine-tuned run, under the labels
    of that run; ``first`` compares them, ``second`` the fine-tuned ones. ``num_others`` is how many
    networks of the classification run were not fine-tuned.
    """

    cells: tuple[CellResult, ...]
    fine_tuned: tuple[CellResult, ...]
    first: Comparison
    second: Comparison
    num_others: int

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The networks with a mean by both metrics, in plan order."""
        both = self.first.ranking.means.keys() & self.second.ranking.means.keys()
        return tuple(dict.fromkeys(c.label for c in self.fine_tuned if c.label in both))

    @cached_property
    def tau(self) -> Interval | None:
        """Kendall's tau between the means; None if there is no order to compare."""
        x, y = (
            [c.metric.merit(c.ranking.means[label]) for label in self.labels]
            for c in (self.first, self.second)
        )
        try:
            return kendall_tau(x, y, LEVEL)
        except ValueError:
            return None

    @cached_property
    def agreement(self) -> Agreement | None:
        """The agreement without the noise of seeds; None with too few seeds or networks."""
        tables = self._values(self.cells, self.first), self._values(self.fine_tuned, self.second)
        seeds = [s for s in self.second.ranking.seeds if s in self.first.ranking.seeds]
        labels = [k for k in self.labels if all(set(seeds) <= table[k].keys() for table in tables)]
        x, y = (np.array([[t[k][s] for k in labels] for s in seeds]) for t in tables)
        try:
            return agreement(x.reshape(len(seeds), -1), y.reshape(len(seeds), -1))
        except ValueError:
            return None

    @staticmethod
    def _values(cells: Sequence[CellResult], comparison: Comparison) -> dict[str, dict[int, float]]:
        metric = comparison.metric
        return {
            c.label: {s: metric.merit(v) for s, v in c.values(metric).items() if v is not None}
            for c in cells
        }

    @property
    def verdict(self) -> Verdict:
        """Whether the winner of classification is the winner of the new task."""
        return verdict(self.first.ranking, self.second.ranking)

    @cached_property
    def num_shared(self) -> int:
        """How many cells have seeds that start from the same weights as another of their seeds."""
        starts = ([t.trial.start for t in cell.trials] for cell in self.fine_tuned)
        return sum(len({s.sha256 for s in one if s}) < len(one) for one in starts)


def verdict(first: Ranking[str], second: Ranking[str]) -> Verdict:
    """Whether the best network of one ranking is that of another, as far as both are certain.

    Each holds its truly best network among those tied with its best, with the probability of its
    level: at 95%, both do with at least 90%. The answer holds whenever both do.
    """
    if not (first.can_rank and second.can_rank):
        return "unknown"
    if not first.tied_set & second.tied_set:
        return "is not"
    return "is" if len(first.tied) == len(second.tied) == 1 else "unknown"


def transfer_of(results: Results, metric: Metric | None = None) -> Transfer | None:
    """The comparison of a fine-tuned run with its classification; None for another run.

    ``metric`` is that of the new task, by default the study's.
    """
    source = results.classification
    if source is None:
        return None
    by_network = {c.cell.variant: c for c in source.cells if c.cell.variant is not None}
    cells = tuple(
        replace(by_network[c.cell.variant], index=i, label=c.label)
        if c.cell.variant in by_network
        else replace(c, trials=())
        for i, c in enumerate(results.cells)
    )
    return Transfer(
        cells,
        results.cells,
        compare_cells(cells, source.metric(source.study.metric), source.study.max_seeds),
        results.compare(None if metric is None else metric.name),
        len(by_network.keys() - {c.cell.variant for c in results.cells}),
    )
