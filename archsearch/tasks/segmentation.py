"""Semantic segmentation: a class per pixel, cross entropy, mean intersection over union.

The loss is the mean over the labeled pixels of all images of a step, whatever processes and parts
they are in. Importing this module does not import torch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from archsearch.core.metrics import Metric
from archsearch.core.recipe import Recipe
from archsearch.core.task import Batch, Group
from archsearch.scenes.data import Annotation
from archsearch.scenes.views import RATIOS, SegmentationView
from archsearch.tasks.annotated import OnMaps, of_one_size

if TYPE_CHECKING:
    from torch import Tensor, nn

LONGER_SIDE = 4
"""The longest side of an image in shorter sides: 2048 pixels for 512, as in the paper's tables."""

_LABELS = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}
_SPLITS = {"val": "Validation", "test": "Test"}


@dataclass(frozen=True)
class Segmentation(OnMaps):
    """UperNet; the published head has 512 channels. The recipe's ``image_size`` is the side of the
    squares that it trains on, and the shorter side of the whole images that it is measured on.

    Training images are resized by 0.5 to 2 with ``crop=resized``, and their colors distorted with a
    ``color_jitter`` above 0, always as strongly as `archsearch.scenes.transforms.distorted` says.
    """

    head: str = "upernet"
    width: int = 512

    heads: ClassVar[tuple[str, ...]] = ("upernet",)
    annotation: ClassVar[Annotation] = "label maps"
    ranking_metric: ClassVar[str] = "val_miou"
    measures: ClassVar[tuple[str, ...]] = tuple(_LABELS)
    metrics: ClassVar[tuple[Metric, ...]] = tuple(
        Metric(f"{split}_{name}", f"{title} {label}", "%", True, "metrics", f"{split}_{name}")
        for name, label in _LABELS.items()
        for split, title in _SPLITS.items()
    )

    def view(self, recipe: Recipe) -> SegmentationView:
        side = recipe.image_size
        return SegmentationView(
            crop=side,
            shorter=side,
            longer=LONGER_SIDE * side,
            ratios=RATIOS if recipe.crop == "resized" else (1.0, 1.0),
            distort=recipe.color_jitter > 0,
            flip=recipe.flip,
        )

    def with_head(self, backbone: "nn.Module", num_classes: int) -> "nn.Module":
        from archsearch.heads import upernet

        return upernet(backbone, num_classes, **self.widths())

    def loss(
        self, model: "nn.Module", batch: Batch, recipe: Recipe
    ) -> tuple["Tensor", "Tensor | int"]:
        """Cross entropy with that of the auxiliary head, and the number of labeled pixels."""
        import torch

        del recipe
        images, targets = batch
        loss: tuple[Tensor, Tensor] = model(images, torch.stack([t.label_map for t in targets]))
        return loss

    def measure(
        self, model: "nn.Module", batches: Iterable[Batch], group: Group
    ) -> Mapping[str, float] | None:
        """Mean IoU and pixel accuracy in percent, at the size of the images as stored."""
        import torch

        from archsearch.scenes.mean_iou import mean_iou

        parts = (part for batch in batches for part in of_one_size(batch))
        matrices = [matrix for part in parts for matrix in _confusions(model, part)]
        everywhere = [m for one in group.gather(matrices) for m in one]
        if not everywhere:
            return None
        values = mean_iou(torch.stack(everywhere).sum(0))
        return {name: value for name, value in values.items() if value is not None} or None


def _confusions(model: "nn.Module", batch: Batch) -> "list[Tensor]":
    """The confusion matrix of each image, on the CPU."""
    from archsearch.scenes.mean_iou import annotated_map, confusion, to_original

    matrices = []
    for logits, target in zip(model(batch[0]), batch[1], strict=True):
        predicted = to_original(logits, target).argmax(0).cpu()
        matrices.append(confusion(predicted, annotated_map(target), len(logits)))
    return matrices
