"""Time the parts of a trial on few images, for a cost estimate. The trained weights are discarded.

The parts are measured by the training's own code and laps, so that a change there needs none here.
"""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from archsearch.core.interrupted import Interrupted, Stop
from archsearch.core.task import Batch
from archsearch.running.train_trial import training_of
from archsearch.running.work import never
from archsearch.storage.study_folder import TrialFolder
from archsearch.study import Record
from archsearch.training.device import device_name, device_of, settings, synchronize
from archsearch.training.measure import validate
from archsearch.training.memory import PeakMemory
from archsearch.training.state import Training
from archsearch.training.step import Diverged, take_step

STEPS = 20
SECONDS = 4.0
"""Steps after the first are timed up to this number or time, but at least two."""

VAL_BATCHES = 4
"""The validation is timed on this many batches."""


def time_steps(folder: Path, device: str = "auto", stop: Stop = never) -> None:
    """Time the parts of the trial in ``folder``, and write the measurements as its record.

    Metrics: those of the validation; ``start_seconds`` before the first step, and what that one
    takes longer than others; ``seconds_per_image`` (mean over steps); ``calibration_seconds``
    (BatchNorm's statistics, once); ``val_seconds_per_image`` (None without a validation split);
    ``checkpoint_seconds`` (with the optimizer's moments); ``peak_memory_bytes``; and
    ``memory_bytes``, the total of a GPU (None on a CPU: only the driver knows how much memory was
    free before any timing). The record's seconds are all of the timing. A loss that is not finite
    is no failure. The test split is not read.

    Raises:
        Interrupted: ``stop()`` returned True.
    """
    began = time.monotonic()
    trial_folder = TrialFolder(folder)
    trial, torch_device = trial_folder.trial(), device_of(device)
    trial.task.check(trial.data)
    with settings(trial.recipe, torch_device):
        peak = PeakMemory(torch_device)
        training = training_of(trial, torch_device)
        training.begin(began)
        metrics: dict[str, float | int | None] = {
            **_time_training(training, stop),
            **_time_end_of_epoch(training, trial_folder),
            "peak_memory_bytes": peak.bytes(),
            "memory_bytes": _gpu_bytes(torch_device),
        }
    seconds, name = time.monotonic() - began, device_name(torch_device)
    trial_folder.write_record(
        Record(trial.id, "complete", metrics, cost=training.cost, seconds=seconds, device=name)
    )


def _time_training(training: Training, stop: Stop) -> dict[str, float]:
    """Start and steps; the first step includes one-time costs, which are part of the start."""
    steps = list(islice(_steps(training, stop), STEPS + 1))
    training.lap("steps")
    timed = steps[1:] or steps
    seconds, images = (sum(column) for column in zip(*timed, strict=True))
    first, num_images = steps[0]
    parts, extra = training.progress.parts, first - num_images * seconds / images
    others = sum(parts.values()) - sum(seconds for seconds, _ in steps)
    return {"start_seconds": max(0.0, others + extra), "seconds_per_image": seconds / images}


def _steps(training: Training, stop: Stop) -> Iterator[tuple[float, int]]:
    """Seconds and images of each step."""
    started = time.monotonic()
    for i, batch in enumerate(training.remaining_batches()):
        if stop():
            raise Interrupted("stopped while timing")
        if i > 2 and time.monotonic() - started > SECONDS:
            return
        step_started = time.monotonic()
        finite = _finish_step(training, batch)
        yield time.monotonic() - step_started, len(batch[1])
        if not finite:
            return


def _finish_step(training: Training, batch: Batch) -> bool:
    """Take a step and wait until the device has finished it; returns whether the loss is finite."""
    try:
        take_step(training, batch)
    except Diverged:
        return False
    synchronize(training.device)
    return True


def _time_end_of_epoch(training: Training, folder: TrialFolder) -> dict[str, float | None]:
    """Calibration, validation on a few batches, and a checkpoint."""
    images = training.splits.val[: VAL_BATCHES * training.progress.micro_batch]
    training.splits.val = images
    score = validate(training) or {}
    folder.save_checkpoint(training.state(), training.steps_done, best=True)
    training.lap("checkpoints")
    parts = training.progress.parts
    return {
        "calibration_seconds": parts["calibration"],
        "val_seconds_per_image": parts["validation"] / len(images) if len(images) else None,
        "checkpoint_seconds": parts["checkpoints"],
        **{f"val_{name}": value for name, value in score.items()},
    }


def _gpu_bytes(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return None
