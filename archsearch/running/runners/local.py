"""Worker processes on this machine that stay warm: torch is imported once in each.

A worker has at most one job. It is fed through its stdin and answers on a pipe of its own. It dies
with this process, since its stdin then ends; when it dies itself, its job's outcome says how.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, replace

from archsearch.running.runners import Place, gpus_of, num_workers, pinned
from archsearch.running.work import TAIL, Job, Outcome, tail
from archsearch.storage.study_folder import StudyFolder

FRESH_AFTER = ("crash", "out-of-memory")
"""After these a worker may be poisoned (CUDA errors stick, memory is in pieces): take a new one.
One that was interrupted is about to go."""


class Worker:
    """One process, and its job if it has one."""

    def __init__(self, label: str, env: dict[str, str], work: str) -> None:
        self.label = label
        self.job: Job | None = None
        self._buffer = b""
        self.replies, theirs = os.pipe()
        os.set_blocking(self.replies, False)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the worker
        self._process = subprocess.Popen(
            [sys.executable, "-m", "archsearch.running.runners.worker", str(theirs), work],
            stdin=subprocess.PIPE, stdout=self._errors, stderr=self._errors,
            pass_fds=(theirs,), env=env, process_group=0,
        )  # fmt: skip
        os.close(theirs)

    def send(self, command: object) -> None:
        """A dead worker hears nothing; its death is told by `outcome`."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write((json.dumps(command) + "\n").encode())
            self._process.stdin.flush()

    def outcome(self, readable: bool) -> Outcome | None:
        """What came of the job, if anything yet. A dead worker may have answered before."""
        dead = not self.alive
        if readable or dead:
            self._drain()
        if self._buffer.endswith(b"\n"):
            line, self._buffer = self._buffer, b""
            return Outcome(**json.loads(line))
        return self._death() if dead and self.job else None

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            while chunk := os.read(self.replies, 1 << 16):
                self._buffer += chunk

    def _death(self) -> Outcome:
        assert self.job is not None
        folder = StudyFolder(self.job.study).trial(self.job.trial_id).path
        self._errors.seek(0)
        said = tail(folder / "log.txt") + self._errors.read().decode(errors="replace")
        how = _exit_words(self._process.returncode)
        return Outcome(self.job.trial_id, "broke", "crash", f"worker died: {how}", said[-TAIL:])

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """End it and what it has started, now."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._errors.close()
        os.close(self.replies)


def _exit_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return name + (" (often the machine's memory ran out)" if -code == signal.SIGKILL else "")


class Local:
    """See the module's words; the contract is `archsearch.running.runners.Runner`."""

    def __init__(self, place: Place) -> None:
        self.slots = num_workers(place)
        self._place = place
        self._gpus = gpus_of(place)
        self._workers: list[Worker | None] = [None] * self.slots

    def submit(self, job: Job) -> str:
        for i, worker in enumerate(self._workers):
            if worker is None or worker.job is None:
                return self._give(i, job)
        raise AssertionError("submit without a free slot")

    def _give(self, i: int, job: Job) -> str:
        worker = self._workers[i]
        if worker is not None and not worker.alive:
            worker.kill()
            worker = None
        if worker is None:
            worker = self._workers[i] = Worker(*self._seat(i), self._place.work)
        worker.job = job
        worker.send(asdict(replace(job, device=pinned(job.device))))
        return worker.label

    def _seat(self, i: int) -> tuple[str, dict[str, str]]:
        """The i-th worker's label and environment, with its GPU pinned."""
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
        env["OMP_NUM_THREADS"] = str(self._place.threads)
        if not self._gpus:
            return f"worker {i}", env
        gpu = i % len(self._gpus)
        label = self._place.device.partition(":")[2] or gpu
        return f"gpu {label}", {**env, "CUDA_VISIBLE_DEVICES": self._gpus[gpu]}

    def poll(self, seconds: float) -> list[Outcome]:
        """Waits on the pipes; a death shows by the process, as its children may hold its pipe."""
        busy = [w for w in self._workers if w is not None and w.job is not None]
        ready = select.select([w.replies for w in busy], [], [], seconds)[0]
        ended = [(w, w.outcome(w.replies in ready)) for w in busy]
        for worker, outcome in ended:
            if outcome is not None:
                self._release(worker, outcome)
        return [outcome for _, outcome in ended if outcome is not None]

    def _release(self, worker: Worker, outcome: Outcome) -> None:
        worker.job = None
        if outcome.end == "interrupted" or outcome.kind in FRESH_AFTER:
            worker.kill()
            self._workers[self._workers.index(worker)] = None

    def ask_stop(self) -> None:
        for worker in self._workers:
            if worker is not None:
                worker.send({"stop": True})

    def close(self) -> None:
        for worker in self._workers:
            if worker is not None:
                worker.kill()
        self._workers = [None] * self.slots
