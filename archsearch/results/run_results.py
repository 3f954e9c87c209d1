"""All results of one run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from archsearch.core.metrics import Metric
from archsearch.core.task import Data
from archsearch.results.cells import CellResult, TrialResult
from archsearch.results.comparison import Comparison, compare_cells, estimates_of
from archsearch.results.rows import cell_row, seed_row
from archsearch.stats.intervals import Interval
from archsearch.study import Study


@dataclass(frozen=True)
class Results:
    """A run: its request (`study.json`) and the results of every cell.

    ``others`` are trainings in the folder that belong to no cell of the plan. ``notes`` are a
    halving's: whether its rungs may prune, and its total cost. ``pilots`` are the pilot studies of
    a comparison of families, by name; ``classification`` is the run that fine-tuned networks start
    from; ``latencies`` is the study of measured latencies.
    """

    name: str
    study: Study
    data: Data
    request: Mapping[str, Any]
    cells: tuple[CellResult, ...]
    others: tuple[TrialResult, ...] = ()
    notes: tuple[str, ...] = ()
    pilots: Mapping[str, "Results"] = field(default_factory=dict)
    classification: "Results | None" = None
    latencies: "Results | None" = None
    _compared: dict[str, Comparison] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def trials(self) -> tuple[TrialResult, ...]:
        """Every distinct training of the plan, in plan order."""
        return tuple({t.trial.id: t for c in self.cells for t in c.trials}.values())

    @cached_property
    def num_seeds(self) -> int:
        """The largest number of finished seeds of a cell."""
        complete = (sum(t.state == "complete" for t in c.trials) for c in self.cells)
        return max(complete, default=0)

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of the software that made the run, by package."""
        return dict(self.request.get("versions", {}))

    def network(self, label: str) -> CellResult:
        """Return the cell of a network; if several, one that was requested exactly so."""
        return self._networks[label]

    @cached_property
    def _networks(self) -> dict[str, CellResult]:
        """Label -> cell of the network."""
        last_first = sorted(self.cells, key=lambda c: (c.cell.fate == "exact", -c.index))
        return {cell.label: cell for cell in last_first}

    @cached_property
    def measured(self) -> tuple[Metric, ...]:
        """The metrics for which at least one training of this run has a value."""
        return tuple(
            m
            for m in self.study.task.all_metrics().values()
            if m.source in ("metrics", "record")
            and any(t.value(m) is not None for t in self.trials)
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row per cell: request, fate, network, cost, state and every estimate."""
        estimates = {m.name: estimates_of(self.cells, m) for m in self.measured}
        return [
            cell_row(cell, self.number_names, {k: e[cell.index] for k, e in estimates.items()})
            for cell in self.cells
        ]

    def seed_rows(self) -> list[dict[str, Any]]:
        """Return one flat row per training, also for those outside the plan."""
        trials = (*self.trials, *self.others)
        labels = {t.trial.id: c.label for c in self.cells for t in c.trials}
        return [seed_row(t, labels.get(t.trial.id, ""), self.measured) for t in trials]

    @cached_property
    def number_names(self) -> tuple[str, ...]:
        """The numbers of the variants of this run, in their order."""
        variants = (cell.cell.variant for cell in self.cells)
        names = dict.fromkeys(n for v in variants if v is not None for n in v.number_names())
        return tuple(names)

    def metric(self, name: str) -> Metric:
        """Return a metric of the run's task.

        Raises:
            ValueError: for an unknown name.
        """
        return self.study.task.metric(name)

    def estimate(self, cell: CellResult, metric: Metric) -> Interval | None:
        """Return mean and interval of a cell of this run; None without a value."""
        return estimates_of(self.cells, metric)[cell.index]

    def frame(self) -> Any:
        """Return `rows` as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def compare(self, metric_name: str | None = None) -> Comparison:
        """Return the estimates of every cell and the cells tied with the best.

        Ties are at `LEVEL`, over the whole family of comparisons.

        Raises:
            ValueError: for an unknown metric.
        """
        metric = self.metric(metric_name or self.study.metric)
        if metric.name not in self._compared:
            self._compared[metric.name] = compare_cells(self.cells, metric, self.study.max_seeds)
        return self._compared[metric.name]
