"""The loop of `archsearch.running.run`: keep the runner's slots full and handle the outcomes.

It is single-threaded. The runner runs jobs and the folder stores results; the driver decides what
to launch next, what to retry, what has failed, and when to stop.
"""

import re
import shlex
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import UTC, datetime

from archsearch.core.versions import versions
from archsearch.running.held import HeldTrials
from archsearch.running.progress import ProgressTracker, Snapshot
from archsearch.running.runners import Runner, RunnerName, RunnerOptions, open_runner
from archsearch.running.stopping import STORAGE_FAILED, StopRequest, StudyStopped
from archsearch.running.work import LOST, Job, Outcome
from archsearch.storage import checkpoint
from archsearch.storage.files import log
from archsearch.storage.lock import Locked
from archsearch.storage.resume import resume_command
from archsearch.storage.study_folder import FINISHED, StudyFolder, TrialFolder
from archsearch.study import Record, Trial

TICK_SECONDS = 0.25
"""How long a runner is polled, and how often progress is reported."""

RETRIES = {"out-of-memory": 1, "data": 0}
"""Retries without progress: a fresh process may have enough memory, but damaged data stays
damaged. Every other kind of failure gets `CRASH_RETRIES`."""

CRASH_RETRIES = 2

LOST_EXIT_CODE = 128 + signal.SIGTERM
"""The cluster was taken away, as by SIGTERM: the same command resumes."""

EARLY_FAILURES = 3
"""This many equal failures in a row, before any epoch, are caused by the study, not by trials."""


@dataclass(frozen=True)
class Callbacks:
    """What the driver calls with the study's progress, and with each trial's record."""

    on_change: Callable[[Snapshot], None] | None = None
    on_record: Callable[[Trial, Record], None] | None = None


class Driver:
    """One run of a plan: call `plan`, `run`, then `raise_if_stopped`, under the study's lock."""

    def __init__(
        self,
        folder: StudyFolder,
        tracker: ProgressTracker,
        options: RunnerOptions,
        callbacks: Callbacks,
        stop: StopRequest,
        command: Sequence[str],
    ) -> None:
        self._folder, self._tracker, self._options = folder, tracker, options
        self._callbacks, self._stop, self._command = callbacks, stop, command
        self._plan: Iterator[Trial | None] = iter(())
        self._retries: deque[Trial] = deque()
        self._running: dict[str, Trial] = {}
        self._held = HeldTrials(folder)
        self._planned_ids: set[str] = set()
        self._early_failures: list[str] = []
        self._runner: Runner | None = None
        self._runner_stopping = False
        self._next_report = 0.0

    def plan(self, trials: Iterable[Trial | None]) -> int | None:
        """Take the plan; returns how many trials are left, or None for a generator."""
        if not isinstance(trials, Sequence):
            self._plan = self._unfinished(trials)
            return None
        left = [trial for trial in self._unfinished(trials) if trial is not None]
        self._plan = iter(left)
        return len(left)

    def _unfinished(self, trials: Iterable[Trial | None]) -> Iterator[Trial | None]:
        """The trials without a record, each once; existing records are reported."""
        for trial in trials:
            if trial is None:
                yield None
            elif trial.id not in self._planned_ids:
                self._planned_ids.add(trial.id)
                folder = self._folder.trial(trial.id)
                state = folder.state()
                if state in FINISHED and not folder.has_spec():
                    folder.write_spec(trial)  # without it, the trial is not there for readers
                if state in FINISHED and self._report_record(trial, of_this_run=False):
                    continue
                self._tracker.planned(trial, "pending" if state in FINISHED else state)
                yield trial

    def run(self, name: RunnerName) -> None:
        """Run trials until the plan is done or a stop is requested."""
        opened = closing(open_runner(name, self._options, self.tick))
        with opened as self._runner, self._stop.on_signals():
            self._loop(self._runner)

    def _loop(self, runner: Runner) -> None:
        while True:
            with self._on_storage_error():
                self._return_to_held()
                self._fill(runner)
            if not self._running and (self._stop or not self._held):
                return
            for outcome in self._poll(runner):
                with self._on_storage_error():
                    self._handle(outcome)
            with self._on_storage_error():
                self.tick()

    def _on_storage_error(self) -> AbstractContextManager[None]:
        return self._stop.on_storage_error(self._folder.path)

    def _poll(self, runner: Runner) -> list[Outcome]:
        if self._running:
            return runner.poll(TICK_SECONDS)
        if silence := self._held.silence():  # other processes hold every trial that is left
            self._stop.set_reason(silence)
        time.sleep(TICK_SECONDS)
        return []

    def _fill(self, runner: Runner) -> None:
        self._tracker.set_workers(runner.slots)
        while not self._stop and len(self._running) < runner.slots:
            trial = self._retries.popleft() if self._retries else next(self._plan, None)
            if trial is None:
                return
            folder = self._folder.trial(trial.id)
            if folder.holder():
                self._leave(trial)
                continue
            folder.write_spec(trial)
            study = str(self._folder.path.resolve())
            job = Job(study, trial.id, self._options.work, self._options.device)
            worker = runner.submit(job)
            self._running[trial.id] = trial
            self._tracker.started(trial.id, worker)

    def _leave(self, trial: Trial) -> None:
        """Leave the trial to the process that holds it; the others continue."""
        folder = self._folder.trial(trial.id)
        holder = folder.holder() or "another process"
        log.warning("%s is in use by %s, and left to it for now", folder.path, holder)
        self._held.add(trial)
        self._tracker.started(trial.id, f"left to {holder}", ours=False)

    def _return_to_held(self) -> None:
        """Take the trials back that other processes have finished or released."""
        for trial in self._held.released():
            if not self._report_record(trial):
                self._tracker.ended(trial.id)
                self._retries.append(trial)

    def tick(self) -> None:
        """Called several times a second: pass a stop request on, and report progress."""
        self._stop.check_deadline()
        if self._stop.reason is not None and self._runner is not None:
            if not self._runner_stopping:
                self._runner.request_stop()
                log.warning(self._stop.reason.announcement)
            self._runner_stopping = True
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + TICK_SECONDS
            self.report_progress()

    def report_progress(self) -> None:
        if self._callbacks.on_change is not None:
            self._tracker.poll()
            reason = self._stop.reason
            message = "" if reason is None else reason.announcement
            self._callbacks.on_change(self._tracker.snapshot(message))

    def _handle(self, outcome: Outcome) -> None:
        trial = self._running.pop(outcome.trial_id)
        if outcome.end == "finished" and self._report_record(trial):
            return
        self._tracker.ended(trial.id, outcome.error)
        if outcome.kind == LOST:
            self._stop.set_reason(outcome.error, LOST_EXIT_CODE)
        if outcome.end == "interrupted" and self._stop:
            return
        if outcome.kind == "storage":
            self._stop.set_reason(f"{STORAGE_FAILED}: {outcome.error}")
        elif outcome.kind == "busy":
            self._leave(trial)
        else:
            self._retry_or_fail(trial, outcome)

    def _report_record(self, trial: Trial, *, of_this_run: bool = True) -> bool:
        """Read and report the trial's record; False if the file is damaged.

        Records of earlier runs do not count as failures of this run.
        """
        record = self._folder.trial(trial.id).record()
        if record is None:
            return False
        self._tracker.finished(trial, record)
        if of_this_run:
            self._count_early_failure(record)
        if self._callbacks.on_record is not None:
            self._callbacks.on_record(trial, record)
        return True

    def _retry_or_fail(self, trial: Trial, outcome: Outcome) -> None:
        """After a failed attempt, retry from the checkpoint or write a record of the failure."""
        folder = self._folder.trial(trial.id)
        kind = outcome.kind or "crash"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        damaged = outcome.end == "finished"
        reason = "its record is damaged" if damaged else "interrupted without a stop request"
        error = outcome.error or reason
        folder.append_attempt({"at": now, "kind": kind, "error": error, **_position(folder)})
        if _attempts_without_progress(folder) <= RETRIES.get(kind, CRASH_RETRIES):
            self._retries.append(trial)
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
            notes=trial.data.record_notes,
        )
        try:
            with folder.lock():
                folder.write_record(record)
        except Locked:
            self._leave(trial)
        else:
            self._report_record(trial)

    def _count_early_failure(self, record: Record) -> None:
        """Stop if trials in a row fail with the same error before their first epoch."""
        if record.status != "failed" or record.curve:
            self._early_failures = []
            return
        error = record.error.partition("\n")[0]
        self._early_failures.append(record.kind + re.sub(r"[0-9a-f]{16}|\d+", "#", error))
        last = self._early_failures[-EARLY_FAILURES:]
        if len(last) == EARLY_FAILURES and len(set(last)) == 1:
            path = shlex.quote(str(self._folder.path))
            self._stop.set_reason(
                f"{EARLY_FAILURES} trials in a row failed in the same way: {error}\n"
                f"Fix the cause, then run `archsearch retry {path} --failed`"
            )

    def raise_if_stopped(self) -> None:
        """Raise an error if the run stopped before its plan was done.

        Raises:
            StudyStopped: it did; the message says why, and how to resume.
        """
        if (reason := self._stop.reason) is None:
            return
        counts = self._tracker.counts
        done = sum(counts.get(state, 0) for state in FINISHED)
        command = resume_command(self._command, self._folder.path)
        raise StudyStopped(
            f"stopped: {reason.message}\n{done} of {sum(counts.values())} trials are finished, "
            f"{counts.get('interrupted', 0)} are interrupted and saved. Resume with: {command}",
            reason.exit_code,
        )


def _position(folder: TrialFolder) -> dict[str, int]:
    """How far the trial is: finished epochs, and the optimizer steps of its newest checkpoint."""
    epoch = max((row["epoch"] for row in folder.curve()), default=0)
    steps = max((stored.steps for stored in checkpoint.stored(folder.path)), default=0)
    return {"epoch": epoch, "steps": steps}


def _attempts_without_progress(folder: TrialFolder) -> int:
    """How many of the last attempts in a row failed at the position of the last one."""
    positions = [(attempt.get("epoch"), attempt.get("steps")) for attempt in folder.attempts()]
    others = (n for n, at in enumerate(reversed(positions)) if at != positions[-1])
    return next(others, len(positions))
