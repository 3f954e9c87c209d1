"""The time left of a running study: the quote, corrected by the time of what is trained so far.

Each attempt at a trial gives a pair of predicted and actual seconds, also before it ends: the part
of the trial that its last event reports. Without a quote, a trial's predicted time is its epochs
times its network's multiply-adds, in a unit that the measured times determine.
"""

import time
from dataclasses import dataclass

from archsearch.stats.remaining import Pair, Remaining, ratio, remaining
from archsearch.storage.quote import Quote
from archsearch.study import Trial


@dataclass
class _Attempt:
    """One attempt: ``first_epoch`` is where it began, ``measured`` when its last event was seen.

    ``worker_start`` is predicted for the first attempt of a worker. Such an attempt is measured
    from its first event on: the start of a process says nothing about later trials.
    """

    first_epoch: float
    worker_start: float
    began: float
    measured: float | None = None


@dataclass
class _Work:
    """One trial: its size in epochs times multiply-adds, and the epochs that are done."""

    size: float
    epochs: int
    done: float = 0.0
    attempt: _Attempt | None = None


def _measure(attempt: _Attempt, done: float) -> None:
    """Note that so many epochs are done now."""
    now = time.monotonic()
    if attempt.worker_start and attempt.measured is None:
        attempt.first_epoch, attempt.began = done, now
    attempt.measured = now


class Forecast:
    """Follows the trials of one run of a driver. ``workers`` is how many train at a time."""

    def __init__(self, quote: Quote | None) -> None:
        self._quote = quote or Quote({})
        self.workers: int | None = None
        self._work: dict[str, _Work] = {}
        self._pairs: list[Pair] = []
        self._seen_workers: set[str] = set()
        self._num_planned = 0
        self._planned = self._quoted = self._quoted_size = 0.0

    def plan(self, trial: Trial, macs: float) -> None:
        """Add a trial that is not finished."""
        size = macs * trial.recipe.epochs
        self._work[trial.id] = _Work(size, trial.recipe.epochs)
        self._planned, self._num_planned = self._planned + size, self._num_planned + 1
        if (seconds := self._quote.seconds.get(trial.id)) is not None:
            self._quoted, self._quoted_size = self._quoted + seconds, self._quoted_size + size

    def start(self, trial_id: str, worker: str) -> None:
        """An attempt at the trial begins."""
        new = worker not in self._seen_workers
        self._seen_workers.add(worker)
        work = self._work[trial_id]
        work.attempt = _Attempt(
            work.done, self._quote.setup_seconds if new else 0.0, time.monotonic()
        )

    def advance(self, trial_id: str, epochs: float) -> None:
        """So many epochs of the trial are done; epochs repeated from a checkpoint count once."""
        work = self._work[trial_id]
        done = max(work.done, min(epochs, work.epochs))
        if work.attempt is not None and done > work.done:
            _measure(work.attempt, done)
        work.done = done

    def end(self, trial_id: str) -> None:
        """The attempt ended without a record."""
        self._close(trial_id, self._work[trial_id])

    def finish(self, trial_id: str, complete: bool) -> None:
        """The trial has a record."""
        work = self._work.pop(trial_id, None)
        if work is None:
            return
        if complete and work.attempt is not None:
            _measure(work.attempt, work.epochs)
            work.done = work.epochs
        self._close(trial_id, work)

    def _close(self, trial_id: str, work: _Work) -> None:
        if pair := self._pair(trial_id, work):
            self._pairs.append(pair)
        work.attempt = None

    def remaining(self, unplanned: int = 0) -> Remaining | None:
        """The time left; the plan adds ``unplanned`` trials of the mean size."""
        mean = self._planned * self._scale / max(1, self._num_planned)
        running = [(i, w) for i, w in self._work.items() if w.attempt is not None]
        pairs = self._pairs + [pair for i, w in running if (pair := self._pair(i, w))]
        factor = ratio(pairs, self._prior) or 1.0
        left = [self._left(i, w, factor) for i, w in running]
        left += [self._left(i, w, factor) for i, w in self._work.items() if w.attempt is None]
        left += [mean] * unplanned
        workers = self.workers or max(1, len(running))
        after = self._quote.report_seconds
        return remaining(pairs, left, workers, prior=self._prior, after=after)

    @property
    def _scale(self) -> float:
        """Seconds per unit of size, from the quoted trials; 1 without any."""
        return self._quoted / self._quoted_size if self._quoted_size else 1.0

    @property
    def _prior(self) -> float:
        return self._quote.prior if self._quoted_size else 0.0

    def _predicted(self, trial_id: str, work: _Work) -> tuple[float, float]:
        """Seconds before the first step, and those of all epochs."""
        total = self._quote.seconds.get(trial_id, work.size * self._scale)
        start = min(self._quote.start_seconds, total) if self._quoted_size else 0.0
        return start, total - start

    def _pair(self, trial_id: str, work: _Work) -> Pair | None:
        """The attempt's part that is measured; None before its first event."""
        attempt = work.attempt
        if attempt is None or attempt.measured is None:
            return None
        start, epochs = self._predicted(trial_id, work)
        share = (work.done - attempt.first_epoch) / work.epochs
        predicted = share * epochs + (0.0 if attempt.worker_start else start)
        return (predicted, attempt.measured - attempt.began) if predicted > 0 else None

    def _left(self, trial_id: str, work: _Work, factor: float) -> float:
        """Predicted seconds of what is not done; time since the last event counts as done."""
        start, epochs = self._predicted(trial_id, work)
        left = epochs * (1 - work.done / work.epochs)
        if (attempt := work.attempt) is None:
            return start + left
        if attempt.measured is None:
            left += start + attempt.worker_start
        since = time.monotonic() - (attempt.measured or attempt.began)
        return max(0.0, left - since / factor)
