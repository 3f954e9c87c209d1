"""The task seam: what a network is trained to do, as the training loop and the reports see it.

A task is a frozen dataclass; its fields, if it has any, are its options. The loop knows nothing of
labels, losses or scores, and no report knows more of them than the task's metrics. No torch here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from archsearch.core.by_path import path_of
from archsearch.core.cost import Cost
from archsearch.core.family import Family
from archsearch.core.metrics import GENERAL, Metric
from archsearch.core.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


Batch = tuple[Any, Any]
"""Images and targets, as the task makes them; they come on the training's device."""


@dataclass(frozen=True)
class Data:
    """Which data: the name as given on the command line, and what was read under it.

    Only the fingerprint enters a trial's identity: the same images elsewhere are the same data.
    """

    name: str
    fingerprint: str
    num_classes: int
    channels: int
    num_train: int
    num_val: int
    num_test: int
    source: str = ""


class Splits(Protocol):
    """The images of a training: indices to train on, held out and to test, and how to read them.

    ``train`` and ``val`` are indices of the same images, ``test`` of others.
    """

    train: "Tensor"
    val: "Tensor"
    test: "Tensor"

    def read(self, batches: "Sequence[Tensor]", seed: int | None = None) -> Iterator[Batch]:
        """Batches of these training images; with a seed as the recipe trains on them."""
        ...

    def read_test(self, batches: "Sequence[Tensor]") -> Iterator[Batch]:
        """Batches of these test images."""
        ...

    def augmented(self, batch: Batch) -> Batch:
        """What the network takes in training; random by torch's global generators."""
        ...

    def plain(self, batch: Batch) -> Batch:
        """What the network takes when it is measured."""
        ...

    def parts(self, batch: Batch, num: int) -> Sequence[Batch]:
        """A batch of `augmented` in ``num`` even parts, for less memory."""
        ...


class Group(Protocol):
    """The processes that train one network together (`archsearch.training.process_group`)."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def sum(self, values: "Tensor") -> "Tensor": ...


class Task:
    """Base of every task; a subclass is a frozen dataclass."""

    chooses: ClassVar[str]
    """Name of the metric that ranks variants, measured on images held out of the training set."""

    error: ClassVar[str] = ""
    """Name of the metric that falls towards zero as networks improve: learning curves and scaling
    laws are of it. Empty where the task has none."""

    measures: ClassVar[tuple[str, ...]]
    """Names of the numbers that `measure` gives; records hold them as ``val_NAME`` and
    ``test_NAME``."""

    metrics: ClassVar[tuple[Metric, ...]]
    """The task's own metrics, with labels, units and directions."""

    stored_unnamed: ClassVar[bool] = False
    """For the task whose trials were stored before files named the task."""

    def describe(self, name: str, recipe: Recipe) -> Data:
        """The data called ``name``: counts per split under the recipe, and its fingerprint.

        Raises:
            ValueError: there is no such data, or it cannot be trained on.
        """
        raise NotImplementedError

    def check(self, data: Data) -> None:
        """Look whether the data that was planned with is there, without reading all of it.

        Raises:
            ValueError: it is missing or damaged, or other images are in its place.
        """

    def prepare(self, data: Data, recipe: Recipe, device: "torch.device") -> Splits:
        """The images to train on, held out and to test, ready to be read in batches."""
        raise NotImplementedError

    def build(self, variant: Family, data: Data, recipe: Recipe) -> "nn.Module":
        """The family's network with what the task needs on it, untrained."""
        return variant.build_for(data.num_classes, recipe)

    def cost(self, variant: Family, data: Data, height: int, width: int) -> Cost:
        """What the network costs as it is trained, for one image."""
        return variant.cost(height, width, data.num_classes)

    def loss(
        self, model: "nn.Module", batch: Batch, recipe: Recipe
    ) -> "tuple[Tensor, Tensor | int]":
        """The loss summed over a batch, and what the sum is divided by.

        A number of images is given as an int: it is known before the loss, as the loop expects.
        A tensor is any other weight, such as valid pixels; the loop adds both over all parts of a
        batch and all processes.
        """
        raise NotImplementedError

    def measure(
        self, model: "nn.Module", batches: Iterable[Batch], group: Group
    ) -> Mapping[str, float] | None:
        """The numbers of `measures` over all processes; None without an image.

        The model is in evaluation mode and asks for no gradients.
        """
        raise NotImplementedError

    def as_error(self, metric: Metric) -> Metric | None:
        """The metric as something to keep low, such as an accuracy as its error; None for what is
        neither."""
        own = [m for m in self.metrics if m.field == metric.field and not m.higher_is_better]
        return own[0] if own else None

    def metric(self, name: str) -> Metric:
        """The metric of that name, the task's own or a general one.

        Raises:
            ValueError: for an unknown name, listing the known ones.
        """
        known = self.all_metrics()
        if name not in known:
            raise ValueError(f"unknown metric {name!r}; known: {', '.join(known)}")
        return known[name]

    @classmethod
    def all_metrics(cls) -> dict[str, Metric]:
        """The task's metrics, then the general ones, by name."""
        return {metric.name: metric for metric in (*cls.metrics, *GENERAL.values())}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, empty for the task that is stored unnamed."""
        fields: dict[str, Any] = asdict(self)  # type: ignore[call-overload]
        return fields if self.stored_unnamed else {"task": path_of(type(self)), **fields}
