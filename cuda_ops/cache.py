"""The folder of built libraries: where it is, locks, checksums, and what is wrong with it.

Each library has a folder of its own. The folder also holds `sha256`, its checksum, and, if it was
built again because it could not be loaded, an empty file `rebuilt`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cuda_ops.toolchain import BuildError

WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""What flock reports on Lustre without the option `flock`, and on NFS without its lock service."""


def cache_root() -> Path:
    """The folder of built libraries, under XDG_CACHE_HOME or ~/.cache.

    Raises BuildError if neither names a folder.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        home = Path(base) if base else Path.home() / ".cache"
    except RuntimeError:
        raise BuildError(
            f"there is no cache folder: HOME is not set, and user {os.getuid()} has no entry in "
            "the password file; set XDG_CACHE_HOME to a folder that you can write"
        ) from None
    return home / "archsearch" / "cuda_ops"


@contextmanager
def explained_errors() -> Iterator[None]:
    """A context in which an error of the file system becomes a BuildError with advice."""
    try:
        yield
    except OSError as error:
        raise BuildError(
            f"the cache folder {cache_root()} cannot be used ({error.strerror}); set "
            "XDG_CACHE_HOME to a folder that you can write"
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Holds an exclusive lock on a file. False where the file system has no locks."""
    with path.open("w") as handle:
        is_locked = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            is_locked = False
        yield is_locked


def is_intact(library: Path) -> bool:
    """Whether a library, which exists, is readable and has the checksum that was stored with it."""
    try:
        return (library.parent / "sha256").read_text() == _checksum(library)
    except OSError:
        return False


def _checksum(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()


def was_rebuilt(library: Path) -> bool:
    """Whether the library replaced one that could not be loaded."""
    return (library.parent / "rebuilt").exists()


def identity(library: Path) -> str:
    """Changes when the library is replaced, also by one of equal content; empty if it is gone."""
    try:
        status = library.stat()
    except FileNotFoundError:  # another process is building it again
        return ""
    return f"{status.st_ino} {status.st_mtime_ns}"


def discard(library: Path) -> None:
    """Removes a damaged or unloadable library with its folder, and says so on stderr."""
    folder = library.parent
    if folder.exists():
        reason = "cannot be loaded" if is_intact(library) else "is damaged"
        print(f"cuda_ops: {library} {reason}; it is built again", file=sys.stderr)
        # Renamed first: a process that is reading it keeps a whole folder.
        shutil.rmtree(folder.rename(new_part(folder)), ignore_errors=True)


def part_prefix(folder: Path) -> str:
    """The prefix of unfinished and discarded folders, which no pattern of libraries matches."""
    return f"part-{folder.name}-"


def new_part(folder: Path) -> Path:
    """A new name for an unfinished or discarded folder."""
    return folder.with_name(part_prefix(folder) + uuid.uuid4().hex)


def store(part: Path, library: Path, *, replaces_unloadable: bool) -> None:
    """Moves a folder with a complete library to its place, with its checksum."""
    (part / "sha256").write_text(_checksum(part / library.name))
    if replaces_unloadable:
        (part / "rebuilt").touch()
    try:
        part.rename(library.parent)
    except OSError:
        if not is_intact(library):  # else another process was first, without a lock
            raise
