"""A worker process: runs the trials that it receives on a pipe, until the pipe ends.

``python -m archsearch.running.runners.worker REPLY_FD WORK``. Commands are JSON lines on stdin, and
each outcome is a JSON line to REPLY_FD. The end of stdin means that the driver has ended in some
way: then this process exits immediately, because another driver may start the trial.
"""

import faulthandler
import gc
import json
import os
import queue
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any, BinaryIO

from archsearch.running.work import Job, Outcome, resolve, run_logged_attempt
from archsearch.storage.files import write_all
from archsearch.training.signals import EXIT_ORPHAN

IDLE_SECONDS = 1.0
"""How often an idle worker checks for SIGTERM."""

LONG_SECONDS = 1.0
"""After a trial this long, the time to collect garbage (and its memory on a GPU) is negligible."""


def main(reply_fd: int, work: str) -> None:
    commands = _take_stdin()
    # Ctrl-C reaches all processes; the driver sends a stop command.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop, jobs = threading.Event(), queue.SimpleQueue[Job]()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_read_commands, args=(commands, jobs, stop), daemon=True).start()
    faulthandler.enable()
    with suppress(Exception):  # the attempt raises the same error and reports it
        resolve(work)
    while not stop.is_set() or not jobs.empty():
        with suppress(queue.Empty):
            _work(jobs.get(timeout=IDLE_SECONDS), stop, reply_fd)
    os._exit(0)  # the reading thread cannot be joined


def _take_stdin() -> BinaryIO:
    """The pipe of commands; stdin is replaced by an empty one, which the work may read."""
    commands = os.fdopen(os.dup(0), "rb")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return commands


def _read_commands(
    commands: BinaryIO, jobs: "queue.SimpleQueue[Job]", stop: threading.Event
) -> None:
    for line in commands:
        command: dict[str, Any] = json.loads(line)
        if command == {"stop": True}:
            stop.set()
        else:
            jobs.put(Job(**command))
    os._exit(EXIT_ORPHAN)


def _work(job: Job, stop: threading.Event, reply_fd: int) -> None:
    """Run the job and reply; one that arrives after a stop is answered without starting it."""
    started = time.monotonic()
    stopped = Outcome(job.trial_id, "interrupted")
    outcome = stopped if stop.is_set() else run_logged_attempt(job, stop.is_set)
    write_all(reply_fd, (json.dumps(asdict(outcome)) + "\n").encode())
    if time.monotonic() - started > LONG_SECONDS:
        gc.collect()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
