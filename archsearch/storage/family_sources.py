"""The files of users' families inside a run: ``RUN/families/my_net-0123456789ab.py``.

A run keeps a copy of every file that defines one of its networks. Whoever reads the run finds the
class by that copy, so that it can be moved, and the original edited or deleted. Reading such a run
executes the copies, as running the original would: read only runs that you trust.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from archsearch.core.by_file import Source, class_in, copy_name, executed_class, source_of
from archsearch.core.family import Family
from archsearch.storage.files import log, quarantine, remove_leftovers, write_bytes
from archsearch.storage.plain_file import Damaged, read_plain, refuse_link

FOLDER = "families"


def copy_path(run: Path, file_name: str, digest: str) -> Path:
    """Where the run keeps the file of this name and content."""
    return run / FOLDER / copy_name(Path(file_name).name, digest)


def write_sources(run: Path, families: Iterable[type[Family]]) -> None:
    """Copy the files of these families into the run, each in one step; a damaged copy is replaced.

    The caller holds the run's lock.

    Raises:
        ValueError: the folder of the copies is a link.
    """
    sources = {source for family in families if (source := source_of(family))}
    if not sources:
        return
    folder = run / FOLDER
    refuse_link(folder)
    folder.mkdir(exist_ok=True)
    remove_leftovers(folder)
    for source in sources:
        _write(copy_path(run, source.name, source.digest), source)


def _write(path: Path, source: Source) -> None:
    try:
        if read_plain(path) == source.content:
            return
        quarantine(path, "it is damaged")
    except FileNotFoundError:
        pass
    except Damaged as error:
        log.warning("%s; it is replaced", error)
    write_bytes(path, source.content)


def read_sources(run: Path, variants: Iterable[Mapping[str, Any] | None]) -> None:
    """Execute the files that these stored variants name, unless they were in this process.

    Raises:
        ValueError: a copy is missing, damaged or a link, or raises an error.
    """
    named = {(v["family"], v["source"]) for v in variants if v and "source" in v and "family" in v}
    for family, digest in named:
        file_name, _, class_name = str(family).rpartition(":")
        if executed_class(file_name, str(digest), class_name) is None:
            _read(copy_path(run, file_name, str(digest)), file_name, str(digest), class_name)


def _read(path: Path, file_name: str, digest: str, class_name: str) -> None:
    refuse_link(path.parent)
    try:
        source = Source(file_name, read_plain(path))
    except FileNotFoundError:
        raise ValueError(
            f"{path} is missing: this run needs its copy of {file_name} (sha256 {digest})"
        ) from None
    except Damaged as error:
        raise ValueError(str(error)) from error  # study.json itself is not damaged
    if source.digest != digest:
        raise ValueError(
            f"{path} is damaged or was edited: put the {file_name} of sha256 {digest} there"
        )
    class_in(source, path, class_name, Family)
