"""Errors of the storage: they say nothing about the work, and another try may succeed.

A full disk, a lost network folder, a disk that turned read-only, or too many open files pause a
study. They never make a trial fail.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STORAGE_ERRORS = frozenset(
    getattr(errno, name)
    for name in (
        "EACCES", "EDQUOT", "EFBIG", "EHOSTDOWN", "EIO", "EMFILE", "ENFILE", "ENODEV", "ENOLCK",
        "ENOSPC", "ENOTCONN", "ENXIO", "EPERM", "EREMOTEIO", "EROFS", "ESTALE", "ETIMEDOUT",
    )
    if hasattr(errno, name)
)  # fmt: skip

NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors that a folder gives on its first use, if it is the wrong one."""

_NUMBER = re.compile(r"\((?:os error )?(\d+)\)|\[Errno (\d+)\]")
"""How torch, safetensors and Python print the number of a system error."""


def storage_fault(error: BaseException, folder: Path | str) -> str:
    """What failed, as ``PATH: REASON``, if the storage caused ``error``; else an empty text.

    Some libraries raise an error of their own with the system's message in it. ``folder`` is named
    if the error names no file.
    """
    for link in causes(error):
        if isinstance(link, OSError) and link.errno in STORAGE_ERRORS:
            return f"{link.filename or folder}: {link.strerror}"
        if getattr(link, "errno", None) is None and (reason := storage_reason(str(link))):
            return f"{folder}: {reason}"
    return ""


def storage_reason(text: str) -> str:
    """The system's message of an error of the storage that ``text`` quotes with its number."""
    numbers = {int(match[1] or match[2]) for match in _NUMBER.finditer(text)}
    reasons = (os.strerror(number) for number in sorted(numbers & STORAGE_ERRORS))
    return next((reason for reason in reasons if reason in text), "")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """``error`` and the errors that led to it."""
    while error is not None:
        yield error
        context = None if error.__suppress_context__ else error.__context__
        error = error.__cause__ or context


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give system errors the name of the file: those of reads, writes and flushes have none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
