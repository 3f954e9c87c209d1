"""A warm worker process: one trial after another, from a pipe, until the pipe ends.

``python -m archsearch.running.runners.worker REPLY_FD WORK``. Commands come as JSON lines on stdin,
each outcome goes to REPLY_FD as one. The end of stdin means that the driver is gone, however it
went: then this process goes at once, for another driver may want the trial.
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

from archsearch.running.work import Job, Outcome, attempt, output_to, resolve
from archsearch.storage.files import write_all
from archsearch.storage.study_folder import StudyFolder

EXIT_ORPHAN = 75

IDLE_SECONDS = 1.0
"""How often an idle worker looks whether SIGTERM has come."""

LONG_SECONDS = 1.0
"""After a trial this long, collecting cycles (and the memory they hold on a GPU) costs nothing."""


def main(reply_fd: int, work: str) -> None:
    commands = _take_stdin()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the driver speaks for it
    stop, jobs = threading.Event(), queue.SimpleQueue[Job]()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_listen, args=(commands, jobs, stop), daemon=True).start()
    faulthandler.enable()
    with suppress(Exception):  # the attempt meets the same error and tells it
        resolve(work)
    while not stop.is_set() or not jobs.empty():
        with suppress(queue.Empty):
            _work(jobs.get(timeout=IDLE_SECONDS), stop, reply_fd)
    os._exit(0)  # the listening thread cannot be joined


def _take_stdin() -> BinaryIO:
    """Keep the pipe for ourselves: the work may read stdin, and gets nothing."""
    commands = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return commands


def _listen(commands: BinaryIO, jobs: "queue.SimpleQueue[Job]", stop: threading.Event) -> None:
    for line in commands:
        command: dict[str, Any] = json.loads(line)
        if command == {"stop": True}:
            stop.set()
        else:
            jobs.put(Job(**command))
    os._exit(EXIT_ORPHAN)


def _work(job: Job, stop: threading.Event, reply_fd: int) -> None:
    """A job that comes with the stop is answered too, without beginning it."""
    began = time.monotonic()
    folder = StudyFolder(job.study).trial(job.trial_id).path
    with output_to(folder / "log.txt"):
        stopped = Outcome(job.trial_id, "interrupted")
        outcome = stopped if stop.is_set() else attempt(job, stop.is_set)
    write_all(reply_fd, (json.dumps(asdict(outcome)) + "\n").encode())
    if time.monotonic() - began > LONG_SECONDS:
        gc.collect()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
