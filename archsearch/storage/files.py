"""Files that are whole or absent, whatever happens: power cut, kill -9, full disk.

A file is written beside its place, flushed to the disk, then renamed over it. Lines are appended in
one write; a torn last line is skipped by readers and closed off by the next append. Every byte goes
through `os_write`, which the tests replace by a disk that fills up.
"""

import errno
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

import msgspec

log = logging.getLogger("archsearch")

TEMP_PREFIX = ".tmp-"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

os_write = os.write


class Damaged(ValueError):
    """A file that is there but cannot be what was written."""


class NewFile:
    """A file in the making: write to it, then `publish` it under its name.

    ``error`` keeps the first failed write, because torch.save hides it behind words of its own.
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
        """Nothing is buffered here; torch.save asks."""

    def publish(self, path: Path, *more: Path) -> None:
        """Flush to the disk and appear as ``more``, then as ``path``, each in one step."""
        os.fsync(self.fd)
        for name in more:
            second = temporary(name.parent)
            _same_bytes(self.temp, second)
            second.replace(name)
        self.temp.replace(path)
        sync_folder(path.parent)


def temporary(folder: Path) -> Path:
    return folder / (TEMP_PREFIX + secrets.token_hex(8))


def _same_bytes(source: Path, target: Path) -> None:
    """A hard link; a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        with source.open("rb") as content, new_file(target.parent) as file:
            while chunk := content.read(1 << 20):
                file.write(chunk)
            file.publish(target)


@contextmanager
def new_file(folder: Path) -> Iterator[NewFile]:
    """A file in ``folder`` that vanishes unless it is published."""
    temp = temporary(folder)
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        yield NewFile(fd, temp)
    finally:
        os.close(fd)
        temp.unlink(missing_ok=True)


def write_all(fd: int, data: Any) -> None:
    """``os.write`` may take only a part, as a filling disk does."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os_write(fd, view) :]


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_leftovers(folder: Path) -> None:
    """Files that a killed writer left behind; call it only with the folder's lock held."""
    for path in folder.glob(TEMP_PREFIX + "*"):
        path.unlink(missing_ok=True)


def to_json(value: object, indent: int | None = None) -> str:
    """Strict JSON. NaN and infinity become null, since JSON has no word for them."""
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


def write_json(path: Path, value: object, indent: int | None = None) -> None:
    with new_file(path.parent) as file:
        file.write((to_json(value, indent) + "\n").encode())
        file.publish(path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in ``path``.

    Raises:
        FileNotFoundError: when there is none.
        Damaged: when it is not a whole JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise Damaged(f"{path} is damaged: wanted a JSON object, got {type(value).__name__}")
    return value


@contextmanager
def well_formed(path: Path) -> Iterator[None]:
    """Turn what a mapping without the wanted fields raises into Damaged."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
        raise Damaged(f"{path} is damaged: {type(error).__name__} {error}") from error


def append_json(path: Path, value: object) -> None:
    """Add one line, flushed to the disk; a torn line before it stays a line of its own."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(fd).st_size
        torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        write_all(fd, (("\n" if torn else "") + to_json(value) + "\n").encode())
        os.fsync(fd)
    finally:
        os.close(fd)


def parse_lines(content: bytes) -> list[dict[str, Any]]:
    """The objects of a file of lines, in order; lines that are torn or damaged are left out."""
    found = []
    for line in content.split(b"\n"):
        try:
            value = json.loads(line)
        except (UnicodeDecodeError, json.JSONDecodeError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """As `parse_lines`; an absent file has none."""
    try:
        return parse_lines(path.read_bytes())
    except FileNotFoundError:
        return []


def quarantine(path: Path, reason: str) -> None:
    """Keep a damaged file as ``*.corrupt``, out of the way, and say so."""
    kept = path.with_name(path.name + ".corrupt")
    path.replace(kept)
    log.warning("%s: %s; kept as %s and not used", path, reason, kept.name)
