"""Checkpoints of one trial: the two newest and the best, each named by its epoch and sha256.

The hash is in the name, so a file and its hash appear in one rename, and the file stays one that
`torch.load` reads. Nothing is ever unpickled: checkpoints hold tensors and plain Python, and load
with ``weights_only=True``.
"""

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from archsearch.storage.files import new_file, quarantine

Which = Literal["newest", "best"]

KEEP = 2
"""One to continue from, and one more in case that one is damaged."""

_NAME = re.compile(r"(checkpoint|best)-(\d+)-([0-9a-f]{64})\.pt")


@dataclass(frozen=True, order=True)
class Checkpoint:
    """A checkpoint file. Ordered by epoch: file times lie after a copy or a clock jump."""

    epoch: int
    kind: str
    sha256: str
    path: Path


def stored(folder: Path, kind: str = "checkpoint") -> list[Checkpoint]:
    """The checkpoints of ``kind`` in ``folder``, newest first; an absent folder has none."""
    if not folder.is_dir():
        return []
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    found = [Checkpoint(int(m[2]), m[1], m[3], path) for m, path in matches if m and m[1] == kind]
    return sorted(found, reverse=True)


def save(folder: Path, state: Mapping[str, Any], epoch: int, best: bool = False) -> None:
    """Save ``state`` as the checkpoint after ``epoch``; ``best`` keeps it beyond the two newest.

    Raises:
        OSError: as the disk gave it, e.g. when it is full; the older checkpoints are then intact.
    """
    import torch

    with new_file(folder) as file:
        try:
            torch.save(dict(state), file)  # type: ignore[arg-type]  # it only writes
        except RuntimeError:
            if file.error is not None:
                raise file.error from None
            raise
        name = f"{epoch:05d}-{file.sha256.hexdigest()}.pt"
        # The best first: whoever continues from this checkpoint counts on its best being there.
        bests = [folder / f"best-{name}"] if best else []
        file.publish(folder / f"checkpoint-{name}", *bests)
    old_bests = [old for old in stored(folder, "best") if old.path not in bests] if best else []
    for old in stored(folder)[KEEP:] + old_bests:
        old.path.unlink(missing_ok=True)


def keep_newest(folder: Path) -> None:
    """Delete what a finished trial needs no more: all but the newest, and the best if another."""
    for old in stored(folder)[1:]:
        old.path.unlink(missing_ok=True)


def load(folder: Path, which: Which = "newest") -> tuple[int, dict[str, Any]] | None:
    """The epoch and state of the newest (or best) checkpoint that is whole, on the CPU.

    A damaged one is renamed to ``*.corrupt``, told of, and the one before it is used.
    """
    for checkpoint in stored(folder, "checkpoint" if which == "newest" else "best"):
        try:
            return checkpoint.epoch, _read(checkpoint)
        except ValueError as error:
            quarantine(checkpoint.path, str(error))
    return None


def _read(checkpoint: Checkpoint) -> dict[str, Any]:
    """The state in a checkpoint; ValueError for one that is not what was saved."""
    import torch

    with checkpoint.path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != checkpoint.sha256:
            raise ValueError("its sha256 is not the one in its name")
    if not zipfile.is_zipfile(checkpoint.path):
        raise ValueError("it is not in the format of torch.save")
    try:
        state = torch.load(checkpoint.path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError("it holds more than tensors and plain values") from error
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}, not a state")
    return state
