"""Who works in a folder: flock, which the kernel drops with its process, never by age.

The lock file stays when the lock goes, for removing it would let two processes lock two files of
one name. What is written in it is for messages; only the kernel's answer decides.
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

POLL_SECONDS = 0.02

_held: set[int] = set()


class Locked(ValueError):
    """Another process holds the lock; the message says which."""


def _release_in_child() -> None:
    """A forked child (a data loader's worker) must not keep its parent's locks alive.

    Closing is right here and LOCK_UN would be wrong: that would release the parent's lock too.
    """
    for fd in _held:
        os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_release_in_child)


@contextmanager
def hold(path: Path, wait_seconds: float = 1.0) -> Iterator[None]:
    """Hold the lock at ``path``, waiting for it at most ``wait_seconds``.

    The default wait covers `is_held`, which takes the lock for an instant to ask.

    Raises:
        Locked: when another process keeps it.
        OSError: when the file cannot be written, or its file system has no locks.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    _held.add(fd)
    try:
        _acquire(fd, path, time.monotonic() + wait_seconds)
        _sign(fd)
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
                holder = os.pread(fd, 200, 0).decode(errors="replace").strip()
                raise Locked(f"{path.parent} is in use by {holder or 'another process'}") from None
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                error.strerror = f"the file system has no locks ({error.strerror})"
            raise
        time.sleep(POLL_SECONDS)


def _sign(fd: int) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with suppress(OSError):  # a full disk spoils the message, not the lock
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()} since {now}\n".encode(), 0)


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock at ``path``; no lock file means no."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
