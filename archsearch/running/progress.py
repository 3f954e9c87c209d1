"""The progress of a running study, updated at a cost that does not grow with the study.

Only the events of running trials are read, from the position of the previous read on.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from archsearch.running.estimate import cost_of
from archsearch.running.forecast import Forecast
from archsearch.stats.remaining import Remaining
from archsearch.storage.plain_file import Damaged, read_plain
from archsearch.storage.quote import Quote
from archsearch.storage.record_values import check_event
from archsearch.storage.stored_json import parse_lines, warn_once
from archsearch.storage.study_folder import FINISHED, State, StudyFolder
from archsearch.study import Record, Study, Trial


@dataclass(frozen=True, slots=True)
class TrialProgress:
    """One trial: ``metric`` is the study's, last measured; ``worker`` is the label of the worker
    that trains it; ``note`` is the error, if any."""

    trial_id: str
    state: State
    epoch: int
    epochs: int
    metric: float | None = None
    images_per_second: float | None = None
    worker: str = ""
    note: str = ""


@dataclass(frozen=True)
class Snapshot:
    """A study at one moment. ``total`` is None while the number of trials is unknown; an
    ``open_ended`` plan may yield more than that.

    ``trials`` is in plan order. ``left`` is the time until the report is drawn; None before any
    trial is measured or quoted. ``message`` is for the reader, such as that the study is stopping.
    """

    name: str
    metric: str
    total: int | None
    counts: Mapping[State, int]
    trials: Mapping[str, TrialProgress]
    best: TrialProgress | None
    images_per_second: float
    seconds: float
    left: Remaining | None
    open_ended: bool = False
    message: str = ""

    @property
    def finished(self) -> int:
        return sum(self.counts.get(state, 0) for state in FINISHED)


class EventTail:
    """Reads the events of one trial as they are appended."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def read(self) -> list[dict[str, Any]]:
        """The events since the previous read; none while they cannot be read."""
        try:
            content = read_plain(self._path, self._offset)
        except OSError:  # absent, or the next read may succeed: progress never stops a study
            return []
        except Damaged as error:
            warn_once(str(error))
            return []
        complete_lines = content[: content.rfind(b"\n") + 1]
        self._offset += len(complete_lines)
        return parse_lines(complete_lines, self._path, check_event)


class ProgressTracker:
    """Follows the trials of one run of a driver; ``total`` is None for an open-ended plan."""

    def __init__(
        self, folder: StudyFolder, study: Study, total: int | None, quote: Quote | None = None
    ) -> None:
        self._folder, self._study, self._total = folder, study, total
        self._metric = study.task.metric(study.metric)
        self._has_certain, self._max_trials = False, 0
        self._trials: dict[str, TrialProgress] = {}
        self._tails: dict[str, EventTail] = {}
        self._counts: Counter[State] = Counter()
        self._best: TrialProgress | None = None
        self._forecast = Forecast(quote)
        self._started = time.monotonic()

    @property
    def counts(self) -> dict[State, int]:
        return {state: n for state, n in self._counts.items() if n}

    def set_workers(self, workers: int) -> None:
        """Set how many trials run at a time."""
        self._forecast.workers = workers

    def expect(self, certain_trials: Sequence[Trial], max_trials: int = 0) -> None:
        """Announce the trials that a generator will yield in any case, and how many it yields at
        most (0 if unknown)."""
        self._has_certain, self._max_trials = bool(certain_trials), max_trials
        for trial in certain_trials:
            self.planned(trial, self._folder.trial(trial.id).state())

    def planned(self, trial: Trial, state: State = "pending") -> None:
        """Add a trial to be trained; its events say how far earlier runs came."""
        if trial.id in self._trials:
            return
        epochs = trial.recipe.epochs
        self._forecast.plan(trial, cost_of(trial).macs)
        self._set(TrialProgress(trial.id, state, 0, epochs))
        if state != "pending":
            self._read(trial.id, self._event_tail(trial.id))

    def _event_tail(self, trial_id: str) -> EventTail:
        return EventTail(self._folder.trial(trial_id).path / "events.jsonl")

    def started(self, trial_id: str, worker: str, *, ours: bool = True) -> None:
        """An attempt at the trial started, here or (not ``ours``) in another process."""
        self._tails[trial_id] = self._event_tail(trial_id)
        if ours:
            self._forecast.start(trial_id, worker)
        self._set(replace(self._trials[trial_id], state="running", worker=worker))

    def ended(self, trial_id: str, note: str = "") -> None:
        """An attempt ended without a record."""
        self._read(trial_id, self._tails.pop(trial_id))
        self._forecast.end(trial_id)
        trial = replace(self._trials[trial_id], state="interrupted", worker="", note=note)
        self._set(replace(trial, images_per_second=None))

    def finished(self, trial: Trial, record: Record) -> None:
        """The trial has a record, from this run or an earlier one."""
        tail = self._tails.pop(trial.id, None)
        if tail is not None:
            self._read(trial.id, tail)
        epochs, epoch = trial.recipe.epochs, len(record.curve)
        value = self._metric.value_in(record.metrics)
        note = record.error.partition("\n")[0]
        finished = TrialProgress(trial.id, record.status, epoch, epochs, value, note=note)
        self._forecast.finish(trial.id, record.status == "complete")
        self._set(finished)
        if record.status == "complete" and value is not None:
            self._update_best(finished, value)

    def _update_best(self, trial: TrialProgress, value: float) -> None:
        best = None if self._best is None else self._best.metric
        if best is None or self._metric.merit(value) > self._metric.merit(best):
            self._best = trial

    def poll(self) -> None:
        """Read the new events of the running trials."""
        for trial_id, tail in self._tails.items():
            self._read(trial_id, tail)

    def _read(self, trial_id: str, tail: EventTail) -> None:
        for event in tail.read():
            if "epoch" in event:
                self._end_of_epoch(trial_id, event)
            elif "in_epoch" in event:
                self._heartbeat(trial_id, event)

    def _end_of_epoch(self, trial_id: str, event: Mapping[str, Any]) -> None:
        trial = self._trials[trial_id]
        epoch = min(max(trial.epoch, event["epoch"]), trial.epochs)
        self._forecast.advance(trial_id, epoch)
        value, speed = self._metric.value_in(event), event.get("images_per_second")
        self._set(replace(trial, epoch=epoch, metric=value, images_per_second=speed))

    def _heartbeat(self, trial_id: str, event: Mapping[str, Any]) -> None:
        """Count the part of a long epoch that is done."""
        epochs = event["in_epoch"] - 1 + event["step"] / event["steps"]
        self._forecast.advance(trial_id, epochs)
        speed = event.get("images_per_second")
        self._set(replace(self._trials[trial_id], images_per_second=speed))

    def _set(self, trial: TrialProgress) -> None:
        if before := self._trials.get(trial.trial_id):
            self._counts[before.state] -= 1
        self._counts[trial.state] += 1
        self._trials[trial.trial_id] = trial

    def _expected_total(self) -> int | None:
        if self._total is None and (self._has_certain or self._max_trials):
            return max(self._max_trials, len(self._trials))
        return self._total

    def snapshot(self, message: str = "") -> Snapshot:
        """The study at this moment."""
        seconds = time.monotonic() - self._started
        speeds = (self._trials[i].images_per_second for i in self._tails)
        total = self._expected_total()
        unplanned = max(0, self._max_trials - len(self._trials))
        return Snapshot(
            name=self._study.name,
            metric=self._study.metric,
            total=total,
            counts=self.counts,
            trials=dict(self._trials),
            best=self._best,
            images_per_second=sum(speed for speed in speeds if speed),
            seconds=seconds,
            left=None if total is None else self._forecast.remaining(unplanned),
            open_ended=self._total is None and not self._max_trials,
            message=message,
        )
