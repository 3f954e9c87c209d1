"""Checkpoints of one trial: the two newest and the best, named by optimizer steps and sha256.

With the hash in the name, one rename publishes file and hash together, and `torch.load` can read
the file. Checkpoints hold tensors and plain Python values and are loaded with
``weights_only=True``: nothing is ever unpickled.
"""

import hashlib
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from archsearch.storage.files import new_file, quarantine
from archsearch.storage.plain_file import Damaged, open_plain

Check = Callable[[Mapping[str, Any]], None]
Which = Literal["newest", "best"]

KEEP = 2
"""One to resume from, and another in case the first is damaged."""

_NAME = re.compile(r"(checkpoint|best)-(\d+)-([0-9a-f]{64})\.pt")


@dataclass(frozen=True, order=True)
class Checkpoint:
    """A checkpoint file, ordered by steps: file times are wrong after a copy or a clock change."""

    steps: int
    kind: str
    sha256: str
    path: Path


def stored(folder: Path, kind: str = "checkpoint") -> list[Checkpoint]:
    """The checkpoints of ``kind`` in ``folder``, newest first; none if the folder is absent."""
    if not folder.is_dir():
        return []
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    all_kinds = [Checkpoint(int(m[2]), m[1], m[3], path) for m, path in matches if m]
    return sorted((c for c in all_kinds if c.kind == kind), reverse=True)


def save(folder: Path, state: Mapping[str, Any], steps: int, best: bool = False) -> None:
    """Save ``state`` as the checkpoint after ``steps`` optimizer steps; with ``best``, as best too.

    The best is kept when newer checkpoints replace this one.

    Raises:
        OSError: from the file system, e.g. when the disk is full; older checkpoints are intact.
    """
    import torch
    from torch.utils.serialization import config

    # The hash in the name protects the file: zip's own check sum would be a third of the work.
    no_crc32 = config.patch("save.compute_crc32", False)  # type: ignore[attr-defined]  # made at import
    with new_file(folder) as file:
        try:
            with no_crc32:
                torch.save(dict(state), file)  # type: ignore[arg-type]  # it only writes
        except RuntimeError:
            if file.error is not None:
                raise file.error from None
            raise
        name = f"{steps:05d}-{file.sha256.hexdigest()}.pt"
        # The best is published first: resuming from this checkpoint requires that its best exists.
        bests = [folder / f"best-{name}"] if best else []
        file.publish(folder / f"checkpoint-{name}", *bests)
    old_bests = [old for old in stored(folder, "best") if old.path not in bests] if best else []
    for old in stored(folder)[KEEP:] + old_bests:
        old.path.unlink(missing_ok=True)


def keep_newest(folder: Path) -> None:
    """Delete all checkpoints of a finished trial but the newest and the best."""
    for old in stored(folder)[1:]:
        old.path.unlink(missing_ok=True)


def load(
    folder: Path, which: Which = "newest", check: Check | None = None
) -> tuple[int, dict[str, Any]] | None:
    """The steps and state of the newest (or best) undamaged checkpoint, on the CPU.

    ``check`` raises ValueError for a state that does not fit. A checkpoint that is damaged or does
    not fit is renamed to ``*.corrupt`` with a warning, and the one before it is used.
    """
    for checkpoint in stored(folder, "checkpoint" if which == "newest" else "best"):
        try:
            state = read(checkpoint)
            if check is not None:
                check(state)
            return checkpoint.steps, state
        except ValueError as error:
            quarantine(checkpoint.path, str(error))
    return None


def is_intact(checkpoint: Checkpoint) -> bool:
    """Whether the file is a plain one, and what was saved."""
    try:
        with os.fdopen(open_plain(checkpoint.path, os.O_RDONLY), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == checkpoint.sha256
    except Damaged:
        return False


def read(checkpoint: Checkpoint) -> dict[str, Any]:
    """The state in a checkpoint.

    Raises:
        ValueError: the file is not what was saved.
    """
    import torch

    with os.fdopen(open_plain(checkpoint.path, os.O_RDONLY), "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != checkpoint.sha256:
            raise ValueError("its sha256 is not the one in its name")
        file.seek(0)
        if not zipfile.is_zipfile(file):
            raise ValueError("it is not in the format of torch.save")
        file.seek(0)
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError("it holds more than tensors and plain values") from error
        except (RuntimeError, RecursionError) as error:  # another archive than torch.save writes
            reason = str(error).partition("\n")[0]
            raise ValueError(f"it is not in the format of torch.save ({reason})") from error
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}, not a state")
    return state
