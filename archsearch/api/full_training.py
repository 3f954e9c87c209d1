"""The request of a full training: a network's task, data, recipe, start and device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from archsearch.api.families import FamilyOptions
from archsearch.api.keywords import evaluate_all, option
from archsearch.api.options import EPOCHS_HELP, SET_HELP, log_option, parse_key_values
from archsearch.core.numbers import LARGEST, quoted
from archsearch.core.recipe import Recipe
from archsearch.core.recipes import RECIPES, resolve
from archsearch.core.task import Task
from archsearch.tasks.classification import Classification
from archsearch.tasks.recipes import DETECTION_RECIPES, SEGMENTATION_RECIPES

TaskName = Literal["classify", "detect", "segment"]


@dataclass(frozen=True, kw_only=True)
class FullTraining(FamilyOptions):
    """How one network is trained in full."""

    task: TaskName = option("classify", "Train a classifier, a detector or a segmenter.")
    head: str | None = option(
        None,
        "Use this head: mask-rcnn (the default of detect), cascade-mask-rcnn, dino, upernet (the "
        "default of segment) or mask2former.",
        metavar="NAME",
    )
    head_width: int | None = option(
        None, "Give the head this many channels; the default is the published one."
    )
    data: str | None = option(
        None,
        "Train on digits (the default), cifar10[:PATH] or imagefolder:PATH; detect on pasted or "
        "coco:DIR, segment on pasted or ade20k:DIR.",
        metavar="NAME",
    )
    recipe: str | None = option(
        None,
        "Train with the recipe quick (the default), cifar, table-b or one column of table-b; "
        "detect with quick-detect, mask-rcnn-1x, mask-rcnn-3x, cascade-1x, cascade-3x, "
        "dino-objects365 or dino-coco, segment with quick-segment, upernet-160k or "
        "mask2former-80k.",
        metavar="NAME",
    )
    epochs: int | None = option(None, EPOCHS_HELP)
    set: Mapping[str, Any] | Sequence[str] | None = option(
        None, SET_HELP, text=list[str], metavar="KEY=VALUE"
    )
    seed: int = option(0, "Train with this seed.")
    gpus: int | None = option(None, "Share the recipe's batch between this many GPUs.")
    device: str = option("auto", "Train on auto, cpu, cuda, or several devices: cuda*4, cpu*2.")
    start: Path | None = option(
        None,
        "Start from the weights in this file: of a training, or a released checkpoint (.pth).",
        text=Path,
    )
    log: Sequence[str] | str | None = log_option()
    out: Path | str | None = option(
        None,
        "Write the training to this folder; the default is runs/train-NETWORK-DATA.",
        text=Path,
    )

    def device_name(self) -> str:
        """Return the device, or as many GPUs as requested.

        Raises:
            ValueError: for less than one GPU, or GPUs together with another device.
        """
        if self.gpus is None:
            return self.device
        if not 1 <= self.gpus <= LARGEST:
            raise ValueError(f"gpus must be from 1 to {LARGEST:,}, got {quoted(self.gpus)}")
        if self.device not in ("auto", "cuda"):
            raise ValueError(
                f"gpus {self.gpus} needs the device cuda, got {self.device}: give one of the two"
            )
        return f"cuda*{self.gpus}"

    def chosen(self, model: str) -> "Chosen":
        """Return task, data and recipe; ``model`` chooses the column of the recipe table-b.

        Raises:
            ValueError: naming every wrong option.
        """
        by_default = _DEFAULTS[self.task]
        changes = parse_key_values(self.set)
        if self.epochs is not None:
            changes["epochs"] = str(self.epochs)
        name = self.recipe or by_default.recipe
        task, recipe = evaluate_all(
            self._task, lambda: resolve(name, changes, model, by_default.recipes)
        )
        return Chosen(task, self.data or by_default.data, recipe)

    def _task(self) -> Task:
        given = {"head": self.head, "width": self.head_width}
        options = {key: value for key, value in given.items() if value is not None}
        if self.task == "classify" and options:
            raise ValueError(
                "a head belongs to the tasks detect and segment, got the task classify"
            )
        return _DEFAULTS[self.task].make(**options)

    def check_seed(self) -> None:
        """Check the seed.

        Raises:
            ValueError: it is negative or too large.
        """
        if not 0 <= self.seed <= LARGEST:
            raise ValueError(f"seed must be from 0 to {LARGEST:,}, got {quoted(self.seed)}")


@dataclass(frozen=True)
class Chosen:
    """What a training is of: a task, a data set and a recipe."""

    task: Task
    data: str
    recipe: Recipe


@dataclass(frozen=True)
class _Defaults:
    """What is trained with a task unless it is chosen, and the recipes to choose from."""

    make: Callable[..., Task]
    data: str
    recipe: str
    recipes: Mapping[str, Recipe]


def _detection(**options: Any) -> Task:
    from archsearch.tasks.detection import Detection  # loads numpy

    return Detection(**options)


def _segmentation(**options: Any) -> Task:
    from archsearch.tasks.segmentation import Segmentation  # loads numpy

    return Segmentation(**options)


_DEFAULTS: Mapping[TaskName, _Defaults] = {
    "classify": _Defaults(Classification, "digits", "quick", RECIPES),
    "detect": _Defaults(_detection, "pasted", "quick-detect", DETECTION_RECIPES),
    "segment": _Defaults(_segmentation, "pasted", "quick-segment", SEGMENTATION_RECIPES),
}
