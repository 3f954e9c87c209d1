"""One attempt at one trial, in the process that a runner chose.

The work is named by an import path, ``"package.module:function"``, and called as
``function(folder, device, stop)``. Its outcome is a value, so that a runner can report a lost
process in the same form and no exception has to pass between processes.
"""

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from archsearch.core.interrupted import Interrupted, Stop
from archsearch.storage.faults import causes, storage_fault, storage_reason
from archsearch.storage.files import remove_leftovers
from archsearch.storage.lock import Locked
from archsearch.storage.plain_file import open_plain
from archsearch.storage.study_folder import StudyFolder

DEFAULT_WORK = "archsearch.running.train_trial:train_trial"

ORPHAN_SECONDS = 30.0
"""How long an attempt waits for a worker of a killed driver to release the trial's lock."""

LOST = "cluster-lost"
"""The kind of an outcome whose runner can do no more work: the study stops."""

TAIL_CHARACTERS = 4000
"""Length of a traceback or log in an outcome: the end is the informative part."""

Work = Callable[[Path, str, Stop], None]
End = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True)
class Job:
    """What a runner receives: a study's folder, a trial's id, the work's import path, a device.

    The trial's record gets ``notes``, also if another attempt finishes it.
    """

    study: str
    trial_id: str
    work: str
    device: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. ``finished`` means that the record is on disk, whatever its status.

    If it ``failed``, ``kind`` is out-of-memory, data, storage, busy or crash, ``error`` is one
    line, and ``detail`` the end of the traceback or of the log.
    """

    trial_id: str
    end: End
    kind: str = ""
    error: str = ""
    detail: str = ""


def never() -> bool:
    """A `Stop` that never requests one."""
    return False


def resolve(work: str) -> Work:
    """The function named ``"package.module:function"``.

    Raises:
        ValueError: ``work`` has another form.
        ImportError, AttributeError: there is no such module or function.
    """
    module, colon, name = work.partition(":")
    if not (module and colon and name):
        raise ValueError(f"work is named 'package.module:function', got {work!r}")
    function: Work = getattr(importlib.import_module(module), name)
    return function


def run_attempt(job: Job, stop: Stop = never) -> Outcome:
    """Work on the trial under its lock, unless it is finished; a failure becomes an outcome."""
    folder = StudyFolder(job.study).trial(job.trial_id)
    try:
        with folder.lock(ORPHAN_SECONDS):
            if folder.record() is None:
                remove_leftovers(folder.path)
                folder.append_notes(job.notes)
                resolve(job.work)(folder.path, job.device, stop)
            if folder.record() is None:
                raise RuntimeError(f"{job.work} returned without a record")
    except Interrupted:
        return Outcome(job.trial_id, "interrupted")
    except Exception as error:  # noqa: BLE001  any exception is the outcome of this trial
        return _failed(job, error)
    return Outcome(job.trial_id, "finished")


def run_logged_attempt(job: Job, stop: Stop = never) -> Outcome:
    """`run_attempt` with all output of this process in the trial's log.txt."""
    try:
        with output_to(StudyFolder(job.study).trial(job.trial_id).path / "log.txt"):
            return run_attempt(job, stop)
    except OSError as error:
        return _failed(job, error)


def _failed(job: Job, error: Exception) -> Outcome:
    kind, text = failure_kind(error), "".join(traceback.format_exception(error))
    line = f"{type(error).__name__}: {error}"
    if kind == "storage":
        line = storage_fault(error, StudyFolder(job.study).trial(job.trial_id).path)
    return Outcome(job.trial_id, "failed", kind, line[:TAIL_CHARACTERS], text[-TAIL_CHARACTERS:])


def failure_kind(error: BaseException) -> str:
    """The kind of a failure. Types are compared by name, so that torch and the data modules need
    not be imported."""
    chain = list(causes(error))
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    texts = [str(link) for link in chain]
    if storage_fault(error, ""):
        return "storage"
    if names & {"OutOfMemoryError", "MemoryError"} or any("can't allocate" in t for t in texts):
        return "out-of-memory"
    if any(isinstance(link, OSError) and link.errno == errno.ENOMEM for link in chain):
        return "out-of-memory"
    if "DataError" in names:
        return "data"
    return "busy" if isinstance(error, Locked) else "crash"


def death_kind(output: str) -> str:
    """The kind of a worker's death, from its last line: it may not be able to start or to write."""
    lines = output.rstrip().splitlines() or [""]
    return "storage" if storage_reason(lines[-1]) else "crash"


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Append all output of this process to ``path``, from C code too; an empty file is deleted."""
    _flush()
    log = open_plain(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    originals = os.dup(1), os.dup(2)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        yield
    finally:
        _flush()
        for fd, original in enumerate(originals, 1):
            os.dup2(original, fd)
            os.close(original)
        if os.fstat(log).st_size == 0:
            path.unlink(missing_ok=True)
        os.close(log)


def _flush() -> None:
    """Write the buffered output; what a full disk does not take is written later, elsewhere."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()


def log_tail(path: Path) -> str:
    """The end of the log ``path``, or why it cannot be read; empty without a file."""
    try:
        with path.open("rb") as file:
            file.seek(-min(TAIL_CHARACTERS, path.stat().st_size), os.SEEK_END)
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path}: {error.strerror}\n"
