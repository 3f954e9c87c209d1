"""Why a study stops before its plan is done: signals, time limit, storage, repeated failures."""

import shlex
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from archsearch.storage.faults import storage_fault

STORAGE_FAILED = "the storage failed"


class StudyStopped(Exception):
    """Raised when a study stops before its plan is done; the message says why, and how to resume.

    ``exit_code`` is what a command should exit with: 130 for Ctrl-C, 143 for SIGTERM or a
    lost cluster, else 1.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def stopped_by_storage(folder: Path, command: Sequence[str] = ()) -> Iterator[None]:
    """Convert an error of the storage to `StudyStopped`; ``command`` resumes the work.

    A ValueError says already what to do, and passes.
    """
    try:
        yield
    except (ValueError, StudyStopped):
        raise
    except Exception as error:
        if not (fault := storage_fault(error, folder)):
            raise
        resume = shlex.join(command) or "the same command"
        message = f"stopped: {STORAGE_FAILED}: {fault}\nNothing is lost. Resume with: {resume}"
        raise StudyStopped(message, 1) from error


@dataclass(frozen=True)
class StopReason:
    """Why to stop, and what a command should exit with."""

    message: str
    exit_code: int = 1

    @property
    def announcement(self) -> str:
        """What to display while the work saves its checkpoints."""
        on_ctrl_c = self.exit_code == 128 + signal.SIGINT
        hint = " (a second Ctrl-C stops immediately, without saving)" if on_ctrl_c else ""
        return f"stopping: {self.message}{hint}"


class StopRequest:
    """Whether to stop, and why: the first reason counts. True once there is a reason."""

    def __init__(self, max_hours: float | None = None) -> None:
        self.reason: StopReason | None = None
        self._deadline = None if max_hours is None else time.monotonic() + 3600 * max_hours

    def __bool__(self) -> bool:
        return self.reason is not None

    def set_reason(self, message: str, exit_code: int = 1) -> None:
        """Request a stop for this reason, unless there is one already."""
        self.reason = self.reason or StopReason(message, exit_code)

    def check_deadline(self) -> None:
        """Request a stop if the time limit is reached."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self.set_reason("reached --max-hours")

    @contextmanager
    def on_storage_error(self, folder: Path) -> Iterator[None]:
        """Request a stop if the storage fails; nothing is recorded, so nothing is lost."""
        try:
            yield
        except OSError as error:
            if not (fault := storage_fault(error, folder)):
                raise
            self.set_reason(f"{STORAGE_FAILED}: {fault}")

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Request a stop on Ctrl-C and SIGTERM; a second Ctrl-C ends the code inside immediately.

        Outside the main thread this does nothing: Python delivers signals to the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        presses = 0

        def handle(signum: int, _: object) -> None:
            nonlocal presses
            presses += signum == signal.SIGINT
            if presses > 1:
                raise KeyboardInterrupt
            name = "Ctrl-C" if presses else signal.Signals(signum).name
            self.set_reason(name, 128 + signum)

        previous = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        except KeyboardInterrupt:
            self.reason = StopReason("ended immediately by Ctrl-C", 128 + signal.SIGINT)
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)
