"""The sizes of a scaling ladder: the errors that a law is fitted to, and what has none."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from archsearch.reports.phrases import listed, plural
from archsearch.results import UNFINISHED, CellResult, TrialResult

Rung = tuple[str, CellResult]
"""A cell of a ladder, with the name of its run."""


@dataclass(frozen=True)
class LadderSize:
    """One size: its ``errors`` in percent, one per seed with a result.

    ``without_error`` counts the other trainings that ended, by the reason; ``unfinished`` is True
    if a training has not ended. ``runs`` are the names of the runs with a result.
    """

    errors: tuple[float, ...]
    without_error: Mapping[str, int]
    unfinished: bool
    runs: tuple[str, ...]

    @property
    def is_point(self) -> bool:
        """Whether the law can have the mean of the errors."""
        return bool(self.errors) and fmean(self.errors) > 0


def sizes_of(rungs: Iterable[Rung]) -> dict[float, LadderSize]:
    """Return the sizes in parameters of these cells; cells of one size share their trainings."""
    by_size: dict[float, list[Rung]] = {}
    for name, cell in rungs:
        assert cell.cell.cost is not None
        by_size.setdefault(float(cell.cell.cost.params), []).append((name, cell))
    return {size: _size(cells) for size, cells in by_size.items()}


def _size(rungs: Sequence[Rung]) -> LadderSize:
    trials = {t.trial.id: t for _, cell in rungs for t in cell.trials}
    errors = {i: error for i, t in trials.items() if (error := error_of(t)) is not None}
    others = [t for i, t in trials.items() if i not in errors and t.state not in UNFINISHED]
    reasons = Counter("has no error" if t.state == "complete" else t.state for t in others)
    runs = (name for name, cell in rungs if any(t.trial.id in errors for t in cell.trials))
    states = {cell.state for _, cell in rungs}
    return LadderSize(
        (*errors.values(),), reasons, not states.isdisjoint(UNFINISHED), (*dict.fromkeys(runs),)
    )


def error_of(result: TrialResult) -> float | None:
    """Return the task's error, which the law is fitted to."""
    task = result.trial.task
    return result.value(task.metric(task.error)) if task.error else None


def left_out_texts(sizes: Mapping[float, LadderSize]) -> tuple[str, ...]:
    """Return ``104.5M (reason)`` for every size and seed that ended and is in no law."""
    reasons = {size: _left_out_reason(sizes[size]) for size in sorted(sizes)}
    return tuple(f"{size / 1e6:.1f}M ({reason})" for size, reason in reasons.items() if reason)


def _left_out_reason(size: LadderSize) -> str:
    ended = listed([f"{number} {reason}" for reason, number in size.without_error.items()])
    if size.errors and not size.is_point:
        return "every seed has an error of zero, which a power law cannot have"
    if not size.errors:
        return f"no training has a result: {ended}" if ended else ""
    total = len(size.errors) + sum(size.without_error.values())
    return f"of {plural(total, 'seed')} {ended}" if ended else ""
