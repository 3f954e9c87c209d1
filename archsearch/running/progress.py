"""What a live table shows of a running study, kept up to date at a cost that does not grow.

Only the events of running trials are read, from where the last reading ended.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from archsearch.storage.files import parse_lines
from archsearch.storage.study_folder import FINISHED, State, StudyFolder
from archsearch.study import Record, Study, Trial


@dataclass(frozen=True, slots=True)
class Progress:
    """One trial: ``metric`` is the study's, last measured; ``note`` says what went wrong."""

    trial_id: str
    state: State
    epoch: int
    epochs: int
    metric: float | None = None
    images_per_second: float | None = None
    where: str = ""
    note: str = ""


@dataclass(frozen=True)
class Snapshot:
    """A study at one moment. ``total`` is None while nobody knows how many trials there will be;
    an ``open_ended`` plan may ask for more than that.

    ``trials`` is in plan order. ``eta_seconds`` weighs epochs by their network's
    multiply-adds and is None until a part of one has been seen. ``message`` is for the reader,
    such as that the study is stopping.
    """

    name: str
    metric: str
    total: int | None
    counts: Mapping[State, int]
    trials: Mapping[str, Progress]
    best: Progress | None
    images_per_second: float
    seconds: float
    eta_seconds: float | None
    open_ended: bool = False
    message: str = ""

    @property
    def finished(self) -> int:
        return sum(self.counts.get(state, 0) for state in FINISHED)


class Tail:
    """The events of one trial, each told once."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def read(self) -> list[dict[str, Any]]:
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(self._offset)
                content = file.read() or b""
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return parse_lines(whole)


class Tracker:
    """Follows the trials of one run of a driver; ``total`` is None for an open-ended plan."""

    def __init__(self, folder: StudyFolder, study: Study, total: int | None) -> None:
        self._folder, self._study, self._total = folder, study, total
        self._by = study.task.metric(study.metric)
        self._sure, self._at_most = False, 0
        self._planned_work = 0.0
        self._trials: dict[str, Progress] = {}
        self._tails: dict[str, Tail] = {}
        self._counts: Counter[State] = Counter()
        self._best: Progress | None = None
        costs = [(cell.variant, cell.cost) for cell in study.cells]
        self._macs = {v: float(c.macs) for v, c in costs if v is not None and c is not None}
        self._weights: dict[str, float] = {}
        self._reached: dict[str, float] = {}
        self._left = self._done = 0.0
        self._began = time.monotonic()

    @property
    def counts(self) -> dict[State, int]:
        return {state: n for state, n in self._counts.items() if n}

    def expect(self, sure: Sequence[Trial], at_most: int = 0) -> None:
        """Of a plan that is asked as it goes: the trials that it will give in any case, which count
        from now on, and how many it gives at most, where that is known."""
        self._sure, self._at_most = bool(sure), at_most
        for trial in sure:
            self.planned(trial, self._folder.trial(trial.id).state())

    def planned(self, trial: Trial, state: State = "pending") -> None:
        """A trial to come: how far it got before is read from its events."""
        if trial.id in self._trials:
            return
        epochs = trial.recipe.epochs
        weight = self._macs.get(trial.variant, 1.0)
        self._weights[trial.id], self._reached[trial.id] = weight, 0.0
        self._left += weight * epochs
        self._planned_work += weight * epochs
        self._set(Progress(trial.id, state, 0, epochs))
        done = self._done
        if state != "pending":
            self._read(trial.id, Tail(self._folder.trial(trial.id).path / "events.jsonl"))
        self._done = done  # what earlier runs did says nothing of this one's speed

    def started(self, trial_id: str, where: str) -> None:
        self._tails[trial_id] = Tail(self._folder.trial(trial_id).path / "events.jsonl")
        self._set(replace(self._trials[trial_id], state="running", where=where))

    def ended(self, trial_id: str, note: str = "") -> None:
        """An attempt ended without a record."""
        self._read(trial_id, self._tails.pop(trial_id))
        now = replace(self._trials[trial_id], state="interrupted", where="", note=note)
        self._set(replace(now, images_per_second=None))

    def finished(self, trial: Trial, record: Record) -> None:
        """A record, of this run or an earlier one."""
        tail = self._tails.pop(trial.id, None)
        if tail is not None:
            self._read(trial.id, tail)
        epochs, epoch = trial.recipe.epochs, len(record.curve)
        value = self._by.of_metrics(record.metrics)
        note = record.error.partition("\n")[0]
        now = Progress(trial.id, record.status, epoch, epochs, value, note=note)
        if trial.id in self._weights:
            self._left -= self._weights.pop(trial.id) * (epochs - self._reached.pop(trial.id))
        self._set(now)
        best = None if self._best is None else self._best.metric
        if record.status != "complete" or value is None:
            return
        if best is None or self._by.merit(value) > self._by.merit(best):
            self._best = now

    def poll(self) -> None:
        """Read what the running trials have told since."""
        for trial_id, tail in self._tails.items():
            self._read(trial_id, tail)

    def _read(self, trial_id: str, tail: Tail) -> None:
        for event in tail.read():
            if "epoch" in event:
                self._epoch(trial_id, event)
            elif "in_epoch" in event:
                self._sign_of_life(trial_id, event)

    def _epoch(self, trial_id: str, event: Mapping[str, Any]) -> None:
        before = self._trials[trial_id]
        epoch = min(max(before.epoch, event["epoch"]), before.epochs)
        self._advance(trial_id, epoch)
        value, speed = self._by.of_metrics(event), event.get("images_per_second")
        self._set(replace(before, epoch=epoch, metric=value, images_per_second=speed))

    def _sign_of_life(self, trial_id: str, event: Mapping[str, Any]) -> None:
        """Of a long epoch: it counts as far as it has got."""
        self._advance(trial_id, event["in_epoch"] - 1 + event["step"] / event["steps"])
        speed = event.get("images_per_second")
        self._set(replace(self._trials[trial_id], images_per_second=speed))

    def _advance(self, trial_id: str, epochs: float) -> None:
        """So many epochs are done; what is done twice, from a checkpoint on, counts once."""
        before = self._reached[trial_id]
        self._reached[trial_id] = max(before, min(epochs, self._trials[trial_id].epochs))
        work = self._weights[trial_id] * (self._reached[trial_id] - before)
        self._left, self._done = self._left - work, self._done + work

    def _set(self, now: Progress) -> None:
        if before := self._trials.get(now.trial_id):
            self._counts[before.state] -= 1
        self._counts[now.state] += 1
        self._trials[now.trial_id] = now

    def _expected_total(self) -> int | None:
        if self._total is None and (self._sure or self._at_most):
            return max(self._at_most, len(self._trials))
        return self._total

    def _unknown_work(self) -> float:
        """Of trials that are to come and not chosen yet: the mean of those that are known."""
        unknown = max(0, self._at_most - len(self._trials))
        return unknown * self._planned_work / max(1, len(self._trials))

    def snapshot(self, message: str = "") -> Snapshot:
        seconds = time.monotonic() - self._began
        speeds = (self._trials[i].images_per_second for i in self._tails)
        total = self._expected_total()
        known = total is not None and self._done > 0
        left = self._left + self._unknown_work()
        return Snapshot(
            name=self._study.name,
            metric=self._study.metric,
            total=total,
            counts=self.counts,
            trials=dict(self._trials),
            best=self._best,
            images_per_second=sum(speed for speed in speeds if speed),
            seconds=seconds,
            eta_seconds=left * seconds / self._done if known else None,
            open_ended=self._total is None and not self._at_most,
            message=message,
        )
