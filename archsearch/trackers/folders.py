"""Folders that appear when they are complete, for trackers that keep each run in one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

from archsearch.storage.lock import hold
from archsearch.trackers.trainings import Training

INCOMPLETE = ".incomplete-"
"""How the names of temporary folders begin."""

WAIT_SECONDS = 10.0
"""How long an export waits for another one."""

Write = Callable[[Training, Path], Path]
"""Writes a training somewhere below a temporary folder, and returns the folder of the training."""


def write_folders(
    trainings: Sequence[Training],
    parent: Path,
    pattern: str,
    write: Write,
    target: Callable[[Training, Path], str],
) -> int:
    """Write the trainings that ``parent`` lacks; return their number.

    A training's folder, ``target`` below ``parent``, fits the ``pattern`` and ends in its key. It
    is written elsewhere and then renamed, so that an interrupted export leaves no half of it. What
    a killed export has left is removed.

    Raises:
        Locked: another export writes to ``parent``.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with hold(parent / ".lock", WAIT_SECONDS):
        for leftover in parent.glob(f"{INCOMPLETE}*"):
            rmtree(leftover, ignore_errors=True)
        known = {path.name.rpartition("-")[2] for path in parent.glob(pattern)}
        new = [training for training in trainings if training.key not in known]
        for training in new:
            with TemporaryDirectory(prefix=INCOMPLETE, dir=parent) as temporary:
                folder = write(training, Path(temporary))
                path = parent / target(training, folder)
                path.parent.mkdir(parents=True, exist_ok=True)
                folder.rename(path)
    return len(new)
