"""The files of a folder or tar archive, as a person sees them. Does not import torch.

Links are followed. Hidden files and folders are left out, and a link that leads nowhere, a loop of
links or an unreadable folder is refused by name: nothing disappears.
"""

import os
import stat
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from lzma import LZMAError
from pathlib import Path

from archsearch.training.images import DataError, printable, read_file, refuse

HIDDEN_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir"})
"""Names, in lower case, that a desktop or a file server hides, in addition to names with a dot."""


@dataclass
class FileTree:
    """The visible files in a source. Keys are paths below it, with ``/``.

    ``sizes`` are in bytes, ``folders`` are the visible folders and ``left_out`` says of other keys
    why they are left out: ``hidden``, or ``no regular file`` for pipes and devices. ``contents``
    holds the files of an archive.
    """

    source: Path
    sizes: dict[str, int] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)
    contents: dict[str, bytes] | None = None
    problems: list[str] = field(default_factory=list)

    def read(self, key: str) -> bytes:
        return read_file(self.source / key) if self.contents is None else self.contents[key]

    def name(self, key: str) -> str:
        """The path of a file as text for messages."""
        return printable(f"{self.source}/{key}")


def file_tree(source: Path) -> FileTree:
    """The files in the folder or tar archive ``source``.

    Raises:
        DataError: it does not exist or cannot be read, or has broken links; the message lists all.
    """
    tree = FileTree(source)
    if source.is_dir():
        _walk(tree, "", ())
    elif source.exists():
        tree.contents = {}
        _unpack(tree)
    else:
        raise DataError(f"no such file or folder: {printable(source)}")
    refuse(tree.problems)
    return tree


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in HIDDEN_NAMES


def _walk(tree: FileTree, folder: str, above: tuple[tuple[int, int], ...]) -> None:
    """Add the files below ``folder``; ``above`` identifies the folders that it is in."""
    path = tree.source / folder
    try:
        status = path.stat()
        entries = list(os.scandir(path))
    except OSError as error:
        tree.problems.append(f"cannot read {printable(path)}: {error.strerror}")
        return
    inode = status.st_dev, status.st_ino
    if inode in above:
        tree.problems.append(f"{printable(path)} is a link to a folder that contains it")
        return
    for entry in entries:
        key = f"{folder}/{entry.name}" if folder else entry.name
        if _add(tree, key, entry):
            _walk(tree, key, (*above, inode))


def _add(tree: FileTree, key: str, entry: os.DirEntry[str]) -> bool:
    """Add an entry to the tree; True for a visible folder."""
    if is_hidden(entry.name):
        tree.left_out[key] = "hidden"
        return False
    try:
        status = entry.stat()
    except OSError as error:
        kind = " is a link that leads nowhere" if entry.is_symlink() else " cannot be read"
        tree.problems.append(f"{tree.name(key)}{kind}: {error.strerror}")
        return False
    if stat.S_ISREG(status.st_mode):
        tree.sizes[key] = status.st_size
    elif stat.S_ISDIR(status.st_mode):
        tree.folders.add(key)
    else:
        tree.left_out[key] = "no regular file"
    return stat.S_ISDIR(status.st_mode)


def _unpack(tree: FileTree) -> None:
    """Read the visible files of an archive into memory, in the order of the archive."""
    try:
        with tarfile.open(tree.source) as archive:
            for member in archive:
                _unpack_member(tree, archive, member)
    except (tarfile.TarError, OSError, EOFError, zlib.error, LZMAError) as error:
        raise DataError(f"cannot read {printable(tree.source)}: {error}") from error


def _unpack_member(tree: FileTree, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    assert tree.contents is not None
    key = member.name.removeprefix("./")
    if hidden := next((p for p in _prefixes(key) if is_hidden(p.rpartition("/")[2])), None):
        tree.left_out[hidden] = "hidden"
    elif member.isdir():
        tree.folders.add(key)
    elif not (member.isfile() or member.issym() or member.islnk()):
        tree.left_out[key] = "no regular file"
    else:
        try:
            stream = archive.extractfile(member)
        except (KeyError, RecursionError):
            tree.problems.append(f"{tree.name(key)} is a link that leads nowhere in the archive")
            return
        if stream is None:
            tree.problems.append(
                f"{tree.name(key)} is a link to a folder: unpack the archive and give its folder"
            )
            return
        tree.contents[key] = stream.read()
        tree.sizes[key] = len(tree.contents[key])


def _prefixes(key: str) -> Iterator[str]:
    """``a``, ``a/b`` and ``a/b/c`` of ``a/b/c``."""
    parts = key.split("/")
    return ("/".join(parts[: i + 1]) for i in range(len(parts)) if parts[i] not in ("", ".", ".."))
