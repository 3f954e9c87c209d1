"""Opening of stored files: never through a link, never a device or a FIFO, never without bound.

A run may come from somebody else. A link in it would let a command read or overwrite any file of
its user, a FIFO would hang it, and a sparse file would fill the memory. The run folder itself may
be reached by a link; what is inside it may not.
"""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

MAX_BYTES = 1 << 28
"""Largest stored text file that is read, 256 MiB; a month of events takes a fifth of it."""

_NOT_PLAIN = (errno.ELOOP, errno.EISDIR, errno.ENXIO)
"""What opening a link (with O_NOFOLLOW), a folder (for writing) and a socket gives."""

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
)


class Damaged(ValueError):
    """Raised for a file that exists but does not hold what was written."""


def open_plain(path: Path | str, flags: int) -> int:
    """A file descriptor of the plain file ``path``; with O_CREAT in ``flags`` it may be new.

    Raises:
        FileNotFoundError: there is no such file.
        Damaged: it is a link, a folder, a FIFO or a device.
    """
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in _NOT_PLAIN:
            raise Damaged(_not_plain(path, os.lstat(path).st_mode)) from None
        raise
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise Damaged(_not_plain(path, mode))
    return fd


def _not_plain(path: Path | str, mode: int) -> str:
    kind = next((name for matches, name in _KINDS if matches(mode)), "a device or socket")
    return f"{path} is {kind}, not a plain file: move it away, or put the file itself there"


def read_plain(path: Path | str, offset: int = 0) -> bytes:
    """The bytes of a stored file from ``offset`` on.

    Raises:
        FileNotFoundError: there is no such file.
        Damaged: it is no plain file, or is larger than `MAX_BYTES`.
    """
    with os.fdopen(open_plain(path, os.O_RDONLY), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise Damaged(
                f"{path} is damaged: it has {size:,} bytes, a stored file has at most {MAX_BYTES:,}"
            )
        file.seek(offset)
        return file.read() or b""


def refuse_link(folder: Path) -> None:
    """Check that a folder inside a run is no link out of it.

    Raises:
        ValueError: it is one.
    """
    if folder.is_symlink():
        raise ValueError(
            f"{folder} is a link, and links inside a run are not followed: put the folder itself "
            "there"
        )
