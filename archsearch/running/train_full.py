"""A network trained in full, to weights that `internimage.load_weights` reads.

The folder is a trial's (events, checkpoints, record), with ``asked.json`` for its spec, because
any network can be trained here and not only a variant.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from archsearch.core.interrupted import Interrupted
from archsearch.core.recipe import Recipe
from archsearch.core.task import Data, Task
from archsearch.families.internimage import InternImageFamily
from archsearch.running.train_trial import never, run_on, to_record
from archsearch.storage.files import read_json, write_json
from archsearch.storage.trial_folder import TrialFolder
from archsearch.study import Record
from archsearch.tasks.classification import CLASSIFICATION
from archsearch.training.device import check_device, settings
from archsearch.training.loop import Training
from archsearch.training.process_group import ProcessGroup
from internimage import InternImage, load_weights, save_weights

WEIGHTS = "weights.safetensors"
CLASSIFIER = {"head.linear.weight", "head.linear.bias"}


@dataclass(frozen=True)
class Job:
    """One full training. ``start`` names weights to begin from, e.g. those of a pre-training."""

    variant: InternImageFamily
    recipe: Recipe
    data: Data
    seed: int
    task: Task
    start: str | None

    def identity(self) -> dict[str, Any]:
        """What may not change between sittings: not where the data lies, nor a recipe's name."""
        config = self.variant.config_for(self.data.num_classes, self.recipe)
        values = {f"recipe.{k}": v for k, v in asdict(self.recipe).items() if k != "name"}
        values |= {f"network.{k}": v for k, v in asdict(config).items()}
        values |= {f"task.{k}": v for k, v in self.task.to_dict().items()}
        return {**values, "data": self.data.fingerprint, "seed": self.seed, "start": self.start}


def train_full(
    variant: InternImageFamily,
    recipe: Recipe,
    data: str,
    out: Path,
    *,
    task: Task = CLASSIFICATION,
    seed: int = 0,
    device: str = "auto",
    start: Path | None = None,
    stop: Callable[[], bool] = never,
) -> Record:
    """Train ``variant`` on ``data`` and write ``out/weights.safetensors``.

    The same call goes on where it was stopped; of a finished training it returns the record.
    ``device="cuda*4"`` trains on four GPUs, at the recipe's batch size over all of them. ``start``
    gives the first weights; a classifier for other classes is begun anew. The averaged weights
    are written where the recipe averages.

    Raises:
        Interrupted: ``stop()`` was true; the same call goes on.
        ValueError: ``out`` holds another training (the differences are named), ``start`` does not
            fit, or what `archsearch.running.train_trial.train_trial` raises.
    """
    check_device(recipe, device)
    described = task.describe(data, recipe)
    job = Job(variant, recipe, described, seed, task, None if start is None else str(start))
    folder = TrialFolder(out)
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.lock():
        _claim(folder, job)
        if folder.record() is None:
            run_on(device, partial(_train, folder.path, job), stop)
        return _finished(folder, job)


def _finished(folder: TrialFolder, job: Job) -> Record:
    record = folder.record()
    if record is None:
        raise Interrupted(f"the training in {folder.path} was stopped; the same command goes on")
    if record.status == "complete" and not (folder.path / WEIGHTS).exists():
        export_weights(folder, job, folder.path / WEIGHTS)
    return record


def export_weights(folder: TrialFolder, job: Job, path: Path) -> None:
    """Write the weights of a finished training, a trial's too, for `internimage.load_weights`.

    Raises:
        ValueError: the folder has no checkpoint that is whole.
    """
    found = folder.load_checkpoint()
    if found is None:
        raise ValueError(f"{folder.path} holds no whole checkpoint to take weights from")
    model = InternImage(job.variant.config_for(job.data.num_classes, job.recipe))
    model.load_state_dict(measured_weights(found[1]))
    save_weights(model, path)


def measured_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights in a checkpoint's state that its numbers are of: the averaged ones, if any."""
    if state["average"] is None:
        return dict(state["model"])
    prefix = "module."
    average = state["average"].items()
    return {k.removeprefix(prefix): v for k, v in average if k.startswith(prefix)}


def _claim(folder: TrialFolder, job: Job) -> None:
    """Note what is asked for, or check that it is what the folder was begun with."""
    path = folder.path / "asked.json"
    wanted = json.loads(json.dumps(job.identity()))  # as it comes back: tuples become lists
    if not path.exists():
        write_json(path, {"identity": wanted, "recipe": job.recipe.name, "data": asdict(job.data)})
        return
    begun = read_json(path)["identity"]
    keys = sorted(k for k in wanted.keys() | begun.keys() if wanted.get(k) != begun.get(k))
    if keys:
        changes = "; ".join(f"{k} was {begun.get(k)}, now {wanted.get(k)}" for k in keys)
        raise ValueError(f"{folder.path} holds another training ({changes}): use another folder")


def _train(
    folder: Path, job: Job, group: ProcessGroup, device: torch.device, stop: Callable[[], bool]
) -> None:
    with settings(job.recipe, device):
        training = Training(job.variant, job.recipe, job.data, job.seed, job.task, device, group)
        if job.start is not None:
            _start_from(training, Path(job.start))
        to_record(training, TrialFolder(folder), "", stop)


def _start_from(training: Training, path: Path) -> None:
    """Take the weights in ``path``, all but a classifier of another size."""
    given, model = load_weights(path).state_dict(), training.model
    own = model.state_dict()
    other = [k for k in own if k not in given or own[k].shape != given[k].shape]
    if misfits := sorted((set(other) | (given.keys() - own.keys())) - CLASSIFIER):
        raise ValueError(f"{path} does not fit the network: {', '.join(misfits)}")
    model.load_state_dict({k: given[k] for k in own if k not in other}, strict=False)
    if other:
        training.progress.notes.append(f"classifier not taken from {path}: other classes")
