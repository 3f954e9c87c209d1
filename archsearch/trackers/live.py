"""Trackers of a run that is training: exports in processes of their own, as trainings end.

A tracker that fails or does not answer changes nothing of a training. Exports of one tracker follow
each other with pauses, and each has a limit of time; the end of a run waits `FINAL_SECONDS`.
"""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from archsearch.trackers import TRACKERS, check_package

PAUSE_SECONDS = 30.0
PAUSE_PER_SECOND = 19.0
"""The pause after an export: at least the first, and so many times the export's own time. So
exports take 5% of one core, or less."""

LIMIT_SECONDS = 120
"""An export that takes longer ends itself; what it wrote counts."""

FINAL_SECONDS = 30.0
"""How long the end of a run waits for its trackers, all of them together."""

POLL_SECONDS = 0.05

PROGRAM = ("-P", "-m", "archsearch.trackers")
"""What Python runs as an export."""


@dataclass(frozen=True)
class Log:
    """A tracker and where it is written to: ``tensorboard:tb``."""

    tracker: str
    target: str

    def command(self, run: Path) -> str:
        """The command that writes a run to the tracker."""
        return shlex.join(["archsearch", "export", str(run), f"--{self.tracker}", self.target])


def parse_log(text: str) -> Log:
    """The tracker that ``tensorboard:DIR``, ``wandb:DIR`` or ``mlflow:URI`` names.

    Raises:
        ValueError: it is none of them, or its package is not installed.
    """
    tracker, _, target = text.partition(":")
    if tracker not in TRACKERS or not target:
        raise ValueError(f"log must be tensorboard:DIR, wandb:DIR or mlflow:URI, got {text!r}")
    check_package(tracker)
    return Log(tracker, target)


class Live:
    """The trackers of one run; call `add` when a training has ended, and `poll` often.

    Args:
        logs: the trackers.
        folder: what is exported, under ``name``; by default under the name of the folder.
        run: the folder that a user exports, if that is another one.
        say: prints a message.
    """

    def __init__(
        self,
        logs: Iterable[Log],
        folder: Path,
        say: Callable[[str], None],
        name: str = "",
        run: Path | None = None,
    ) -> None:
        self._exports = [_Export(log, folder, name, run or folder, say) for log in logs]

    def add(self) -> None:
        """Export soon: there is a new record."""
        for export in self._exports:
            export.is_due = True
        self.poll()

    def poll(self) -> None:
        """Start and end exports. It does not wait."""
        for export in self._exports:
            export.poll()

    def close(self) -> None:
        """Export what is left, for at most `FINAL_SECONDS`."""
        deadline = time.monotonic() + FINAL_SECONDS
        try:
            for export in self._exports:
                export.is_last = True
            while time.monotonic() < deadline and any(e.is_busy for e in self._exports):
                self.poll()
                time.sleep(POLL_SECONDS)
        finally:
            for export in self._exports:
                export.end()


class _Export:
    """The exports of one run to one tracker, one at a time."""

    def __init__(
        self, log: Log, folder: Path, name: str, run: Path, say: Callable[[str], None]
    ) -> None:
        self._log, self._run, self._say = log, run, say
        self._arguments = [str(folder), name, log.tracker, log.target, str(LIMIT_SECONDS)]
        self._process: subprocess.Popen[bytes] | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  closed by `end`
        self._started = self._next = 0.0
        self._has_failed = False
        self.is_due = self.is_last = False

    @property
    def is_busy(self) -> bool:
        """Whether an export runs or is due."""
        return self.is_due or self._process is not None

    def poll(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            self._ended(self._process.returncode)
        is_time = self.is_last or time.monotonic() >= self._next
        if self._process is None and self.is_due and is_time:
            self._start()

    def _start(self) -> None:
        self._started, self.is_due = time.monotonic(), False
        self._output.seek(0)
        self._output.truncate()
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, *PROGRAM, *self._arguments],
            stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output,
            env=env, process_group=0,
        )  # fmt: skip

    def _ended(self, code: int) -> None:
        """Plan the next export; a failed one is repeated, but at the end of a run only once."""
        now = time.monotonic()
        self._process = None
        self._next = now + max(PAUSE_SECONDS, PAUSE_PER_SECOND * (now - self._started))
        if code:
            self.is_due = not self.is_last
            self._fail(self._reason(code))

    def _reason(self, code: int) -> str:
        if code == -signal.SIGALRM:
            return f"no end after {LIMIT_SECONDS} seconds"
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), f"exit code {code}")

    def _fail(self, reason: str) -> None:
        """Say it, once."""
        if not self._has_failed:
            self._say(
                f"{TRACKERS[self._log.tracker]} was not written: {reason}. This changes nothing of "
                f"the trainings. To write them later: {self._log.command(self._run)}"
            )
        self._has_failed = True

    def end(self) -> None:
        """Kill an export that still runs."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._fail("it took too long at the end of the run")
        self._output.close()


def export_now(logs: Sequence[Log], folder: Path, say: Callable[[str], None]) -> None:
    """Export a run that has ended, within `FINAL_SECONDS`."""
    live = Live(logs, folder, say)
    live.add()
    live.close()
