"""The task seam: the interface of a training task to the training loop and the reports.

A task is a frozen dataclass; its fields, if any, are its options. Labels, losses and scores are
internal to the task; reports see only its metrics. This module does not import torch.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from archsearch.core.by_path import path_of
from archsearch.core.cost import Cost
from archsearch.core.family import Family
from archsearch.core.metrics import GENERAL, Metric
from archsearch.core.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


T = TypeVar("T")

Batch = tuple[Any, Any]
"""Images and targets, as the task makes them, on the training device."""


@dataclass(frozen=True)
class Data:
    """A data set: its name as on the command line, and a summary of its contents.

    Only the fingerprint is part of a trial's identity: the same images at another path are the
    same data. ``notes`` say what is left out of the source, for plans, records and reports.
    """

    name: str
    fingerprint: str
    num_classes: int
    channels: int
    num_train: int
    num_val: int
    num_test: int
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def record_notes(self) -> tuple[str, ...]:
        """The notes as every record of a trial holds them."""
        return tuple(f"data: {note}" for note in self.notes)


class Splits(Protocol):
    """The training, held-out and test images of a trial, and methods that read them.

    ``train`` and ``val`` are indices into the same images, ``test`` into the test images.
    """

    train: "Tensor"
    val: "Tensor"
    test: "Tensor"

    def read(self, batches: "Sequence[Tensor]", seed: int | None = None) -> Iterator[Batch]:
        """Batches of these training images; with a seed, cropped at random as the recipe says."""
        ...

    def read_test(self, batches: "Sequence[Tensor]") -> Iterator[Batch]:
        """Batches of these test images."""
        ...

    def augmented(self, batch: Batch) -> Batch:
        """The batch with the recipe's augmentation, drawn from torch's global generators."""
        ...

    def plain(self, batch: Batch) -> Batch:
        """The batch without augmentation, for evaluation."""
        ...

    def parts(self, batch: Batch, num: int) -> Sequence[Batch]:
        """An augmented batch split into ``num`` even parts, which need less memory."""
        ...


class Group(Protocol):
    """The processes that train one network together (`archsearch.training.process_group`)."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def sum(self, values: "Tensor") -> "Tensor": ...
    def gather(self, value: T) -> list[T]: ...


class Task:
    """Base class of every task; a subclass is a frozen dataclass."""

    ranking_metric: ClassVar[str]
    """Name of the metric that ranks variants, measured on images held out of the training set."""

    error: ClassVar[str] = ""
    """Name of the metric that falls towards zero as networks improve: learning curves and scaling
    laws are of it. Empty where the task has none."""

    measures: ClassVar[tuple[str, ...]]
    """Names of the numbers that `measure` returns; records hold them as ``val_NAME`` and
    ``test_NAME``."""

    metrics: ClassVar[tuple[Metric, ...]]
    """The task's own metrics, with labels, units and directions."""

    stored_without_path: ClassVar[bool] = False
    """True for the task whose trials were stored before files held the task's import path."""

    def unused(self) -> Collection[str]:
        """The fields of a recipe that change nothing in this task."""
        return ()

    def check_recipe(self, recipe: Recipe) -> None:
        """Check that the recipe sets nothing that this task would ignore.

        Raises:
            ValueError: naming every such field.
        """
        if problems := list(self.recipe_problems(recipe)):
            raise ValueError("; ".join(problems))

    def recipe_problems(self, recipe: Recipe) -> Iterator[str]:
        """What `check_recipe` refuses, a sentence each."""
        defaults = {f.name: f.default for f in fields(Recipe)}
        if ignored := [n for n in self.unused() if getattr(recipe, n) != defaults[n]]:
            yield (
                f"{type(self).__name__.lower()} does not use {', '.join(ignored)} of a recipe: "
                "leave them at their defaults"
            )

    def describe(self, name: str, recipe: Recipe) -> Data:
        """Describe the data called ``name``: image counts per split, and its fingerprint.

        Raises:
            ValueError: the data does not exist, or cannot be trained on, or as `check_recipe`.
        """
        raise NotImplementedError

    def check(self, data: Data) -> None:
        """Check that the planned data is available, without reading all of it.

        Raises:
            ValueError: it is missing, damaged, or has been replaced by other images.
        """

    def prepare(self, data: Data, recipe: Recipe, device: "torch.device") -> Splits:
        """The training, held-out and test images, ready to be read in batches."""
        raise NotImplementedError

    def build(self, variant: Family, data: Data, recipe: Recipe) -> "nn.Module":
        """The untrained network of the family, with the layers that the task adds."""
        return variant.build_for(data.num_classes, recipe)

    def cost(self, variant: Family, data: Data, height: int, width: int) -> Cost:
        """The cost of the network as trained, for one image."""
        return variant.cost(height, width, data.num_classes)

    def loss(
        self, model: "nn.Module", batch: Batch, recipe: Recipe
    ) -> "tuple[Tensor, Tensor | int]":
        """The loss summed over a batch, and the weight that the sum is divided by.

        An int weight is the number of images, which the loop knows before the loss. A tensor is
        any other weight, such as the number of valid pixels. The loop sums both over all parts of
        a batch and all processes.
        """
        raise NotImplementedError

    def measure(
        self, model: "nn.Module", batches: Iterable[Batch], group: Group
    ) -> Mapping[str, float] | None:
        """The numbers named in `measures`, over all processes; None if there are no images.

        The caller sets evaluation mode and turns gradients off.
        """
        raise NotImplementedError

    def as_error(self, metric: Metric) -> Metric | None:
        """The metric as something to keep low, such as an accuracy as its error; None for what is
        neither."""
        own = [m for m in self.metrics if m.field == metric.field and not m.higher_is_better]
        return own[0] if own else None

    def metric(self, name: str) -> Metric:
        """The metric of that name, task-specific or general.

        Raises:
            ValueError: the name is unknown; the message lists the known ones.
        """
        metrics = self.all_metrics()
        if name not in metrics:
            raise ValueError(f"unknown metric {name!r}; known: {', '.join(metrics)}")
        return metrics[name]

    def choosing_metric(self, name: str) -> Metric:
        """The metric of that name, for whatever compares, ranks, prunes or searches by it.

        Raises:
            ValueError: the name is unknown, or the metric is of the test split, which is kept for
                an unbiased result of what was chosen.
        """
        metric = self.metric(name)
        if not metric.is_of_test_split:
            return metric
        known = ", ".join(m.name for m in self.metrics if not m.is_of_test_split)
        raise ValueError(
            f"{name} is measured on the test split, which is never used to choose; give a metric "
            f"of the validation split ({known}) or a cost"
        )

    @classmethod
    def all_metrics(cls) -> dict[str, Metric]:
        """The task's metrics, then the general ones, by name."""
        return {metric.name: metric for metric in (*cls.metrics, *GENERAL.values())}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; empty for the task that is stored without its import path."""
        fields: dict[str, Any] = asdict(self)  # type: ignore[call-overload]
        return fields if self.stored_without_path else {"task": path_of(type(self)), **fields}
