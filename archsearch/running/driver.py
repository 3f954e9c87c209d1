"""The loop behind `archsearch.running.run`: keep the runner's slots full, judge what comes back.

Single-threaded. The runner knows how to run, the folder knows what is done, and this decides: what
is launched next, what is tried again, what is a failure, and when to stop.
"""

import errno
import re
import shlex
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from archsearch.core.versions import versions
from archsearch.running.progress import Snapshot, Tracker
from archsearch.running.runners import Name, Place, Runner, open_runner
from archsearch.running.stopping import Stopping, StudyStopped
from archsearch.running.work import ORPHAN_SECONDS, Job, Outcome
from archsearch.storage import checkpoint
from archsearch.storage.files import log
from archsearch.storage.study_folder import FINISHED, StudyFolder, TrialFolder
from archsearch.study import Record, Trial

TICK_SECONDS = 0.25

RETRIES = {"out-of-memory": 1, "data": 0}
"""Attempts beyond the first without progress: a fresh process may have the memory, bad data stays
bad. Every other kind gets `CRASH_RETRIES`."""

CRASH_RETRIES = 2

EARLY_FAILURES = 3
"""So many equal failures in a row, before any epoch, are the study's and not the trials'."""


@dataclass(frozen=True)
class Listeners:
    """Who wants to know: of the state of things, and of each trial's record."""

    on_change: Callable[[Snapshot], None] | None = None
    on_record: Callable[[Trial, Record], None] | None = None


class Driver:
    """One run of a plan. Make it, `plan`, `run`, `raise_if_stopped`; the study's lock is held."""

    def __init__(
        self,
        folder: StudyFolder,
        tracker: Tracker,
        place: Place,
        listeners: Listeners,
        stopping: Stopping,
    ) -> None:
        self._folder, self._tracker, self._place = folder, tracker, place
        self._listeners = listeners
        self._plan: Iterator[Trial | None] = iter(())
        self._again: deque[Trial] = deque()
        self._running: dict[str, Trial] = {}
        self._seen: set[str] = set()
        self._early: list[str] = []
        self._runner: Runner | None = None
        self._stopping = stopping
        self._asked_runner = False
        self._next_tell = 0.0

    def plan(self, trials: Iterable[Trial | None]) -> int | None:
        """Take the plan; of a finished list, what is left is known at once and returned."""
        if not isinstance(trials, Sequence):
            self._plan = self._fresh(trials)
            return None
        left = [trial for trial in self._fresh(trials) if trial is not None]
        self._plan = iter(left)
        return len(left)

    def _fresh(self, trials: Iterable[Trial | None]) -> Iterator[Trial | None]:
        """What of ``trials`` is still to do, each once; records that are there are told."""
        for trial in trials:
            if trial is None:
                yield None
            elif trial.id not in self._seen:
                self._seen.add(trial.id)
                state = self._folder.trial(trial.id).state()
                if state in FINISHED and self._take_record(trial, ours=False):
                    continue
                self._tracker.planned(trial, "pending" if state in FINISHED else state)
                yield trial

    def run(self, name: Name) -> None:
        """Work until the plan is done or a reason to stop has come up."""
        opened = closing(open_runner(name, self._place, self.tick))
        with opened as self._runner, self._stopping.on_signals():
            self._loop(self._runner)

    def _loop(self, runner: Runner) -> None:
        while True:
            with self._stopping.on_full_disk(self._folder.path):
                self._fill(runner)
            if not self._running:
                return
            for outcome in runner.poll(TICK_SECONDS):
                with self._stopping.on_full_disk(self._folder.path):
                    self._settle(outcome)
            self.tick()

    def _fill(self, runner: Runner) -> None:
        while not self._stopping and len(self._running) < runner.slots:
            trial = self._again.popleft() if self._again else next(self._plan, None)
            if trial is None:
                return
            folder = self._folder.trial(trial.id)
            folder.write_spec(trial)
            study = str(self._folder.path.resolve())
            where = runner.submit(Job(study, trial.id, self._place.work, self._place.device))
            self._running[trial.id] = trial
            self._tracker.started(trial.id, where)

    def tick(self) -> None:
        """Several times a second: pass a stop on, mind the time, tell how things are."""
        self._stopping.mind_the_time()
        if self._stopping.reason is not None and self._runner is not None:
            if not self._asked_runner:
                log.warning(self._stopping.reason.announced)
                self._runner.ask_stop()
            self._asked_runner = True
        now = time.monotonic()
        if now >= self._next_tell:
            self._next_tell = now + TICK_SECONDS
            self.tell()

    def tell(self) -> None:
        if self._listeners.on_change is not None:
            self._tracker.poll()
            reason = self._stopping.reason
            message = "" if reason is None else reason.announced
            self._listeners.on_change(self._tracker.snapshot(message))

    def _settle(self, outcome: Outcome) -> None:
        trial = self._running.pop(outcome.trial_id)
        if outcome.end == "finished" and self._take_record(trial):
            return
        self._tracker.ended(trial.id, outcome.error)
        if outcome.end == "interrupted" and self._stopping:
            return
        if outcome.kind == "disk-full":
            raise OSError(errno.ENOSPC, outcome.error)
        self._judge(trial, outcome)

    def _take_record(self, trial: Trial, *, ours: bool = True) -> bool:
        """Read the trial's record and tell it; False when the file is damaged.

        One that is not ``ours`` is of an earlier run, and says nothing of how this one goes.
        """
        record = self._folder.trial(trial.id).record()
        if record is None:
            return False
        self._tracker.finished(trial, record)
        if ours:
            self._count_early(record)
        if self._listeners.on_record is not None:
            self._listeners.on_record(trial, record)
        return True

    def _judge(self, trial: Trial, outcome: Outcome) -> None:
        """An attempt broke: try again from the checkpoint, or write the failure down."""
        folder = self._folder.trial(trial.id)
        kind = outcome.kind or "crash"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        error = outcome.error or f"{outcome.end} without being asked to, or its record is damaged"
        note = {"at": now, "kind": kind, "error": error, **_reached(folder)}
        folder.append_attempt(note)
        if _without_progress(folder) <= RETRIES.get(kind, CRASH_RETRIES):
            self._again.append(trial)
        elif kind == "busy":
            self._stopping.because(outcome.error)
        else:
            self._fail(trial, folder, outcome)

    def _fail(self, trial: Trial, folder: TrialFolder, outcome: Outcome) -> None:
        curve = folder.curve()
        record = Record(
            trial.id,
            "failed",
            curve=curve,
            kind=outcome.kind or "crash",
            error=f"{outcome.error}\n{outcome.detail}".strip(),
            seconds=sum(epoch.get("seconds") or 0.0 for epoch in curve),
            versions=versions(),
        )
        with folder.lock(ORPHAN_SECONDS):
            folder.write_record(record)
        self._take_record(trial)

    def _count_early(self, record: Record) -> None:
        """Stop where trial after trial breaks in the same way before its first epoch."""
        if record.status != "failed" or record.curve:
            self._early = []
            return
        error = record.error.partition("\n")[0]
        self._early.append(record.kind + re.sub(r"[0-9a-f]{16}|\d+", "#", error))
        last = self._early[-EARLY_FAILURES:]
        if len(last) == EARLY_FAILURES and len(set(last)) == 1:
            words = f"{EARLY_FAILURES} trials in a row failed in the same way: {error}"
            path = shlex.quote(str(self._folder.path))
            advice = f"Mend it, then `archsearch retry {path} --failed`"
            self._stopping.because(f"{words}\n{advice}")

    def raise_if_stopped(self) -> None:
        """Raises StudyStopped when the plan was not done to its end."""
        if (reason := self._stopping.reason) is None:
            return
        counts = self._tracker.counts
        done = sum(counts.get(state, 0) for state in FINISHED)
        command = shlex.join(self._folder.request()["command"]) or "the same command"
        raise StudyStopped(
            f"stopped: {reason.words}\n{done} of {sum(counts.values())} trials are finished, "
            f"{counts.get('interrupted', 0)} are saved part-way. Go on with: {command}",
            reason.exit_code,
        )


def _reached(folder: TrialFolder) -> dict[str, int]:
    """How far the trial has got: its epochs, and the steps that the newest checkpoint is after."""
    epoch = max((row["epoch"] for row in folder.curve()), default=0)
    steps = max((found.epoch for found in checkpoint.stored(folder.path)), default=0)
    return {"epoch": epoch, "steps": steps}


def _without_progress(folder: TrialFolder) -> int:
    """How many attempts in a row, the last ones, broke where the last one did."""
    reached = [(attempt.get("epoch"), attempt.get("steps")) for attempt in folder.attempts()]
    return next((n for n, at in enumerate(reversed(reached)) if at != reached[-1]), len(reached))
