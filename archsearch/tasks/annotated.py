"""What detection and segmentation share: a head on a family's four maps, and annotated images.

Importing this module does not import torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archsearch.core.cost import Cost, image_size
from archsearch.core.family import Family
from archsearch.core.metrics import Metric
from archsearch.core.numbers import LARGEST, quoted
from archsearch.core.recipe import Recipe
from archsearch.core.task import Batch, Data, Splits, Task
from archsearch.heads.cost import count
from archsearch.scenes.data import Annotation, describe, load_verified

if TYPE_CHECKING:
    import torch
    from torch import nn

    from archsearch.scenes.loader import SceneBatch
    from archsearch.scenes.predicted import Predicted
    from archsearch.scenes.views import View


SPLITS = {"val": "Validation", "test": "Test"}


def percentages(labels: Mapping[str, str]) -> tuple[Metric, ...]:
    """The metrics of measures in percent, by name and label: one for each split."""
    return tuple(
        Metric(f"{split}_{name}", f"{title} {label}", "%", True, "metrics", f"{split}_{name}")
        for name, label in labels.items()
        for split, title in SPLITS.items()
    )


@dataclass(frozen=True)
class OnMaps(Task):
    """Base class of tasks whose network is a family's backbone of four maps with a head.

    ``width`` is the number of channels of the head's maps; by default the published one.

    Raises:
        ValueError: lists every wrong option.
    """

    head: str
    width: int | None

    heads: ClassVar[Mapping[str, int]]
    """The names of the heads, and their published widths."""

    def __post_init__(self) -> None:
        problems = []
        if self.width is None:
            object.__setattr__(self, "width", self.heads.get(self.head, 1))
        if self.head not in self.heads:
            problems.append(f"head must be {' or '.join(self.heads)}, got {quoted(self.head)}")
        if type(self.width) is not int or not 1 <= self.width <= LARGEST:
            problems.append(
                f"width must be a whole number from 1 to {LARGEST:,}, got {quoted(self.width)}"
            )
        if problems:
            raise ValueError("; ".join(problems))
        self.widths()  # a head may allow some widths only

    @property
    def annotation(self) -> Annotation:
        """What the head trains on."""
        raise NotImplementedError

    def view(self, recipe: Recipe) -> "View":
        """What the network sees of an image with this recipe."""
        raise NotImplementedError

    def unused(self) -> tuple[str, ...]:
        return "label_smoothing", "auto_augment", "erasing", "mixup", "cutmix"

    def recipe_problems(self, recipe: Recipe) -> Iterator[str]:
        yield from super().recipe_problems(recipe)
        if recipe.crop == "pad":
            yield "crop=pad is for classification: wanted crop=none or crop=resized"

    def describe(self, name: str, recipe: Recipe) -> Data:
        self.check_recipe(recipe)
        return describe(name, recipe.val_fraction, self.annotation)

    def check(self, data: Data) -> None:
        load_verified(data)

    def prepare(self, data: Data, recipe: Recipe, device: "torch.device") -> Splits:
        from archsearch.scenes.loader import scene_splits

        return scene_splits(
            load_verified(data),
            self.view(recipe),
            recipe.val_fraction,
            recipe.data_fraction,
            device,
        )

    def build(self, variant: Family, data: Data, recipe: Recipe) -> "nn.Module":
        """The untrained network.

        Raises:
            ValueError: the family has no four maps.
        """
        return self.with_head(variant.build_backbone(recipe), data.num_classes)

    def channels(self) -> int:
        """The width."""
        assert self.width is not None
        return self.width

    def widths(self) -> dict[str, Any]:
        """The widths of the head, by the names of the function that builds it."""
        return {"width": self.channels()}

    def with_head(self, backbone: "nn.Module", num_classes: int) -> "nn.Module":
        """The head on a backbone."""
        raise NotImplementedError

    def predicted(self, model: "nn.Module", batch: Batch) -> "list[Predicted]":
        """What the network predicts in each image of a batch for evaluation."""
        raise NotImplementedError

    def cost(self, variant: Family, data: Data, height: int, width: int) -> Cost:
        """The cost of the network with its head, in closed form if the family's maps have one.

        Detectors are counted with as many proposals and detections as there can be.
        """
        if type(variant).feature_maps is Family.feature_maps:
            return self._counted(variant, data, height, width)
        maps = variant.feature_maps(height, width)
        total = count(maps, self.head, data.num_classes, **self.widths())
        return Cost(total.params, total.macs, total.activations, image_size(height, width))

    def _counted(self, variant: Family, data: Data, height: int, width: int) -> Cost:
        from archsearch.core.meta_cost import count_module
        from archsearch.heads.built import countable

        def build() -> "nn.Module":
            return countable(self.with_head(variant.build_backbone(), data.num_classes))

        return count_module(build, height, width)


def of_one_size(batch: "SceneBatch") -> Iterator["SceneBatch"]:
    """The images of a batch for evaluation, with no more padding than the stride of the maps needs.

    Images of one size stay together, others are alone, so that the padding, which the other images
    of a batch decide, changes no result.
    """
    from archsearch.scenes.loader import DIVISOR

    images, targets = batch
    together = len({target.size for target in targets}) == 1
    for first in [0] if together else range(len(targets)):
        last = len(targets) if together else first + 1
        height, width = (-(-side // DIVISOR) * DIVISOR for side in targets[first].size)
        yield images[first:last, :, :height, :width], targets[first:last]
