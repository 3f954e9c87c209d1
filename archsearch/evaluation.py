"""Measure the weights of a trained network, of any family and task, on a split of a data set.

The network is measured as in its training: in the same precision, with images of the same size,
from weights that are averaged if the recipe averages them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from archsearch.core.recipe import Recipe
from archsearch.core.task import Batch, Data, Task
from archsearch.networks import NetworkName, find_trial
from archsearch.results import TrialResult, load
from archsearch.running.weights import Built, measured_weights, read_built
from archsearch.storage.study_folder import StudyFolder
from archsearch.tasks.classification import CLASSIFICATION
from archsearch.tasks.segmentation import Segmentation
from archsearch.training.device import autocast, check_precision, settings
from archsearch.training.loader import even_parts
from archsearch.training.process_group import SINGLE_PROCESS
from internimage.description import description_of
from internimage.model import InternImage
from internimage.official import load_official
from internimage.weights import load_weights

Split = Literal["val", "test"]

OFFICIAL = (".pth", ".pt", ".bin")
"""Suffixes of released weights."""

MAX_BATCH = 16
"""Images that pass through a network at a time."""


@dataclass(frozen=True)
class SavedNetwork:
    """A trained network in evaluation mode.

    ``recipe`` is None if the weights do not come with it, ``data`` and ``result`` if they are not
    of a run. ``trained_on`` is the data of the training, if it is known.
    """

    label: str
    model: nn.Module
    num_classes: int
    task: Task = CLASSIFICATION
    recipe: Recipe | None = None
    data: str | None = None
    result: TrialResult | None = None
    trained_on: Data | None = None

    @property
    def image_size(self) -> int | None:
        """The size of the images in training; None if it is not known."""
        if self.recipe is not None:
            return self.recipe.image_size
        preprocessing = description_of(self.model).preprocessing
        return None if preprocessing is None else preprocessing.image_size

    @property
    def has_scales(self) -> bool:
        """Whether it can be measured at several scales."""
        return isinstance(self.task, Segmentation)


def open_saved(text: str) -> SavedNetwork:
    """The network of a file of weights, or ``RUN:best`` and ``RUN:TRIAL``.

    Raises:
        ValueError: there is no such file or trial, or its weights cannot be read.
    """
    path, name = Path(text), NetworkName.parse(text)
    if path.is_file():
        return _from_file(path)
    if name.run is None:
        raise ValueError(
            f"weights must be a file, RUN:best or RUN:TRIAL, and {text!r} is none of them"
        )
    return _from_trial(name.run, find_trial(load(name.run), name.which))


def _from_file(path: Path) -> SavedNetwork:
    if path.suffix in OFFICIAL:
        return _classifier(load_official(path), path)
    built, model = read_built(path)
    if built is None:
        return _classifier(load_weights(path), path)
    return SavedNetwork(path.stem, model, built.num_classes, built.task, built.recipe)


def _classifier(model: InternImage, path: Path) -> SavedNetwork:
    return SavedNetwork(path.stem, model.eval(), model.config.num_classes)


def _from_trial(run: Path, result: TrialResult) -> SavedNetwork:
    trial = result.trial
    folder = StudyFolder(run).trial(trial.id)
    checkpoint = folder.load_checkpoint()
    if checkpoint is None:
        raise ValueError(f"{folder.path} has no checkpoint: repeat the command of its run")
    num_classes, recipe = trial.data.num_classes, trial.recipe
    built = Built(trial.variant, recipe, num_classes, trial.task)
    model = built.network(measured_weights(checkpoint[1]), folder.path)
    label = f"{trial.variant.name}, seed {trial.seed}"
    return SavedNetwork(
        label, model, num_classes, trial.task, recipe, trial.data.name, result, trial.data
    )


def measure(
    saved: SavedNetwork,
    data: Data,
    recipe: Recipe,
    split: Split,
    device: torch.device,
    scales: Sequence[float] = (),
    flip: bool = False,
) -> dict[str, float]:
    """The task's measures on a split, as ``val_NAME`` or ``test_NAME``; none without images.

    ``scales`` and ``flip`` are of multi-scale evaluation, which segmenters have.

    Raises:
        ValueError: the device cannot compute in the recipe's precision.
    """
    check_precision(recipe, device)
    task, model = saved.task, saved.model.to(device)
    with settings(recipe, device), autocast(recipe.precision, device), torch.inference_mode():
        batches = _batches(task, data, recipe, split, device)
        if isinstance(task, Segmentation) and (scales or flip):
            values = task.measure_scales(model, batches, recipe, scales or (1.0,), flip)
        else:
            values = task.measure(model, batches, SINGLE_PROCESS)
    return {f"{split}_{name}": value for name, value in (values or {}).items()}


def _batches(
    task: Task, data: Data, recipe: Recipe, split: Split, device: torch.device
) -> Iterator[Batch]:
    splits = task.prepare(data, recipe, device)
    read, indices = (splits.read, splits.val) if split == "val" else (splits.read_test, splits.test)
    yield from map(splits.plain, read(even_parts(indices, MAX_BATCH)))
