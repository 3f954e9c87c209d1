"""Trials in this process, one after another: the simplest, and the one to debug in."""

import time
from collections.abc import Callable

from archsearch.running.work import Job, Outcome, attempt

TICK_SECONDS = 0.25


class Inline:
    """Runs the job inside `poll`. The work's own questions whether to stop keep the table alive."""

    slots = 1

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick, self._next_tick = tick, 0.0
        self._job: Job | None = None
        self._stopping = False

    def submit(self, job: Job) -> str:
        assert self._job is None
        self._job = job
        return "here"

    def poll(self, seconds: float) -> list[Outcome]:
        """As the contract, but waits for the job's end: there is nobody else to work on it."""
        del seconds
        job, self._job = self._job, None
        return [] if job is None else [attempt(job, self._stop)]

    def _stop(self) -> bool:
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + TICK_SECONDS
            self._tick()
        return self._stopping

    def ask_stop(self) -> None:
        self._stopping = True

    def close(self) -> None:
        """Nothing outlives the job."""
