"""Runs trials in worker processes on this machine that stay alive: each imports torch once.

A worker has at most one job. It reads jobs from its stdin and replies on another pipe. It ends with
this process, because its stdin then ends; if it dies itself, the outcome of its job says how.
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

from archsearch.running.runners import RunnerOptions, gpus_of, num_workers
from archsearch.running.work import TAIL_CHARACTERS, Job, Outcome, death_kind, log_tail
from archsearch.storage.study_folder import StudyFolder
from archsearch.training import machine

REPLACE_AFTER = ("crash", "out-of-memory")
"""Failures after which a worker is replaced: CUDA errors persist, and memory is fragmented."""


class Worker:
    """One worker process, and its job if it has one."""

    def __init__(self, label: str, env: dict[str, str], work: str) -> None:
        self.label = label
        self.job: Job | None = None
        self._buffer = b""
        self.replies, reply_fd = os.pipe()
        os.set_blocking(self.replies, False)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the worker
        self._process = subprocess.Popen(
            [sys.executable, "-m", "archsearch.running.runners.worker", str(reply_fd), work],
            stdin=subprocess.PIPE, stdout=self._errors, stderr=self._errors,
            pass_fds=(reply_fd,), env=env, process_group=0,
        )  # fmt: skip
        os.close(reply_fd)

    def send(self, command: object) -> None:
        """Send a command. Writes to a dead worker are ignored; `outcome` reports its death."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write((json.dumps(command) + "\n").encode())
            self._process.stdin.flush()

    def outcome(self, readable: bool) -> Outcome | None:
        """The outcome of the job; None while it runs. A dead worker may have replied before."""
        dead = not self.alive
        if readable or dead:
            self._read_replies()
        if self._buffer.endswith(b"\n"):
            line, self._buffer = self._buffer, b""
            return Outcome(**json.loads(line))
        return self._death() if dead and self.job else None

    def _read_replies(self) -> None:
        with suppress(BlockingIOError):
            while chunk := os.read(self.replies, 1 << 16):
                self._buffer += chunk

    def _death(self) -> Outcome:
        assert self.job is not None
        folder = StudyFolder(self.job.study).trial(self.job.trial_id).path
        self._errors.seek(0)
        errors = self._errors.read().decode(errors="replace")
        output = (log_tail(folder / "log.txt") + errors)[-TAIL_CHARACTERS:]
        error, kind = f"worker died: {_exit_text(self._process.returncode)}", death_kind(errors)
        if kind == "storage":
            error += f": {errors.splitlines()[-1]}"
        return Outcome(self.job.trial_id, "failed", kind, error, output)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill the worker and the processes that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._errors.close()
        os.close(self.replies)


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return name + (" (often because the machine ran out of memory)" if name == "SIGKILL" else "")


class LocalRunner:
    """See the module docstring; the contract is `archsearch.running.runners.Runner`."""

    def __init__(self, options: RunnerOptions) -> None:
        self.slots = num_workers(options)
        self._options = options
        self._gpus = gpus_of(options)
        self._workers: list[Worker | None] = [None] * self.slots

    def submit(self, job: Job) -> str:
        for i, worker in enumerate(self._workers):
            if worker is None or worker.job is None:
                return self._send(i, job)
        raise AssertionError("submit without a free slot")

    def _send(self, i: int, job: Job) -> str:
        worker = self._workers[i]
        if worker is not None and not worker.alive:
            worker.kill()
            worker = None
        if worker is None:
            worker = self._workers[i] = Worker(*self._label_and_env(i), self._options.work)
        worker.job = job
        device = job.device.partition(":")[0]  # the worker sees no other GPU than its own
        worker.send(asdict(replace(job, device=device)))
        return worker.label

    def _label_and_env(self, i: int) -> tuple[str, dict[str, str]]:
        """Label and environment of the i-th worker, which sees only its own GPU."""
        env = {**machine.ALLOCATOR, **os.environ}
        env["PYTHONPATH"] = os.pathsep.join(path or "." for path in sys.path)
        env["OMP_NUM_THREADS"] = str(self._options.threads)
        if not self._gpus:
            return f"worker {i}", env
        gpu = i % len(self._gpus)
        number = self._options.device.partition(":")[2] or gpu
        return f"gpu {number}", {**env, "CUDA_VISIBLE_DEVICES": self._gpus[gpu]}

    def poll(self, seconds: float) -> list[Outcome]:
        """Wait for replies on the pipes.

        A death is seen by the process's exit code: its children may keep its pipe open.
        """
        busy = [w for w in self._workers if w is not None and w.job is not None]
        ready = select.select([w.replies for w in busy], [], [], seconds)[0]
        ended = [(w, w.outcome(w.replies in ready)) for w in busy]
        for worker, outcome in ended:
            if outcome is not None:
                self._release(worker, outcome)
        return [outcome for _, outcome in ended if outcome is not None]

    def _release(self, worker: Worker, outcome: Outcome) -> None:
        """Free the worker's slot; kill the worker if it is to be replaced, or was interrupted."""
        worker.job = None
        if outcome.end == "interrupted" or outcome.kind in REPLACE_AFTER:
            worker.kill()
            self._workers[self._workers.index(worker)] = None

    def request_stop(self) -> None:
        for worker in self._workers:
            if worker is not None:
                worker.send({"stop": True})

    def close(self) -> None:
        for worker in self._workers:
            if worker is not None:
                worker.kill()
        self._workers = [None] * self.slots
