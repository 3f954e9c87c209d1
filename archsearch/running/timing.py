"""A few steps of a trial, timed: the work behind a quote. It trains nothing that is kept."""

import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch

from archsearch.core.recipe import trained_config
from archsearch.core.study import Interrupted, Record
from archsearch.storage.study_folder import TrialFolder
from archsearch.training.data import load
from archsearch.training.loop import Diverged, Training
from archsearch.training.memory import PeakMemory
from archsearch.training.trial import device_name, device_of, never, settings

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
    trial, place = trial_folder.trial(), device_of(device)
    started = time.monotonic()
    with settings(trial.recipe, place):
        peak = PeakMemory(place)
        config = trained_config(trial.variant, trial.recipe, trial.data.num_classes)
        training = Training(config, trial.recipe, load(trial.data.name), trial.seed, place)
        times = list(islice(_steps(training, stop), STEPS + 1))
        metrics = {
            "setup_seconds": time.monotonic() - started - sum(times[1:]) * trial.recipe.batch_size,
            "seconds_per_image": statistics.median(times[1:] or times),
            "peak_memory_bytes": peak.bytes(),
            "memory_bytes": _gpu_bytes(place),
        }
    trial_folder.write_record(
        Record(trial.id, "complete", metrics, cost=training.cost, device=device_name(place))
    )


def _steps(training: Training, stop: Callable[[], bool]) -> Iterator[float]:
    """Seconds per image of step after step; the first pays for what is done once."""
    begun = time.monotonic()
    for i, (pixels, labels) in enumerate(training.remaining_batches()):
        if stop():
            raise Interrupted("stopped while timing")
        if i > 2 and time.monotonic() - begun > SECONDS:
            return
        before = time.monotonic()
        finite = _step(training, pixels, labels)
        yield (time.monotonic() - before) / len(labels)
        if not finite:
            return


def _step(training: Training, pixels: torch.Tensor, labels: torch.Tensor) -> bool:
    """Make a step, to its end on the device; False when the loss is no longer a number."""
    try:
        training.step(pixels, labels)
    except Diverged:
        return False
    if training.device.type == "cuda":
        torch.cuda.synchronize(training.device)
    return True


def _gpu_bytes(place: torch.device) -> int | None:
    if place.type == "cuda":
        return torch.cuda.get_device_properties(place).total_memory
    return None
