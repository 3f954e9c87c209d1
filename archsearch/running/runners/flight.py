"""A job that is at work on another machine, whose reply may be late or never come."""

import time
from dataclasses import dataclass
from typing import Any

from archsearch.running.runners.ray_nodes import Node
from archsearch.running.work import Job, Outcome, log_tail
from archsearch.storage import lock
from archsearch.storage.study_folder import StudyFolder, TrialFolder

REPLY_SECONDS = 5.0
"""How long a reply may follow its record; then the record alone ends the trial."""


def trial_folder(job: Job) -> TrialFolder:
    return StudyFolder(job.study).trial(job.trial_id)


@dataclass
class Flight:
    """A job on a node. With ``lost``, the outcome without a record, no reply will come."""

    job: Job
    node: Node
    ref: Any
    lost: Outcome | None = None
    recorded_at: float | None = None

    def is_at_work(self) -> bool:
        return lock.is_held(trial_folder(self.job).path / "lock")

    def on_disk(self) -> Outcome | None:
        """How the trial ended, by its files; None while it is at work or a reply may come."""
        if self.is_at_work():
            return None
        if trial_folder(self.job).record_summary() is None:
            return self.lost
        self.recorded_at = self.recorded_at or time.monotonic()
        if self.lost is None and time.monotonic() - self.recorded_at < REPLY_SECONDS:
            return None
        return Outcome(self.job.trial_id, "finished")

    def lose(self, kind: str, reason: str, detail: str = "") -> None:
        """Expect no reply any more."""
        log_file = trial_folder(self.job).path / "log.txt"
        text = f"{log_tail(log_file)}\n{detail}"
        self.lost = Outcome(self.job.trial_id, "failed", kind, f"worker died: {reason}", text)


class Silence:
    """For how long no answer came. Time in which this process was suspended does not count."""

    def __init__(self) -> None:
        self.seconds, self._last = 0.0, time.monotonic()

    def add(self, answered: bool) -> None:
        now = time.monotonic()
        self.seconds = 0.0 if answered else self.seconds + min(now - self._last, 1.0)
        self._last = now
