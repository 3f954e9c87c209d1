"""Locks on folders, by flock: the kernel releases them with their process; age does not matter.

The lock file is never removed, because two processes could then lock two files of one name. Its
content is for error messages only; the kernel alone decides who holds the lock.
"""

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from archsearch.storage.faults import naming
from archsearch.storage.plain_file import Damaged, open_plain
from archsearch.storage.stored_json import warn_once

POLL_SECONDS = 0.02

_held: set[int] = set()
"""File descriptors of the locks that this process holds."""


class Locked(ValueError):
    """Raised when another process holds the lock, or when what is at its path can be no lock.

    The message says which; in the second case the cause is `Damaged`.
    """


def _release_in_child() -> None:
    """Keep a forked child (a data loader's worker) from holding its parent's locks.

    It closes the files: LOCK_UN would release the parent's lock too.
    """
    for fd in _held:
        os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_release_in_child)


@contextmanager
def hold(path: Path, wait_seconds: float = 1.0) -> Iterator[None]:
    """Hold the lock at ``path``, after a wait of at most ``wait_seconds``.

    The default wait outlasts `is_held`, which takes the lock for an instant.

    Raises:
        Locked: another process holds it, or there is no plain file at ``path``.
        OSError: the file cannot be written, or its file system has no locks.
    """
    try:
        fd = open_plain(path, os.O_RDWR | os.O_CREAT)
    except Damaged as error:
        raise Locked(str(error)) from error
    _held.add(fd)
    try:
        with naming(path):
            _acquire(fd, path, time.monotonic() + wait_seconds)
        _write_holder(fd)
        yield
    finally:
        if fd in _held:  # else this is a forked child, which has closed it
            _held.discard(fd)
            os.close(fd)


def _acquire(fd: int, path: Path, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Locked(f"{path.parent} is in use by {_read_holder(fd)}") from None
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                error.strerror = f"the file system has no locks ({error.strerror})"
            raise
        time.sleep(POLL_SECONDS)


def _write_holder(fd: int) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with suppress(OSError):  # on a full disk the lock works, only the message is missing
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()} since {now}\n".encode(), 0)


def _read_holder(fd: int) -> str:
    return os.pread(fd, 200, 0).decode(errors="replace").strip() or "another process"


def is_held(path: Path) -> bool:
    """Whether a running process holds the lock at ``path``; False without a lock file."""
    return bool(holder_of(path))


def holder_of(path: Path) -> str:
    """The running process that holds the lock at ``path``; empty if none does.

    What is no plain file holds no lock; a warning names it.
    """
    try:
        fd = open_plain(path, os.O_RDONLY)
    except FileNotFoundError:
        return ""
    except Damaged as error:
        warn_once(str(error))
        return ""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(fd)
    finally:
        os.close(fd)
    return ""
