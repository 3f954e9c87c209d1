"""The hash of the source of a class: its file, and what that imports.

Modules of one's own are read and followed; of an installed package the version counts, of this one
the content. An edit inside an installed package is not seen. Nothing is imported here.
"""

import hashlib
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from archsearch.core.by_file import source_of

FOLLOWED_NOT = ("archsearch", "internimage", "cuda_ops")
"""Packages that are hashed as a whole, without what they import."""

INSTALLED = ("site-packages", "dist-packages")

_IMPORT = re.compile(rb"(?:^|;)\s*(?:from\s+(\w+)|import\s+([^;\n]+))", re.MULTILINE)


@cache
def source_digest(cls: type) -> str | None:
    """The hash, in hexadecimal; None for a class without a file, as of a notebook's cell."""
    source = source_of(cls)
    if source is not None:
        digest = hashlib.sha256(source.content)
        names = _imported(source.content)
    else:
        name = cls.__module__.partition(".")[0]
        if name == "__main__" or not _files_of(name):
            return None
        digest, names = hashlib.sha256(), {name}
    for text in _fingerprints(names):
        digest.update(text + b"\n")
    return digest.hexdigest()


def _fingerprints(names: set[str]) -> Iterator[bytes]:
    """What identifies the content of these packages, and of those that they import."""
    left, seen = sorted(names), set[str]()
    while left:
        name = left.pop()
        if name in seen or name in sys.stdlib_module_names:
            continue
        seen.add(name)
        files = _files_of(name)
        if any(part in INSTALLED for file in files for part in file.parts):
            yield f"{name} {_version(name, files[0])}".encode()
            continue
        for file in files:
            content = file.read_bytes()
            yield f"{name} {file.name} {hashlib.sha256(content).hexdigest()}".encode()
            if name not in FOLLOWED_NOT:
                left += sorted(_imported(content))


def _imported(content: bytes) -> set[str]:
    """The top-level names that a file imports; a line of a text may look like an import too."""
    names = set[str]()
    for module, modules in _IMPORT.findall(content):
        names.update(part.split()[0].partition(b".")[0].decode(errors="replace")
                     for part in (module or modules).split(b",") if part.split())  # fmt: skip
    return {name for name in names if name.isidentifier()}


def _files_of(name: str) -> list[Path]:
    """The Python files of a top-level package or module, in order; none if it is not found."""
    spec: ModuleSpec | None = None
    with suppress(ValueError):  # a module that was made without a specification
        spec = find_spec(name)
    if spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if any(part in INSTALLED for folder in folders for part in folder.parts):
        return [Path(spec.origin or folders[0])]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    return files or [Path(spec.origin)] if spec.has_location and spec.origin else files


def _version(name: str, file: Path) -> str:
    """The version of an installed package, else the size and the time of its first file."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        status = file.stat()
        return f"{status.st_size} {status.st_mtime_ns}"
