"""A small run that the tests export, and what each tracker must show of it."""

from pathlib import Path
from typing import Any

from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record
from tests import toy

CURVE: tuple[dict[str, Any], ...] = (
    {"epoch": 1, "epochs": 2, "val_accuracy": 60.0, "val_loss": None, "seconds": 2.0},
    {"epoch": 2, "epochs": 2, "val_accuracy": 80.0, "val_loss": 0.5, "seconds": 3.0},
)


def make(path: Path) -> StudyFolder:
    """Two networks of two seeds: complete, diverged, failed, and one without a result."""
    folder = StudyFolder(path).create(toy.study(2, seeds=(0, 1)), toy.DATA)
    for trial in folder.trials():
        folder.trial(trial.id).write_spec(trial)
    finish(folder, 0, "complete", metrics={"val_accuracy": 80.0, "test_accuracy": None})
    finish(folder, 1, "diverged", error="the loss is nan", curve=CURVE[:1])
    finish(folder, 2, "failed", kind="crash", error="stopped", curve=())
    return folder


def finish(folder: StudyFolder, index: int, status: Any, **values: Any) -> None:
    trial = folder.trial(folder.ids()[index])
    trial.write_record(Record(trial.id, status, **{"seconds": 6.0, "curve": CURVE, **values}))


def retry_the_failed(folder: StudyFolder) -> None:
    """The failed training is trained again, with a result; the last one ends too."""
    folder.trial(folder.ids()[2]).set_record_aside()
    finish(folder, 2, "complete", metrics={"val_accuracy": 80.0})
    finish(folder, 3, "complete", metrics={"val_accuracy": 80.0})
