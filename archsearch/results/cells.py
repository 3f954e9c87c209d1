"""The results of one training and of one cell."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from archsearch.core.cell import Cell
from archsearch.core.metrics import Metric
from archsearch.stats.intervals import Interval, interval
from archsearch.study import Record, Trial

State = Literal[
    "pending", "running", "interrupted", "complete", "diverged", "failed", "infeasible", "pruned"
]
UNFINISHED = ("running", "interrupted", "pending")
LEVEL = 0.95
"""Confidence of every interval and tie in the reports."""


@dataclass(frozen=True)
class TrialResult:
    """One training: its request, its state, and its results so far.

    ``curve`` has one mapping per finished epoch, also for an unfinished training. ``predictions``
    is the file of a finished detector or segmenter (`archsearch.scenes.predicted`).
    """

    trial: Trial
    state: State
    record: Record | None = None
    curve: tuple[Mapping[str, Any], ...] = ()
    predictions: Path | None = None

    def value(self, metric: Metric) -> float | None:
        """Return the measured number in the metric's unit; None if it was not measured."""
        return metric.value_of(self.record)


@dataclass(frozen=True)
class CellResult:
    """One cell of the plan with its trainings, ordered by seed.

    ``label`` names its network; cells that repair to one network share label and trainings.
    ``pruned`` is the cheap rung after which halving dropped the cell; earlier results stay.
    """

    index: int
    cell: Cell
    label: str
    trials: tuple[TrialResult, ...] = ()
    pruned: str = ""

    @property
    def state(self) -> State:
        """The state of the cell: an unfinished trial decides first, then a complete one."""
        if self.cell.variant is None:
            return "infeasible"
        states = {t.state for t in self.trials}
        for state in (*UNFINISHED, "complete", "failed", "diverged"):
            if state in states:
                return state
        return "pruned" if self.pruned else "pending"

    @property
    def trials_without_result(self) -> tuple[TrialResult, ...]:
        """The trainings that ended without a result: diverged or failed."""
        return tuple(t for t in self.trials if t.state in ("diverged", "failed"))

    @property
    def failure_kinds(self) -> list[str]:
        """The kinds of failure of its trainings, such as ``out-of-memory``."""
        records = (t.record for t in self.trials_without_result)
        return sorted({record.kind for record in records if record and record.kind})

    @property
    def status_text(self) -> str:
        """The state with its reason, as tables print it."""
        kinds, ended = self.failure_kinds, self.trials_without_result
        text = self.state + (f": {', '.join(kinds)}" if self.state == "failed" and kinds else "")
        if self.pruned:
            text += f"{'' if self.state == 'pruned' else ', pruned'} after {self.pruned}"
        if 0 < len(ended) < len(self.trials):
            states = sorted({t.state for t in ended})
            text += f", {len(ended)} of {len(self.trials)} seeds {' or '.join(states)}"
        return text

    def values(self, metric: Metric) -> dict[int, float | None]:
        """Return seed -> value of every finished training; None if it has no result."""
        return {t.trial.seed: t.value(metric) for t in self.trials if t.state not in UNFINISHED}

    def cost_value(self, metric: Metric) -> float | None:
        """Return the value of a cost, which does not depend on the seed; None if unknown."""
        if metric.source == "budget":
            return getattr(self.cell.cost, metric.field) / metric.scale if self.cell.cost else None
        return next((v for t in self.trials if (v := t.value(metric)) is not None), None)

    def estimate(self, metric: Metric) -> Interval | None:
        """Return mean and interval over its own seeds that have a value; None without one.

        Reports show `archsearch.results.comparison.estimates_of`, which knows the noise better.
        """
        if metric.known_before_training:
            value = self.cost_value(metric)
            return None if value is None else Interval(value, None, None, 1, "counted")
        values = [v for v in self.values(metric).values() if v is not None]
        return interval(values, LEVEL) if values else None

    def mean(self, metric: Metric) -> float | None:
        """Return the mean over the seeds that have a value; None without one."""
        estimate = self.estimate(metric)
        return None if estimate is None else estimate.mean

    def changes(self) -> dict[str, tuple[Any, Any]]:
        """Return what a repair changed: coordinate -> (requested, used)."""
        requested = self.cell.requested
        used = {k: getattr(self.cell.variant, k, v) for k, v in requested.items()}
        return {k: (v, used[k]) for k, v in requested.items() if used[k] != v}
