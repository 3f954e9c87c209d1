"""One trial on disk. Its state is derived from the files, never stored.

``spec.json`` is written before launch. ``events.jsonl`` gets a line per epoch, ``attempts.jsonl`` a
line per failed attempt, and ``record.json`` is written once at the end. With a record the trial is
finished; else with a held lock it is running; else with a checkpoint or an event it is interrupted;
else it is pending.
"""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from archsearch.storage import checkpoint, lock
from archsearch.storage.family_sources import read_sources
from archsearch.storage.files import (
    append_json,
    plain_json,
    quarantine,
    sync_folder,
    write_json,
)
from archsearch.storage.record_file import (
    RecordSummary,
    State,
    quick_summary,
    read_record,
    with_head_checksum,
)
from archsearch.storage.record_values import check_event, check_record
from archsearch.storage.request import trial_of, typed
from archsearch.storage.stored_json import read_checked, read_lines, warn_once, well_formed
from archsearch.study import SCHEMA, Record, Trial, canonical_json

SPEC = "spec.json"
PREDICTIONS = "predictions.npz"
"""What a detector or segmenter predicts in a few held-out images (`archsearch.scenes`)."""

_EARLIER_RECORD = re.compile(r"record\.failed-(\d+)\.json")


def record_summary(folder: str) -> RecordSummary | None:
    """Status and metrics from the first and last bytes of a trial's record; None without one.

    A record is one line that begins with these; its curve may be long. A status command reads
    10,000 of them, so this avoids a `TrialFolder` and its paths.
    """
    return quick_summary(folder) or _summary_of(TrialFolder(folder).record())


def _summary_of(record: Record | None) -> RecordSummary | None:
    return None if record is None else (record.status, dict(record.metrics))


@dataclass
class _Attempt:
    """A line of attempts.jsonl."""

    at: str = ""
    kind: str = ""
    error: str = ""
    epoch: int | None = None
    steps: int | None = None


def _check_attempt(values: Mapping[str, Any]) -> None:
    typed(values, _Attempt)


class TrialFolder:
    """The files of one trial. A process that changes them holds `lock`.

    Its records name the trial, by default the folder's name; a training outside of a study has no
    trial, and names "".
    """

    def __init__(self, path: Path | str, trial_id: str | None = None) -> None:
        self.path = Path(path)
        self.id = self.path.name if trial_id is None else trial_id

    def lock(self, wait_seconds: float = 1.0) -> AbstractContextManager[None]:
        """A context in which this process works on the trial; `Locked` if another process does."""
        return lock.hold(self.path / "lock", wait_seconds)

    def trial(self) -> Trial:
        """The trial in spec.json.

        Raises:
            FileNotFoundError: the trial was never launched.
            ValueError: the file is damaged, or describes another trial.
        """
        path = self.path / SPEC
        values = read_checked(path)
        if isinstance(variant := values.get("variant"), dict):
            read_sources(self.path.parent.parent, [variant])
        with well_formed(path):
            trial = trial_of(values)
        if trial.id != self.id:
            raise ValueError(f"{path} describes the trial {trial.id}, not {self.id}")
        return trial

    def write_spec(self, trial: Trial) -> None:
        """Write spec.json, unless it is the same already (its data may have moved).

        Raises:
            ValueError: an earlier version gave the trial its id, and trained it differently.
        """
        if replace(trial).id != trial.id:
            raise ValueError(
                f"the trial {trial.id} was planned by another version of archsearch, whose results "
                "differ: this version can read it; to train it again, use another folder"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / SPEC
        with suppress(FileNotFoundError, ValueError):  # one that cannot be read is written again
            if canonical_json(read_checked(path)) == canonical_json(trial.to_dict()):
                return
        write_json(path, trial.to_dict())

    def has_spec(self) -> bool:
        """Whether spec.json describes this trial."""
        try:
            self.trial()
        except (FileNotFoundError, ValueError):
            return False
        return True

    def holder(self) -> str:
        """The process that works on the trial; empty if none does."""
        return lock.holder_of(self.path / "lock")

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Append a line to events.jsonl and flush it to the disk. NaN becomes null."""
        append_json(self.path / "events.jsonl", event)

    def append_notes(self, notes: Iterable[str]) -> None:
        """Store what the record must note, once each."""
        for note in notes:
            if note not in self._notes():
                self.append_event({"note": note})

    def _notes(self) -> list[str]:
        return [event["note"] for event in self.events() if "note" in event]

    def events(self) -> list[dict[str, Any]]:
        """Every event in the order of writing; a damaged line is left out with a warning."""
        return read_lines(self.path / "events.jsonl", check_event)

    def curve(self) -> tuple[dict[str, Any], ...]:
        """One event per epoch, in order; the last one of an epoch repeated after a crash."""
        by_epoch = {event["epoch"]: event for event in self.events() if "epoch" in event}
        return tuple(by_epoch[epoch] for epoch in sorted(by_epoch))

    def save_checkpoint(self, state: Mapping[str, Any], steps: int, best: bool = False) -> None:
        """See `archsearch.storage.checkpoint.save`."""
        checkpoint.save(self.path, state, steps, best)

    def load_checkpoint(
        self, check: checkpoint.Check | None = None
    ) -> tuple[int, dict[str, Any]] | None:
        """See `archsearch.storage.checkpoint.load`."""
        return checkpoint.load(self.path, check=check)

    def append_attempt(self, attempt: Mapping[str, Any]) -> None:
        """Store a failed attempt, so that a later driver counts it."""
        append_json(self.path / "attempts.jsonl", attempt)

    def attempts(self) -> list[dict[str, Any]]:
        """The failed attempts, oldest first."""
        return read_lines(self.path / "attempts.jsonl", _check_attempt)

    def write_record(self, record: Record) -> None:
        """Finish the trial: write its record once, in one step.

        The number of attempts and notes on damaged files and earlier failures are added.

        Raises:
            RuntimeError: the trial has a record already.
            ValueError: the record is of another trial, or a number is out of range, such as an
                accuracy of a user's task that is not in percent.
        """
        path = self.path / "record.json"
        if self.record() is not None:
            raise RuntimeError(f"{path} exists: a record is written once")
        if os.path.lexists(path):
            quarantine(path, "it is damaged")
        notes = (*record.notes, *self._history())
        num_failed = len(self.attempts())  # includes the last attempt of a failed trial
        attempts = max(1, num_failed) if record.status == "failed" else num_failed + 1
        full = replace(record, attempts=attempts, notes=notes)
        values = plain_json({"schema": SCHEMA, **full.to_dict()})
        check_record(typed(values, Record), self.id)
        write_json(path, with_head_checksum(values))

    def record(self) -> Record | None:
        """The trial's record; None without one, or with a warning if the file is damaged."""
        try:
            return read_record(self.path / "record.json", self.id)
        except FileNotFoundError:
            return None
        except ValueError as error:
            warn_once(f"{error}; the trial counts as not finished")
            return None

    def _history(self) -> list[str]:
        """Notes for the record: those stored before, damaged files and earlier failures."""
        earlier, damaged_records = self.earlier_records()
        damaged = sorted([*(p.name for p in self.path.glob("*.corrupt")), *damaged_records])
        notes = [f"damaged, not used: {name}" for name in damaged]
        return self._notes() + notes + [_before(record) for record in earlier]

    def set_record_aside(self) -> None:
        """Make a failed trial runnable again: rename its record and attempts, numbered."""
        names = (_EARLIER_RECORD.fullmatch(path.name) for path in self.path.iterdir())
        n = 1 + max((int(match[1]) for match in names if match), default=0)
        for name in ("attempts.jsonl", "record.json"):  # the record last: with it, it is finished
            path = self.path / name
            with suppress(FileNotFoundError):
                path.replace(path.with_name(f"{path.stem}.failed-{n}{path.suffix}"))
        sync_folder(self.path)

    def earlier_records(self) -> tuple[list[Record], list[str]]:
        """The records that were set aside, in any order, and the names of the damaged ones."""
        records, damaged = list[Record](), list[str]()
        for path in self.path.glob("record.failed-*.json"):
            try:
                records.append(read_record(path, self.id))
            except ValueError:
                damaged.append(path.name)
        return records, damaged

    def record_summary(self) -> RecordSummary | None:
        """See `record_summary`."""
        return quick_summary(str(self.path)) or _summary_of(self.record())

    def state(self) -> State:
        """The state of the trial, from its files and lock."""
        if summary := self.record_summary():
            return summary[0]
        if lock.is_held(self.path / "lock"):
            return "running"
        started = (self.path / "events.jsonl").exists() or checkpoint.stored(self.path)
        return "interrupted" if started else "pending"


def _before(record: Record) -> str:
    """A note of a record that was set aside: a failure, or a time that was not stable."""
    return f"failed before: {record.kind}" if record.status == "failed" else "measured before"
