"""Counted costs on disk, one file for each content of a family: reading them loads no torch.

A line holds a checksum, a key and its values. Several processes may append to one file. What is
damaged or missing is counted again, and a folder that cannot be written is said once.
"""

import json
import logging
import os
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

log = logging.getLogger("archsearch")

VARIABLE = "ARCHSEARCH_COST_CACHE"
"""A folder, or ``off``; by default archsearch/costs in XDG_CACHE_HOME or ~/.cache."""

MAX_BYTES = 8 << 20
"""A file that is larger is begun again; about 50,000 costs."""

MAX_FILES = 64
"""The oldest files beyond this number are deleted."""

_unusable: set[Path] = set()


class CostCache:
    """The values that were counted, by key: in memory, and in ``path`` unless it is None."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._values: dict[str, Mapping[str, Any]] = {}
        if path is not None:
            self._values = _read(path)

    def get(self, key: str) -> Mapping[str, Any] | None:
        """The values of this key; None if they were not counted yet."""
        return self._values.get(key)

    def add(self, key: str, values: Mapping[str, Any]) -> None:
        """Keep these values."""
        self._values[key] = values
        if self._path is None:
            return
        try:
            _append(self._path, key, values)
        except OSError as error:
            _say_unusable(self._path.parent, error)
            self._path = None


def cache_of(name: str) -> CostCache:
    """The cache called ``name``, in the folder that the environment names now."""
    folder = _folder()
    return _open(None if folder is None else folder / f"{name}.jsonl", name)


@cache
def _open(path: Path | None, name: str) -> CostCache:
    del name  # caches without a file differ by it
    return CostCache(path)


def _folder() -> Path | None:
    """The folder of all caches; None if they are off or the user has no home folder."""
    own = os.environ.get(VARIABLE, "")
    if own.lower() == "off":
        return None
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "archsearch" / "costs"
    except RuntimeError:
        return None


def _read(path: Path) -> dict[str, Mapping[str, Any]]:
    try:
        with path.open("rb") as file:
            lines = file.read(2 * MAX_BYTES).splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        _say_unusable(path.parent, error)
        return {}
    return dict(entry for line in lines if (entry := _parsed(line)) is not None)


def _parsed(line: bytes) -> tuple[str, Mapping[str, Any]] | None:
    """The key and the values of a line; None if it is not as it was written."""
    checksum, _, text = line.partition(b" ")
    if checksum != _checksum(text):
        return None
    key, values = json.loads(text)
    return key, values


def _checksum(text: bytes) -> bytes:
    return f"{zlib.crc32(text):08x}".encode()


def _append(path: Path, key: str, values: Mapping[str, Any]) -> None:
    """Append a line in one write; one that was cut off before it is ended first by its newline."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _delete_oldest(path.parent)
    text = json.dumps([key, values], separators=(",", ":")).encode()
    with path.open("ab", buffering=0) as file:
        if file.tell() > MAX_BYTES:
            file.truncate(0)
        file.write(b"\n" + _checksum(text) + b" " + text + b"\n")


def _delete_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.jsonl"), key=lambda file: file.stat().st_mtime)
    for file in files[: max(0, len(files) - MAX_FILES + 1)]:
        file.unlink(missing_ok=True)


def _say_unusable(folder: Path, error: OSError) -> None:
    if folder not in _unusable:
        _unusable.add(folder)
        log.warning(
            "counted costs are not kept: %s: %s; set %s to a folder that you can write, or to off",
            error.filename or folder,
            error.strerror,
            VARIABLE,
        )
