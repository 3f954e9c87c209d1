"""One attempt at one trial, in whatever process a runner has put it.

The work is named by an import path, ``"package.module:function"``, and called as
``function(folder, device, stop)``. What comes of it is a value: a runner that lost the process can
say so in the same words, and nothing depends on exceptions travelling between processes.
"""

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from archsearch.core.interrupted import Interrupted
from archsearch.storage.files import DISK_FULL, remove_leftovers
from archsearch.storage.lock import Locked
from archsearch.storage.study_folder import StudyFolder

DEFAULT_WORK = "archsearch.running.train_trial:train_trial"

ORPHAN_SECONDS = 30.0
"""How long a trial waits for a worker of a killed driver to let go of it."""

TAIL = 4000
"""Characters of a traceback or log that an outcome carries: the end says most."""

Stop = Callable[[], bool]
Work = Callable[[Path, str, Stop], None]
End = Literal["finished", "interrupted", "broke"]


@dataclass(frozen=True)
class Job:
    """What a runner receives: a study's folder, a trial's id, and what to call on it."""

    study: str
    trial_id: str
    work: str
    device: str


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. ``finished`` means that the record is on disk, whatever it says.

    For ``broke``, ``kind`` is out-of-memory, data, disk-full, busy or crash, ``error`` one line,
    and ``detail`` the end of the traceback or of the log.
    """

    trial_id: str
    end: End
    kind: str = ""
    error: str = ""
    detail: str = ""


def never() -> bool:
    """A stop that is never asked for."""
    return False


def resolve(work: str) -> Work:
    """The function named ``"package.module:function"``.

    Raises:
        ValueError: for another form. ImportError or AttributeError when it is not there.
    """
    module, colon, name = work.partition(":")
    if not (module and colon and name):
        raise ValueError(f"work is named 'package.module:function', got {work!r}")
    found: Work = getattr(importlib.import_module(module), name)
    return found


def attempt(job: Job, stop: Stop = never) -> Outcome:
    """Work on the trial under its lock, unless it is finished; every failure becomes an outcome."""
    folder = StudyFolder(job.study).trial(job.trial_id)
    try:
        with folder.lock(ORPHAN_SECONDS):
            if folder.glance() is None:
                remove_leftovers(folder.path)
                resolve(job.work)(folder.path, job.device, stop)
            if folder.glance() is None:
                raise RuntimeError(f"{job.work} returned without a record")
    except Interrupted:
        return Outcome(job.trial_id, "interrupted")
    except Exception as error:  # noqa: BLE001  whatever it is, it is this trial's outcome
        return broken(job.trial_id, error)
    return Outcome(job.trial_id, "finished")


def broken(trial_id: str, error: Exception) -> Outcome:
    """The outcome of an attempt that raised ``error``."""
    text = "".join(traceback.format_exception(error))
    line = f"{type(error).__name__}: {error}"
    return Outcome(trial_id, "broke", kind_of(error), line[:TAIL], text[-TAIL:])


def kind_of(error: BaseException) -> str:
    """Which failure it is. By name, so that torch and the data modules need no import here."""
    chain = list(_causes(error))
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    texts = [str(link) for link in chain]
    if any(isinstance(link, OSError) and link.errno in DISK_FULL for link in chain):
        return "disk-full"
    if names & {"OutOfMemoryError", "MemoryError"} or any("can't allocate" in t for t in texts):
        return "out-of-memory"
    if any(isinstance(link, OSError) and link.errno == errno.ENOMEM for link in chain):
        return "out-of-memory"
    if "DataError" in names:
        return "data"
    return "busy" if isinstance(error, Locked) else "crash"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Send what this process prints, from C too, to the end of ``path``; an empty file goes."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for fd, saved in enumerate(kept, 1):
            os.dup2(saved, fd)
            os.close(saved)
        if os.fstat(log).st_size == 0:
            path.unlink(missing_ok=True)
        os.close(log)


def tail(path: Path) -> str:
    """The end of a log, or nothing."""
    try:
        with path.open("rb") as file:
            file.seek(-min(TAIL, path.stat().st_size), os.SEEK_END)
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
