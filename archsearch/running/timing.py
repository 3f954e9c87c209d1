"""A few steps of a trial, timed: the work behind an estimate. It trains nothing that is kept."""

import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch

from archsearch.core.interrupted import Interrupted
from archsearch.core.task import Batch
from archsearch.running.train_trial import never, training_of
from archsearch.storage.study_folder import TrialFolder
from archsearch.study import Record
from archsearch.training.device import device_name, device_of, settings
from archsearch.training.loop import Diverged, Training
from archsearch.training.memory import PeakMemory

STEPS = 20
SECONDS = 4.0
"""Steps after the first are timed until there are so many or so long has passed; two at least."""


def time_steps(folder: Path, device: str = "auto", stop: Callable[[], bool] = never) -> None:
    """Time optimizer steps of the trial in ``folder``, and write what was seen as its record.

    Metrics: ``setup_seconds`` until the first step, ``seconds_per_image`` (median over steps),
    ``peak_memory_bytes`` and ``memory_bytes`` (what a GPU has; of a machine's memory only the
    driver knows how much was free before all this). A loss that is no number is no failure here.

    Raises:
        Interrupted: ``stop()`` was true.
    """
    trial_folder = TrialFolder(folder)
    trial, on = trial_folder.trial(), device_of(device)
    started = time.monotonic()
    with settings(trial.recipe, on):
        peak = PeakMemory(on)
        training = training_of(trial, on)
        times = list(islice(_steps(training, stop), STEPS + 1))
        metrics = {
            "setup_seconds": time.monotonic() - started - sum(times[1:]) * trial.recipe.batch_size,
            "seconds_per_image": statistics.median(times[1:] or times),
            "peak_memory_bytes": peak.bytes(),
            "memory_bytes": _gpu_bytes(on),
        }
    trial_folder.write_record(
        Record(trial.id, "complete", metrics, cost=training.cost, device=device_name(on))
    )


def _steps(training: Training, stop: Callable[[], bool]) -> Iterator[float]:
    """Seconds per image of step after step; the first pays for what is done once."""
    begun = time.monotonic()
    for i, batch in enumerate(training.remaining_batches()):
        if stop():
            raise Interrupted("stopped while timing")
        if i > 2 and time.monotonic() - begun > SECONDS:
            return
        before = time.monotonic()
        finite = _step(training, batch)
        yield (time.monotonic() - before) / len(batch[1])
        if not finite:
            return


def _step(training: Training, batch: Batch) -> bool:
    """Make a step, to its end on the device; False when the loss is no longer a number."""
    try:
        training.step(batch)
    except Diverged:
        return False
    if training.device.type == "cuda":
        torch.cuda.synchronize(training.device)
    return True


def _gpu_bytes(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return None
