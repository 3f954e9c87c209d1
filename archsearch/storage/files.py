"""Files that are complete or absent after a power cut, a kill -9 or a full disk.

A file is written under a temporary name, flushed to the disk, then renamed. Lines are appended in
one write; readers skip an incomplete last line, and the next append ends it. Every byte passes
through `os_write`, which tests replace by a disk that fills up.
"""

import hashlib
import json
import logging
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from archsearch.core.visible import visible
from archsearch.storage.checksum import protected
from archsearch.storage.faults import naming
from archsearch.storage.plain_file import open_plain

log = logging.getLogger("archsearch")

TEMP_PREFIX = ".tmp-"

os_write = os.write


def _escape(record: logging.LogRecord) -> bool:
    """Make stored text in a message visible before it reaches a terminal."""
    record.msg, record.args = visible(record.getMessage()), ()
    return True


log.addFilter(_escape)


class NewFile:
    """A file under a temporary name: write to it, then `publish` it under its final name.

    ``error`` is the first failed write, because torch.save raises another error instead.
    """

    def __init__(self, fd: int, temp: Path) -> None:
        self.fd, self.temp = fd, temp
        self.sha256 = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            write_all(self.fd, view)
        except OSError as error:
            self.error = self.error or error
            raise
        self.sha256.update(view)
        return len(view)

    def flush(self) -> None:
        """Do nothing: there is no buffer, but torch.save calls this."""

    def publish(self, path: Path, *more: Path) -> None:
        """Flush to the disk, then appear as each of ``more`` and as ``path``, each in one step."""
        os.fsync(self.fd)
        for name in more:
            second = temporary(name.parent)
            _link_or_copy(self.temp, second)
            second.replace(name)
        self.temp.replace(path)
        sync_folder(path.parent)


def temporary(folder: Path) -> Path:
    """A new temporary path in ``folder``."""
    return folder / (TEMP_PREFIX + secrets.token_hex(8))


def _link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` a hard link to ``source``, or a copy if the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        with source.open("rb") as content, new_file(target.parent) as file:
            while chunk := content.read(1 << 20):
                file.write(chunk)
            file.publish(target)


@contextmanager
def new_file(folder: Path) -> Iterator[NewFile]:
    """A new file in ``folder``, deleted afterwards unless it was published."""
    temp = temporary(folder)
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with naming(folder):
            yield NewFile(fd, temp)
    finally:
        os.close(fd)
        temp.unlink(missing_ok=True)


def write_all(fd: int, data: Any) -> None:
    """Write all of ``data``; one ``os.write`` may write only a part, as on a full disk."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os_write(fd, view) :]


def sync_folder(folder: Path) -> None:
    """Flush renames in ``folder`` to the disk, so that they survive a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        with naming(folder):
            os.fsync(fd)
    finally:
        os.close(fd)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of a killed writer. The caller holds the folder's lock."""
    for path in folder.glob(TEMP_PREFIX + "*"):
        path.unlink(missing_ok=True)


def to_json(value: object, indent: int | None = None) -> str:
    """``value`` as strict JSON; NaN and infinity, which JSON does not have, become null."""
    separators = (",", ":") if indent is None else None
    try:
        return json.dumps(value, allow_nan=False, separators=separators, indent=indent)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, separators=separators, indent=indent)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def write_json(path: Path, values: Mapping[str, Any], indent: int | None = None) -> None:
    """Write ``values`` to ``path`` as JSON with a checksum, in one step."""
    write_bytes(path, (to_json(protected(plain_json(values)), indent) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` in one step; a link at ``path`` is replaced, not followed."""
    with new_file(path.parent) as file:
        file.write(content)
        file.publish(path)


def plain_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they are read back: tuples become lists, NaN becomes None."""
    plain: dict[str, Any] = json.loads(to_json(values))
    return plain


def append_json(path: Path, values: Mapping[str, Any]) -> None:
    """Append one line with its checksum and flush it to the disk; an incomplete last line is ended
    first."""
    fd = open_plain(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        size = os.fstat(fd).st_size
        with naming(path):
            incomplete = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            line = to_json(protected(plain_json(values)))
            write_all(fd, (("\n" if incomplete else "") + line + "\n").encode())
            os.fsync(fd)
    finally:
        os.close(fd)


def quarantine(path: Path, reason: str) -> None:
    """Rename a damaged file to ``*.corrupt`` and log a warning."""
    corrupt = path.with_name(path.name + ".corrupt")
    path.replace(corrupt)
    log.warning("%s: %s; renamed to %s and not used", path, reason, corrupt.name)
