"""One trial: from its folder to its record."""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path

import torch

from archsearch.core.recipe import Recipe, trained_config
from archsearch.core.study import Data, Interrupted, Record, Trial
from archsearch.storage import checkpoint
from archsearch.storage.study_folder import TrialFolder
from archsearch.training.data import DataError, Dataset, load
from archsearch.training.loop import Diverged, Training, check_precision, fit
from archsearch.training.process_group import ALONE, World
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
    planned_data(trial.data)  # in this process, so that its error keeps its type
    run_on(device, partial(_train_trial, Path(folder), trial), stop)
    if TrialFolder(folder).record() is None:
        raise Interrupted(f"trial {trial.id} was stopped")


def _train_trial(
    folder: Path, trial: Trial, world: World, device: torch.device, stop: Callable[[], bool]
) -> None:
    with settings(trial.recipe, device):
        config = trained_config(trial.variant, trial.recipe, trial.data.num_classes)
        dataset = planned_data(trial.data)
        training = Training(config, trial.recipe, dataset, trial.seed, device, world)
        to_record(training, TrialFolder(folder), trial.id, stop)


def run_on(device: str, work: Work, stop: Callable[[], bool]) -> None:
    """Do ``work`` here, or with ``TYPE*N`` in N processes, on a device each."""
    place, size = devices_of(device)
    if size is None:
        work(ALONE, place, stop)
    else:
        spread(work, size, place.type, stop)


def to_record(
    training: Training, folder: TrialFolder, trial_id: str, stop: Callable[[], bool]
) -> None:
    """Train on from the newest checkpoint in ``folder`` to a record; the first process writes."""
    first = training.world.rank == 0
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


def device_of(name: str) -> torch.device:
    """``auto`` is the GPU if there is one.

    Raises:
        ValueError: the device asked for is not on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"no device {name!r} here, use auto, cpu or cuda: {reason}") from None
    return device


def devices_of(name: str) -> tuple[torch.device, int | None]:
    """The device, or of ``TYPE*N`` the first one and N.

    Raises:
        ValueError: it is not on this machine, or not so often.
    """
    one, several, size = name.partition("*")
    if several and (":" in one or not size.isdecimal() or int(size) < 1):
        raise ValueError(f"no device {name!r}: wanted a number after the *, such as cuda*4")
    device = device_of(one)
    if several and device.type == "cuda" and int(size) > torch.cuda.device_count():
        raise ValueError(f"wanted {size} GPUs, there are {torch.cuda.device_count()}")
    return device, int(size) if several else None


def check_device(recipe: Recipe, device: str) -> None:
    """Ask beforehand whether ``recipe`` can be trained on ``device``.

    Raises:
        ValueError: as `devices_of`, or the device cannot compute in the recipe's precision.
    """
    check_precision(recipe, devices_of(device)[0])


@contextmanager
def settings(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Threads, TF32 and random state as a training needs them, put back afterwards."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            torch.set_num_threads(recipe.threads)
            torch.set_float32_matmul_precision("high")  # TF32 on a GPU, nothing on a CPU
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(precision)


def planned_data(planned: Data) -> Dataset:
    """The data set that ``planned`` describes.

    Raises:
        DataError: it is missing or damaged, or other images are in its place.
    """
    dataset = load(planned.name)
    if dataset.fingerprint != planned.fingerprint:
        raise DataError(
            f"{dataset.source} is not the data this trial was planned with: fingerprint "
            f"{dataset.fingerprint}, wanted {planned.fingerprint}"
        )
    return dataset


def _resume(training: Training, folder: TrialFolder) -> None:
    found = training.world.after_first(folder.load_checkpoint)
    if found is None:
        return
    training.load_state(found[1])
    if training.world.rank == 0:
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
    rows = training.progress.curve
    last = rows[-1] if rows and finished else {}
    accuracies = [row["val_accuracy"] for row in rows if row["val_accuracy"] is not None]
    test = training.test() if finished else None
    return {
        "val_accuracy": last.get("val_accuracy"),
        "val_loss": last.get("val_loss"),
        "train_loss": last.get("train_loss"),
        "best_val_accuracy": max(accuracies, default=None),
        "test_accuracy": test.accuracy if test else None,
        "test_loss": test.loss if test else None,
        "images_per_second": training.images_per_second,
        "peak_memory_bytes": training.peak.bytes(),
    }


def device_name(device: torch.device) -> str:
    """What a person calls it, e.g. ``NVIDIA H200`` or ``cpu (AMD EPYC)``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"cpu ({platform.machine()})"
    model = next((s.partition(":")[2].strip() for s in lines if s.startswith("model name")), "")
    return f"cpu ({model or platform.machine()})"


def versions() -> dict[str, str]:
    """Of all that computes a trial's numbers."""
    found = {"python": platform.python_version()}
    for package in ("archsearch", "torch", "numpy", "kornia"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
