"""The results of one training and of one cell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from archsearch.core.cell import Cell
from archsearch.core.metrics import Metric
from archsearch.stats.intervals import Interval, Method, interval
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

    ``curve`` has one mapping per finished epoch, also for an unfinished training.
    """

    trial: Trial
    state: State
    record: Record | None = None
    curve: tuple[Mapping[str, Any], ...] = ()

    def value(self, by: Metric) -> float | None:
        """Return the measured number in the metric's unit; None if it was not measured."""
        return by.of(self.record)


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
    def lost(self) -> tuple[TrialResult, ...]:
        """The trainings that ended without a result."""
        return tuple(t for t in self.trials if t.state in ("diverged", "failed"))

    @property
    def told(self) -> str:
        """The state with its reason, as tables print it."""
        kinds = sorted({t.record.kind for t in self.lost if t.record and t.record.kind})
        text = self.state + (f": {', '.join(kinds)}" if self.state == "failed" and kinds else "")
        if self.pruned:
            text += f"{'' if self.state == 'pruned' else ', pruned'} after {self.pruned}"
        if self.lost and len(self.lost) < len(self.trials):
            names = sorted({f"{t.state}" for t in self.lost})
            text += f", {len(self.lost)} of {len(self.trials)} seeds {' or '.join(names)}"
        return text

    def values(self, by: Metric) -> dict[int, float | None]:
        """Return seed -> value of every finished training; None if it has no result."""
        return {t.trial.seed: t.value(by) for t in self.trials if t.state not in UNFINISHED}

    def counted(self, by: Metric) -> float | None:
        """Return a cost, which does not depend on seeds."""
        if by.source == "budget":
            return getattr(self.cell.cost, by.field) / by.scale if self.cell.cost else None
        return next((v for t in self.trials if (v := t.value(by)) is not None), None)

    def estimate(self, by: Metric, method: Method = "student") -> Interval | None:
        """Return mean and interval over the seeds that have a value; None without one."""
        if by.counted:
            value = self.counted(by)
            return None if value is None else Interval(value, None, None, 1, "counted")
        values = [v for v in self.values(by).values() if v is not None]
        return interval(values, LEVEL, method) if values else None

    def changes(self) -> dict[str, tuple[Any, Any]]:
        """Return what a repair changed: coordinate -> (requested, used)."""
        requested = self.cell.requested
        used = {k: getattr(self.cell.variant, k, v) for k, v in requested.items()}
        return {k: (v, used[k]) for k, v in requested.items() if used[k] != v}
