"""Train a network in full, to weights that `archsearch.running.weights.read_network` reads.

The folder has a trial's files (events, checkpoints, record), but ``request.json`` instead of a
spec, because any network can be trained here, not only a variant of a study.
"""

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch

from archsearch.core.family import Family, variant_to_dict
from archsearch.core.interrupted import Interrupted, Stop
from archsearch.core.recipe import Recipe
from archsearch.core.task import Data, Task
from archsearch.families.internimage import InternImageFamily
from archsearch.running.described import describe_weights
from archsearch.running.initial_weights import load_start
from archsearch.running.start_file import StartFile, check_start, read_start
from archsearch.running.train_trial import run_on, to_record
from archsearch.running.weights import Built, measured_weights, write_weights
from archsearch.running.work import never
from archsearch.storage.family_sources import write_sources
from archsearch.storage.files import log, plain_json, remove_leftovers, write_json
from archsearch.storage.stored_json import read_typed
from archsearch.storage.trial_folder import TrialFolder
from archsearch.study import Record
from archsearch.tasks.classification import CLASSIFICATION
from archsearch.training.device import check_device, settings
from archsearch.training.memory import check_fits
from archsearch.training.process_group import ProcessGroup
from archsearch.training.state import Training

WEIGHTS = "weights.safetensors"
REQUEST = "request.json"
OLD_REQUEST = "asked.json"
"""The name of `REQUEST` in folders of earlier versions; they are resumed."""

RECIPE = "recipe."
"""How the names of a recipe's fields begin in an identity."""


@dataclass(frozen=True)
class TrainingRequest:
    """One full training; ``start`` is the file of its initial weights, if it has them."""

    variant: Family
    recipe: Recipe
    data: Data
    seed: int
    task: Task
    start: StartFile | None

    def identity(self) -> dict[str, Any]:
        """What may not change on resume; paths and the recipe's name may."""
        values = {RECIPE + k: v for k, v in self.recipe.to_dict().items() if k != "name"}
        values |= {f"network.{k}": v for k, v in self._network().items()}
        values |= {f"task.{k}": v for k, v in self.task.to_dict().items()}
        start = None if self.start is None else self.start.sha256
        return {**values, "data": self.data.fingerprint, "seed": self.seed, "start": start}

    def _network(self) -> dict[str, Any]:
        if isinstance(self.variant, InternImageFamily):
            return asdict(self.variant.config_for(self.data.num_classes, self.recipe))
        return variant_to_dict(self.variant)

    @property
    def built(self) -> Built:
        return Built(self.variant, self.recipe, self.data.num_classes, self.task)


@dataclass(frozen=True)
class _StoredRequest:
    """What is read of request.json."""

    identity: dict[str, Any]


@dataclass(frozen=True)
class _StoredTraining(_StoredRequest):
    """What is read of request.json to use the network."""

    recipe: str
    data: Data

    def trained_by(self) -> Recipe:
        """The recipe, from the identity."""
        values = {k.removeprefix(RECIPE): v for k, v in self.identity.items() if RECIPE in k}
        return msgspec.convert({**values, "name": self.recipe}, Recipe)


def data_and_recipe(weights: Path) -> tuple[Data, Recipe] | None:
    """What a network was trained on and how, if its file lies where the training wrote it.

    Raises:
        ValueError: the request of the training is damaged.
    """
    path = weights.with_name(REQUEST)
    if weights.name != WEIGHTS or not path.is_file():
        return None
    request = read_typed(path, _StoredTraining)
    return request.data, request.trained_by()


def training_folder(path: Path) -> TrialFolder:
    """The folder of a full training, whose record names no trial."""
    return TrialFolder(path, trial_id="")


def train_full(
    variant: Family,
    recipe: Recipe,
    data: str,
    out: Path,
    *,
    task: Task = CLASSIFICATION,
    seed: int = 0,
    device: str = "auto",
    start: Path | None = None,
    stop: Stop = never,
) -> Record:
    """Train ``variant`` on ``data`` and write ``out/weights.safetensors``.

    The same call resumes a stopped training; for a finished one it returns the record.
    ``device="cuda*4"`` trains on four GPUs, at the recipe's batch size over all of them. ``start``
    holds the initial weights: a file of ours, or a released checkpoint of an InternImage. A last
    layer for other classes is initialized at random, and so is the head of a detector or segmenter
    that starts from the weights of a classifier. If the recipe averages the weights, the averaged
    weights are written.

    Raises:
        Interrupted: ``stop()`` returned True; the same call resumes.
        ValueError: ``out`` holds another training (the message lists the differences), ``start``
            does not fit, or as `archsearch.running.train_trial.train_trial`.
    """
    on = check_device(recipe, device)
    description = task.describe(data, recipe)
    for note in description.notes:
        log.warning("Data: %s", note)
    start_file = None if start is None else StartFile.of(start)
    request = TrainingRequest(variant, recipe, description, seed, task, start_file)
    folder = training_folder(out)
    if folder.record() is None:
        check_fits(task.cost(variant, description, recipe.image_size, recipe.image_size), on)
        if start is not None:
            check_start(start, variant, recipe, description, task)
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.lock():
        remove_leftovers(folder.path)
        write_sources(folder.path, [type(variant)])
        _write_or_check(request, folder)
        if folder.record() is None:
            run_on(device, partial(_train, folder.path, request), stop)
        return _finish(folder, request)


def _finish(folder: TrialFolder, request: TrainingRequest) -> Record:
    record = folder.record()
    if record is None:
        message = f"the training in {folder.path} was stopped; run the same command to resume"
        raise Interrupted(message)
    if record.status == "complete" and not (folder.path / WEIGHTS).exists():
        export_weights(folder, request, folder.path / WEIGHTS)
    return record


def export_weights(folder: TrialFolder, request: TrainingRequest, path: Path) -> None:
    """Write the weights of a finished training, a trial's too, for `read_network`.

    Raises:
        ValueError: the folder has no undamaged checkpoint, or its weights do not fit the network.
    """
    stored = folder.load_checkpoint()
    if stored is None:
        raise ValueError(f"{folder.path} has no undamaged checkpoint to take weights from")
    r = request
    known = describe_weights(r.variant, r.recipe, r.data, r.task, folder.record())
    write_weights(replace(r.built, description=known), measured_weights(stored[1]), path)


def _write_or_check(request: TrainingRequest, folder: TrialFolder) -> None:
    """Write the request to a new folder, or check that it is the one in the folder.

    Raises:
        ValueError: the folder holds another training; the message lists the differences.
    """
    identity = plain_json(request.identity())
    paths = (folder.path / REQUEST, folder.path / OLD_REQUEST)
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        start = None if request.start is None else request.start.path
        names = {"recipe": request.recipe.name, "data": asdict(request.data), "start": start}
        write_json(paths[0], {"identity": identity, **names})
        return
    stored = read_typed(path, _StoredRequest).identity
    if request.start is not None and _is_stored_otherwise(request.start, stored.get("start")):
        identity["start"] = stored["start"]
    keys = sorted(k for k in identity.keys() | stored.keys() if identity.get(k) != stored.get(k))
    if keys:
        changes = "; ".join(f"{k} was {stored.get(k)}, now {identity.get(k)}" for k in keys)
        raise ValueError(f"{folder.path} holds another training ({changes}): use another folder")


def _is_stored_otherwise(start: StartFile, stored: Any) -> bool:
    """Whether the digests cannot be compared: the file is gone, or an earlier version stored its
    path."""
    return stored is not None and (start.sha256 is None or stored == start.path)


def _train(
    folder: Path, request: TrainingRequest, group: ProcessGroup, device: torch.device, stop: Stop
) -> None:
    r = request
    with settings(r.recipe, device):
        training = Training(r.variant, r.recipe, r.data, r.seed, r.task, device, group)
        if r.start is not None:
            load_start(training, read_start(Path(r.start.path)), r.start.path)
        to_record(training, training_folder(folder), "", stop)
