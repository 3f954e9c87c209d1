"""One trial: from its folder to its record."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from archsearch.core.interrupted import Interrupted
from archsearch.core.versions import versions
from archsearch.storage import checkpoint
from archsearch.storage.study_folder import TrialFolder
from archsearch.study import Record, Trial
from archsearch.training.device import device_name, devices_of, settings
from archsearch.training.loop import Diverged, Training, fit
from archsearch.training.process_group import ALONE, ProcessGroup
from archsearch.training.spawn import Work, spread


def never() -> bool:
    return False


def train_trial(folder: Path, device: str = "auto", stop: Callable[[], bool] = never) -> None:
    """Train the trial in ``folder`` to its record, from its newest checkpoint if it has one.

    Every epoch adds an event and a checkpoint. The record is ``complete``, or ``diverged`` when
    the loss is no longer finite; everything else is raised, for whoever runs trials to judge.
    Then the last checkpoint alone stays: the weights that the record's numbers are of.
    ``device`` may ask for several: ``cuda*4`` trains on four GPUs. ``stop`` is asked at every
    optimizer step. The caller holds the folder's lock.

    Raises:
        Interrupted: ``stop()`` was true; a checkpoint holds the state.
        DataError: the data is missing, damaged, or not what the trial was planned with.
        ValueError: the device is not there, or cannot compute in the recipe's precision.
    """
    trial = TrialFolder(folder).trial()
    trial.task.check(trial.data)  # in this process, so that its error keeps its type
    run_on(device, partial(_train_trial, Path(folder), trial), stop)
    if TrialFolder(folder).record() is None:
        raise Interrupted(f"trial {trial.id} was stopped")


def _train_trial(
    folder: Path,
    trial: Trial,
    group: ProcessGroup,
    device: torch.device,
    stop: Callable[[], bool],
) -> None:
    with settings(trial.recipe, device):
        to_record(training_of(trial, device, group), TrialFolder(folder), trial.id, stop)


def training_of(trial: Trial, device: torch.device, group: ProcessGroup = ALONE) -> Training:
    """The training that a trial describes, at its beginning."""
    return Training(trial.variant, trial.recipe, trial.data, trial.seed, trial.task, device, group)


def run_on(device: str, work: Work, stop: Callable[[], bool]) -> None:
    """Do ``work`` here, or with ``TYPE*N`` in N processes, on a device each."""
    first, size = devices_of(device)
    if size is None:
        work(ALONE, first, stop)
    else:
        spread(work, size, first.type, stop)


def to_record(
    training: Training, folder: TrialFolder, trial_id: str, stop: Callable[[], bool]
) -> None:
    """Train on from the newest checkpoint in ``folder`` to a record; the first process writes."""
    first = training.group.rank == 0
    _resume(training, folder)
    error = ""
    try:
        if first:
            fit(training, stop, folder.save_checkpoint, folder.append_event)
        else:
            fit(training, stop, _nothing, _nothing)
    except Diverged as diverged:
        error = str(diverged)
    record = _record(trial_id, training, error)
    if first:
        folder.write_record(record)
        checkpoint.keep_newest(folder.path)


def _nothing(*_: object) -> None:
    """Where other processes save and tell."""


def _resume(training: Training, folder: TrialFolder) -> None:
    found = training.group.after_first(folder.load_checkpoint)
    if found is None:
        return
    training.load_state(found[1])
    if training.group.rank == 0:
        told = {event["epoch"] for event in folder.events() if "epoch" in event}
        for row in training.progress.curve:  # killed between a checkpoint and its event
            if row["epoch"] not in told:
                folder.append_event(row)


def _record(trial_id: str, training: Training, error: str) -> Record:
    p = training.progress
    return Record(
        trial_id=trial_id,
        status="diverged" if error else "complete",
        metrics=_metrics(training, finished=not error),
        curve=tuple(p.curve),
        cost=training.cost,
        error=error,
        seconds=sum(row["seconds"] for row in p.curve) + p.epoch_seconds,
        device=device_name(training.device),
        versions=versions(),
        notes=tuple(p.notes),
    )


def _metrics(training: Training, finished: bool) -> dict[str, float | None]:
    """The last epoch's numbers, not the best epoch's: a best over epochs is chosen on the
    validation split, is biased upwards, and the more so the noisier a cell is.
    """
    p, names, chooses = training.progress, training.task.measures, training.task.chooses
    last = p.curve[-1] if p.curve and finished else {}
    test = training.test() if finished else None
    return {
        **{f"val_{name}": last.get(f"val_{name}") for name in names},
        "train_loss": last.get("train_loss"),
        f"best_{chooses}": p.best,
        **{f"test_{name}": test[name] if test else None for name in names},
        "images_per_second": training.images_per_second,
        "peak_memory_bytes": training.peak.bytes(),
    }
