"""Trials that another process works on: the driver leaves them to it, and comes back to them.

Such a process is a worker of a driver that was killed, on a host that is cut off, or frozen.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from archsearch.storage.study_folder import FINISHED, StudyFolder, TrialFolder
from archsearch.study import Trial

SILENT_SECONDS = 300.0
"""How long the driver waits for a holder that writes nothing. A training writes every 10 s."""


@dataclass
class _Held:
    trial: Trial
    files: tuple[int, ...]
    changed: float


class HeldTrials:
    """The trials that other processes hold, by id; true while there are any."""

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder
        self._held: dict[str, _Held] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def add(self, trial: Trial) -> None:
        files = _files(self._folder.trial(trial.id))
        self._held[trial.id] = _Held(trial, files, time.monotonic())

    def released(self) -> Iterator[Trial]:
        """The trials that have a record or a free lock by now; they are no longer held."""
        for trial_id, held in list(self._held.items()):
            folder = self._folder.trial(trial_id)
            if folder.state() in FINISHED or not folder.holder():
                del self._held[trial_id]
                yield held.trial
            elif held.files != (files := _files(folder)):
                held.files, held.changed = files, time.monotonic()

    def silence(self) -> str:
        """Which trials are in use and by whom, if no holder wrote in `SILENT_SECONDS`; else empty.

        Also empty if none is held.
        """
        last = max((held.changed for held in self._held.values()), default=None)
        if last is None or time.monotonic() - last < SILENT_SECONDS:
            return ""
        folders = [self._folder.trial(trial_id) for trial_id in self._held]
        lines = [f"{folder.path} is in use by {folder.holder()}" for folder in folders]
        return f"{'; '.join(lines)}, which wrote nothing for {SILENT_SECONDS:.0f} s"


def _files(folder: TrialFolder) -> tuple[int, ...]:
    """What changes when a training writes: the folder's time, and the size of its events."""
    with suppress(FileNotFoundError):
        events = folder.path / "events.jsonl"
        return folder.path.stat().st_mtime_ns, events.stat().st_size
    return ()
