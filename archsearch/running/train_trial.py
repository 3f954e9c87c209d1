"""Train one trial in its folder until it has a record."""

import time
from functools import partial
from pathlib import Path

import torch

from archsearch.core.interrupted import Interrupted, Stop
from archsearch.core.versions import versions
from archsearch.running.work import never
from archsearch.scenes import predicted
from archsearch.scenes.data import classes, load_verified
from archsearch.storage import checkpoint
from archsearch.storage.files import write_bytes
from archsearch.storage.study_folder import TrialFolder
from archsearch.storage.trial_folder import PREDICTIONS
from archsearch.study import Record, Trial
from archsearch.tasks.annotated import OnMaps
from archsearch.training.device import device_name, devices_of, settings
from archsearch.training.loop import fit
from archsearch.training.measure import measure_test, on_held_out
from archsearch.training.process_group import SINGLE_PROCESS, ProcessGroup
from archsearch.training.spawn import Work, run_in_processes
from archsearch.training.state import Training
from archsearch.training.step import Diverged
from cuda_ops.build import cpu_recipe


def train_trial(folder: Path, device: str = "auto", stop: Stop = never) -> None:
    """Train the trial in ``folder`` until it has a record, from its newest checkpoint if any.

    Every epoch adds an event and a checkpoint. The record's status is ``complete``, or
    ``diverged`` if the loss is no longer finite; all other errors are raised for the runner to
    handle. Afterwards only the last checkpoint is kept: the weights that the record's numbers
    belong to. ``device`` may name several: ``cuda*4`` trains on four GPUs. ``stop`` is called at
    every optimizer step. The caller holds the folder's lock.

    Raises:
        Interrupted: ``stop()`` returned True; a checkpoint holds the state.
        DataError: the data is missing or damaged, or the trial was planned with other data.
        ValueError: the device does not exist, or cannot compute in the recipe's precision.
    """
    began = time.monotonic()
    trial = TrialFolder(folder).trial()
    trial.task.check(trial.data)  # in this process, so that its error keeps its type
    run_on(device, partial(_train_trial, Path(folder), trial, began), stop)
    if TrialFolder(folder).record() is None:
        raise Interrupted(f"trial {trial.id} was stopped")


def _train_trial(
    folder: Path,
    trial: Trial,
    began: float,
    group: ProcessGroup,
    device: torch.device,
    stop: Stop,
) -> None:
    with settings(trial.recipe, device):
        training = training_of(trial, device, group)
        if trial.start is not None:
            from archsearch.running.initial_weights import load_trained  # loads safetensors

            load_trained(training, trial.start)
        training.begin(began)
        to_record(training, TrialFolder(folder), trial.id, stop)


def training_of(
    trial: Trial, device: torch.device, group: ProcessGroup = SINGLE_PROCESS
) -> Training:
    """The training that a trial describes, at random weights and before its first step."""
    return Training(trial.variant, trial.recipe, trial.data, trial.seed, trial.task, device, group)


def run_on(device: str, work: Work, stop: Stop) -> None:
    """Run ``work`` in this process, or for ``TYPE*N`` in N processes on one device each."""
    first, size = devices_of(device)
    if size is None:
        work(SINGLE_PROCESS, first, stop)
    else:
        run_in_processes(work, size, first.type, stop)


def to_record(training: Training, folder: TrialFolder, trial_id: str, stop: Stop) -> None:
    """Train from the newest checkpoint in ``folder`` to a record; the first process writes."""
    writes = training.group.rank == 0
    _resume(training, folder)
    training.lap("start")
    error = ""
    try:
        if writes:
            fit(training, stop, folder.save_checkpoint, folder.append_event)
        else:
            fit(training, stop, _ignore, _ignore)
    except Diverged as diverged:
        error = str(diverged)
    record = _record(trial_id, training, error)
    if writes:
        if not error:
            _write_predictions(training, folder)
        folder.write_record(record)
        checkpoint.keep_newest(folder.path)


def _write_predictions(training: Training, folder: TrialFolder) -> None:
    """Write what a detector or segmenter predicts in a few held-out images, for reports."""
    task = training.task
    if isinstance(task, OnMaps) and len(training.splits.val):
        names = classes(load_verified(training.data), task.annotation)
        images = on_held_out(training, predicted.NUM_IMAGES, task.predicted)
        write_bytes(folder.path / PREDICTIONS, predicted.to_bytes(images, names))


def _ignore(*_: object) -> None:
    """What the other processes do instead of saving and reporting."""


def _resume(training: Training, folder: TrialFolder) -> None:
    load = partial(folder.load_checkpoint, training.check_state)
    stored = training.group.first_process_first(load)
    if stored is None:
        return
    training.load_state(stored[1])
    if training.group.rank == 0:
        epochs = {event["epoch"] for event in folder.events() if "epoch" in event}
        for row in training.progress.curve:  # it was killed between a checkpoint and its event
            if row["epoch"] not in epochs:
                folder.append_event(row)


def _record(trial_id: str, training: Training, error: str) -> Record:
    p = training.progress
    metrics = _metrics(training, finished=not error)
    training.lap("steps" if error else "test")
    return Record(
        trial_id=trial_id,
        status="diverged" if error else "complete",
        metrics={**metrics, **{f"{part}_seconds": seconds for part, seconds in p.parts.items()}},
        curve=tuple(p.curve),
        cost=training.cost,
        error=error,
        seconds=sum(p.parts.values()),
        device=device_name(training.device),
        versions={**versions(), "operator": cpu_recipe().digest},
        notes=(*training.data.record_notes, *p.notes),
    )


def _metrics(training: Training, finished: bool) -> dict[str, float | None]:
    """The metrics of a record, from the last epoch and not the best one.

    The best of several epochs is chosen on the validation split, so it is biased upwards, and more
    so for noisier cells.
    """
    p, names, ranking = training.progress, training.task.measures, training.task.ranking_metric
    last = p.curve[-1] if p.curve and finished else {}
    test = (measure_test(training) if finished else None) or {}
    return {
        **{f"val_{name}": last.get(f"val_{name}") for name in names},
        "train_loss": last.get("train_loss"),
        f"best_{ranking}": p.best,
        **{f"test_{name}": test.get(name) for name in names},
        "images_per_second": p.images_per_second,
        "peak_memory_bytes": training.peak.bytes(),
    }
