"""Time a few steps of a trial, for a cost estimate. The trained weights are discarded."""

import statistics
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
from archsearch.training.memory import PeakMemory
from archsearch.training.state import Training
from archsearch.training.step import Diverged, take_step

STEPS = 20
SECONDS = 4.0
"""Steps after the first are timed up to this number or time, but at least two."""


def time_steps(folder: Path, device: str = "auto", stop: Stop = never) -> None:
    """Time optimizer steps of the trial in ``folder``, and write the measurements as its record.

    Metrics: ``setup_seconds`` until the first step, ``seconds_per_image`` (median over steps),
    ``peak_memory_bytes``, and ``memory_bytes``, the total of a GPU (None on a CPU: only the driver
    knows how much memory was free before any timing). A loss that is not finite is no failure.

    Raises:
        Interrupted: ``stop()`` returned True.
    """
    trial_folder = TrialFolder(folder)
    trial, torch_device = trial_folder.trial(), device_of(device)
    started = time.monotonic()
    with settings(trial.recipe, torch_device):
        peak = PeakMemory(torch_device)
        training = training_of(trial, torch_device)
        times = list(islice(_steps(training, stop), STEPS + 1))
        metrics = {
            "setup_seconds": time.monotonic() - started - sum(times[1:]) * trial.recipe.batch_size,
            "seconds_per_image": statistics.median(times[1:] or times),
            "peak_memory_bytes": peak.bytes(),
            "memory_bytes": _gpu_bytes(torch_device),
        }
    name = device_name(torch_device)
    trial_folder.write_record(
        Record(trial.id, "complete", metrics, cost=training.cost, device=name)
    )


def _steps(training: Training, stop: Stop) -> Iterator[float]:
    """Seconds per image of each step; the first one includes one-time costs."""
    started = time.monotonic()
    for i, batch in enumerate(training.remaining_batches()):
        if stop():
            raise Interrupted("stopped while timing")
        if i > 2 and time.monotonic() - started > SECONDS:
            return
        step_started = time.monotonic()
        finite = _finish_step(training, batch)
        yield (time.monotonic() - step_started) / len(batch[1])
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


def _gpu_bytes(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return None
