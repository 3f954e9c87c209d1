"""Why a study stops before its plan is done, and how the reasons are heard."""

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from archsearch.storage.files import DISK_FULL


class StudyStopped(Exception):
    """The study ended before its plan did; the message says why and how to go on.

    ``exit_code`` is what a command should exit with: 130 for Ctrl-C, 143 for SIGTERM, else 1.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Reason:
    """Why to stop."""

    words: str
    exit_code: int = 1

    @property
    def announced(self) -> str:
        """What is said while the work saves itself."""
        hint = " (once more ends at once)" if self.exit_code == 128 + signal.SIGINT else ""
        return f"stopping: {self.words}{hint}"


class Stopping:
    """Whether to stop, and why: the first reason counts."""

    def __init__(self, max_hours: float | None = None) -> None:
        self.reason: Reason | None = None
        self._deadline = None if max_hours is None else time.monotonic() + 3600 * max_hours

    def __bool__(self) -> bool:
        return self.reason is not None

    def because(self, words: str, exit_code: int = 1) -> None:
        self.reason = self.reason or Reason(words, exit_code)

    def mind_the_time(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self.because("the time is up")

    @contextmanager
    def on_full_disk(self, folder: Path) -> Iterator[None]:
        """A full disk stops the study; nothing is recorded, so nothing is lost."""
        try:
            yield
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            free = shutil.disk_usage(folder).free
            self.because(f"the disk is full ({free} bytes free): {error}")

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM ask for a stop; a second Ctrl-C ends at once, where it strikes.

        In another thread than the main one nothing is heard: Python gives signals to that one.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        presses = 0

        def hear(signum: int, _: object) -> None:
            nonlocal presses
            presses += signum == signal.SIGINT
            if presses > 1:
                raise KeyboardInterrupt
            words = "Ctrl-C" if presses else signal.Signals(signum).name
            self.because(words, 128 + signum)

        before = {s: signal.signal(s, hear) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        except KeyboardInterrupt:
            self.reason = Reason("ended at once by Ctrl-C", 128 + signal.SIGINT)
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)
