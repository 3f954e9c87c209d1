"""Runs trials in this process, one after another: the simplest runner, and easy to debug."""

from collections.abc import Callable

from archsearch.running.work import Job, Outcome, run_attempt


class InlineRunner:
    """Runs the job inside `poll`. The work polls for a stop request, which also calls ``tick``."""

    slots = 1

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._job: Job | None = None
        self._stopping = False

    def submit(self, job: Job) -> str:
        assert self._job is None
        self._job = job
        return "here"

    def poll(self, seconds: float) -> list[Outcome]:
        """Run the job to its end, however long it takes."""
        del seconds
        job, self._job = self._job, None
        return [] if job is None else [run_attempt(job, self._stop)]

    def _stop(self) -> bool:
        self._tick()
        return self._stopping

    def request_stop(self) -> None:
        self._stopping = True

    def close(self) -> None:
        """Do nothing: no work continues after `poll`."""
