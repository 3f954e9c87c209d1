"""One trial on disk. Its state is read off the files, never stored.

``spec.json`` is written before launch, ``events.jsonl`` gets a line per epoch, ``attempts.jsonl`` a
line per attempt that broke, and ``record.json`` comes once and at last. A record means finished; a
held lock, running; a checkpoint or an event, interrupted; else the trial is pending.
"""

import json
import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from archsearch.storage import checkpoint, lock
from archsearch.storage.files import (
    Damaged,
    append_json,
    log,
    quarantine,
    read_json,
    read_lines,
    sync_folder,
    well_formed,
    write_json,
)
from archsearch.storage.request import record_of, trial_of
from archsearch.study import SCHEMA, Record, Trial, canonical_json

State = Literal["pending", "running", "interrupted", "complete", "diverged", "failed"]
Glance = tuple[State, Mapping[str, float | int | None]]
FINISHED: tuple[State, ...] = ("complete", "diverged", "failed")

_RECORD_HEAD = re.compile(
    rf'{{"schema":{SCHEMA},"trial_id":"[0-9a-f]{{16}}",'
    r'"status":"(complete|diverged|failed)","metrics":'
)
_ASIDE = re.compile(r"record\.failed-(\d+)\.json")
_HEAD_BYTES = 4096
_JSON = json.JSONDecoder()


def read_checked(path: Path, schemas: tuple[int, ...] = (SCHEMA,)) -> dict[str, Any]:
    """A file of ours, of one of the layouts that this version reads.

    Raises:
        ValueError: for a newer layout, saying what to do.
    """
    values = read_json(path)
    if (schema := values.get("schema")) not in schemas:
        raise ValueError(
            f"{path} has layout {schema}, this archsearch reads {max(schemas)}: "
            "use the version that wrote it, or another folder"
        )
    return values


def glance(folder: str) -> Glance | None:
    """A trial's status and metrics from the first and last bytes of its record, None without one.

    A record is one line in which these come first; its curve may be long. 10,000 are asked at once,
    so this goes without a `TrialFolder` and its paths.
    """
    try:
        fd = os.open(folder + "/record.json", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        head = os.pread(fd, _HEAD_BYTES, 0).decode(errors="replace")
        whole = os.pread(fd, 2, max(0, os.fstat(fd).st_size - 2)) == b"}\n"
    finally:
        os.close(fd)
    if whole and (begin := _RECORD_HEAD.match(head)):
        with suppress(json.JSONDecodeError):
            return cast(State, begin[1]), _JSON.raw_decode(head, begin.end())[0]
    record = TrialFolder(folder).record()
    return None if record is None else (record.status, dict(record.metrics))


class TrialFolder:
    """The files of one trial. Whoever changes them holds `lock`."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def id(self) -> str:
        return self.path.name

    def lock(self, wait_seconds: float = 1.0) -> AbstractContextManager[None]:
        """A context in which this process works on the trial; `Locked` when another does."""
        return lock.hold(self.path / "lock", wait_seconds)

    def trial(self) -> Trial:
        """What to train, from spec.json.

        Raises:
            FileNotFoundError: when it was never launched.
            ValueError: when the file is damaged, or is not the spec of this folder.
        """
        path = self.path / "spec.json"
        with well_formed(path):
            trial = trial_of(read_checked(path))
        if trial.id != self.id:
            raise ValueError(f"{path} describes the trial {trial.id}, not {self.id}")
        return trial

    def write_spec(self, trial: Trial) -> None:
        """Write spec.json, unless it says the same already (data may have moved since).

        Raises:
            ValueError: the trial's id is one of an earlier version, which trained it otherwise.
        """
        if replace(trial).id != trial.id:
            raise ValueError(
                f"the trial {trial.id} was planned by another version of archsearch, whose results "
                "differ: it can be read, and trained anew in another folder"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / "spec.json"
        with suppress(FileNotFoundError, Damaged):
            if canonical_json(read_checked(path)) == canonical_json(trial.to_dict()):
                return
        write_json(path, trial.to_dict())

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Add a line to events.jsonl, on the disk when this returns. NaN becomes null."""
        append_json(self.path / "events.jsonl", event)

    def events(self) -> list[dict[str, Any]]:
        """Every whole event, in the order of writing; a torn line is left out."""
        return read_lines(self.path / "events.jsonl")

    def curve(self) -> tuple[dict[str, Any], ...]:
        """One event per epoch, in order: the last where an epoch was repeated after a crash."""
        by_epoch = {event["epoch"]: event for event in self.events() if "epoch" in event}
        return tuple(by_epoch[epoch] for epoch in sorted(by_epoch))

    def save_checkpoint(self, state: Mapping[str, Any], epoch: int, best: bool = False) -> None:
        """See `archsearch.storage.checkpoint.save`."""
        checkpoint.save(self.path, state, epoch, best)

    def load_checkpoint(
        self, which: checkpoint.Which = "newest"
    ) -> tuple[int, dict[str, Any]] | None:
        """See `archsearch.storage.checkpoint.load`."""
        return checkpoint.load(self.path, which)

    def append_attempt(self, attempt: Mapping[str, Any]) -> None:
        """Note an attempt that broke, so that a later driver counts on."""
        append_json(self.path / "attempts.jsonl", attempt)

    def attempts(self) -> list[dict[str, Any]]:
        """The attempts that broke, oldest first."""
        return read_lines(self.path / "attempts.jsonl")

    def write_record(self, record: Record) -> None:
        """Finish the trial: once, in one step. Its attempts and damaged files are added.

        Raises:
            RuntimeError: when the trial has a record.
        """
        path = self.path / "record.json"
        if self.record() is not None:
            raise RuntimeError(f"{path} exists: a record is written once")
        if path.exists():
            quarantine(path, "it is damaged")
        notes = (*record.notes, *self._history())
        broke = len(self.attempts())  # a failure's last attempt is among them
        attempts = max(1, broke) if record.status == "failed" else broke + 1
        full = replace(record, attempts=attempts, notes=notes)
        write_json(path, {"schema": SCHEMA, **full.to_dict()})

    def record(self) -> Record | None:
        """What came of the trial, or None while nothing has (or the file is damaged: told)."""
        path = self.path / "record.json"
        try:
            with well_formed(path):
                return record_of(read_checked(path))
        except FileNotFoundError:
            return None
        except Damaged as error:
            log.warning("%s; the trial counts as not finished", error)
            return None

    def _history(self) -> list[str]:
        """What a reader of the record should know of the folder: damage, and earlier failures."""
        earlier, damaged = self._earlier()
        names = sorted([*(p.name for p in self.path.glob("*.corrupt")), *damaged])
        broken = [f"damaged, not used: {name}" for name in names]
        return broken + [f"failed before: {old.kind}" for old in earlier]

    def set_record_aside(self) -> None:
        """Make a failed trial runnable again: its record and attempts stay, numbered."""
        names = (_ASIDE.fullmatch(path.name) for path in self.path.iterdir())
        n = 1 + max((int(match[1]) for match in names if match), default=0)
        for name in ("attempts.jsonl", "record.json"):  # the record last: it is what finishes
            path = self.path / name
            with suppress(FileNotFoundError):
                path.replace(path.with_name(f"{path.stem}.failed-{n}{path.suffix}"))
        sync_folder(self.path)

    def earlier_records(self) -> list[Record]:
        """The records that were set aside and can be read, in no order that matters."""
        return self._earlier()[0]

    def _earlier(self) -> tuple[list[Record], list[str]]:
        """The records that were set aside, and the names of those that are damaged."""
        found, damaged = list[Record](), list[str]()
        for path in self.path.glob("record.failed-*.json"):
            try:
                with well_formed(path):
                    found.append(record_of(read_checked(path)))
            except Damaged:
                damaged.append(path.name)
        return found, damaged

    def glance(self) -> Glance | None:
        """See `glance`."""
        return glance(str(self.path))

    def state(self) -> State:
        """Where the trial stands, from its files and lock."""
        if seen := self.glance():
            return seen[0]
        if lock.is_held(self.path / "lock"):
            return "running"
        begun = (self.path / "events.jsonl").exists() or checkpoint.stored(self.path)
        return "interrupted" if begun else "pending"
