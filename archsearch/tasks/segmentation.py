"""Semantic segmentation: a class per pixel, mean intersection over union.

UperNet's loss is the mean over the labeled pixels of all images of a step, Mask2Former's the mean
over the images, whatever processes and parts they are in. Importing this module does not import
torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archsearch.core.metrics import Metric
from archsearch.core.recipe import Recipe
from archsearch.core.task import Batch, Data, Group
from archsearch.heads.from_transformers import check_installed
from archsearch.heads.mask2former_cost import Sizes
from archsearch.scenes.data import Annotation
from archsearch.scenes.views import RATIOS, SegmentationView
from archsearch.tasks.annotated import OnMaps, of_one_size, percentages

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archsearch.scenes.loader import Target
    from archsearch.scenes.predicted import Predicted

LONGER_SIDE = 4
"""The longest side of an image in shorter sides: 2048 pixels for 512, as in the paper's tables."""

_LABELS = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}


@dataclass(frozen=True)
class Segmentation(OnMaps):
    """UperNet or Mask2Former; the published heads have 512 and 1024 channels.

    Mask2Former's feed-forward layers are four times as wide, and each attention head has 32
    channels. The recipe's ``image_size`` is the side of the squares that the network trains on, and
    the shorter side of the whole images that it is measured on.

    Training images are resized by 0.5 to 2 with ``crop=resized``, and their colors distorted with a
    ``color_jitter`` above 0, always as strongly as `archsearch.scenes.transforms.distorted` says.
    """

    head: str = "upernet"
    width: int | None = None

    heads: ClassVar[Mapping[str, int]] = {"upernet": 512, "mask2former": 1024}
    ranking_metric: ClassVar[str] = "val_miou"
    measures: ClassVar[tuple[str, ...]] = tuple(_LABELS)
    metrics: ClassVar[tuple[Metric, ...]] = percentages(_LABELS)

    @property
    def annotation(self) -> Annotation:
        return "label maps"

    def widths(self) -> dict[str, Any]:
        """The widths of the head; of Mask2Former as `Sizes`.

        Raises:
            ValueError: Mask2Former's width is no multiple of 64.
        """
        if self.head == "upernet":
            return super().widths()
        return {"sizes": Sizes.of_width(self.channels())}

    def unused(self) -> tuple[str, ...]:
        of_detectors = ("shorter_sides", "longer_side", "anchor_scale", "sampled_boxes")
        return (*super().unused(), *of_detectors)

    def describe(self, name: str, recipe: Recipe) -> Data:
        if self.head == "mask2former":
            check_installed(self.head)
        return super().describe(name, recipe)

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
        from archsearch.heads import mask2former, upernet

        build = upernet if self.head == "upernet" else mask2former
        return build(backbone, num_classes, **self.widths())

    def loss(
        self, model: "nn.Module", batch: Batch, recipe: Recipe
    ) -> tuple["Tensor", "Tensor | int"]:
        """The summed loss of the head, and the number of labeled pixels or of images."""
        import torch

        del recipe
        images, targets = batch
        loss: tuple[Tensor, Tensor] = model(images, torch.stack([t.label_map for t in targets]))
        return loss

    def predicted(self, model: "nn.Module", batch: Batch) -> "list[Predicted]":
        import numpy as np

        from archsearch.scenes.mean_iou import to_original
        from archsearch.scenes.predicted import Predicted

        return [
            Predicted(
                target.original,
                label_map=to_original(logits, target).argmax(0).cpu().numpy().astype(np.uint8),
            )
            for images, targets in of_one_size(batch)
            for logits, target in zip(model(images), targets, strict=True)
            if target.original is not None
        ]

    def measure(
        self, model: "nn.Module", batches: Iterable[Batch], group: Group
    ) -> Mapping[str, float] | None:
        """Mean IoU and pixel accuracy in percent, at the size of the images as stored."""
        from archsearch.scenes.mean_iou import to_original

        parts = (part for batch in batches for part in of_one_size(batch))
        scores = (
            (to_original(logits, target), target)
            for images, targets in parts
            for logits, target in zip(model(images), targets, strict=True)
        )
        return _measured(scores, group)

    def measure_scales(
        self,
        model: "nn.Module",
        batches: Iterable[Batch],
        recipe: Recipe,
        ratios: Sequence[float],
        flip: bool,
    ) -> Mapping[str, float] | None:
        """`measure` in one process, with predictions averaged over ``ratios`` of the recipe's size,
        and over both directions with ``flip``."""
        from archsearch.scenes.mean_iou import multi_scale
        from archsearch.training.process_group import SINGLE_PROCESS

        view = self.view(recipe)
        scores = (
            (multi_scale(model, target.original, view, images.device, ratios, flip), target)
            for images, targets in batches
            for target in targets
        )
        return _measured(scores, SINGLE_PROCESS)


def _measured(
    scores: "Iterable[tuple[Tensor, Target]]", group: Group
) -> Mapping[str, float] | None:
    """The measures from a score ``(K, H, W)`` for every class and pixel of each image."""
    import torch

    from archsearch.scenes.mean_iou import annotated_map, confusion, mean_iou

    total = sum(
        confusion(score.argmax(0).cpu(), annotated_map(target), len(score))
        for score, target in scores
    )  # 0 in a process without an image
    matrices = [matrix for matrix in group.gather(total) if isinstance(matrix, torch.Tensor)]
    if not matrices:
        return None
    values = mean_iou(sum(matrices, start=torch.zeros_like(matrices[0])))
    return {name: value for name, value in values.items() if value is not None} or None
