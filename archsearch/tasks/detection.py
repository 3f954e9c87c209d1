"""Detection and instance segmentation: boxes and masks, measured by COCO's average precision.

Losses are means over the boxes or masks of one image, summed over images, so a step of several
processes, or in several parts, is that of one. The released configurations take the means over the
images of a GPU, two each: with one image per GPU the losses are the same. Importing this module
does not import torch.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from archsearch.core.family import Family
from archsearch.core.metrics import Metric
from archsearch.core.recipe import Recipe
from archsearch.core.task import Batch, Data, Group
from archsearch.heads import from_transformers
from archsearch.heads.dino_cost import Sizes
from archsearch.scenes.average_precision import (
    ImageResult,
    Kind,
    average_precision,
    check_installed,
)
from archsearch.scenes.data import Annotation
from archsearch.scenes.views import DetectionView
from archsearch.tasks.annotated import OnMaps, of_one_size, percentages

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archsearch.heads.instances import Detections
    from archsearch.scenes.loader import SceneBatch
    from archsearch.scenes.predicted import Predicted
    from archsearch.scenes.scene import Objects, Scene

_LABELS = {
    "box_ap": "box AP",
    "mask_ap": "mask AP",
    "box_ap50": "box AP at IoU 0.5",
    "mask_ap50": "mask AP at IoU 0.5",
}
_KINDS: tuple[Kind, ...] = ("box", "mask")
_NUMBERS = ("ap", "ap50")


@dataclass(frozen=True)
class Detection(OnMaps):
    """Mask R-CNN, Cascade Mask R-CNN or DINO; the published heads have 256 channels.

    The linear layers of the box heads have four times as many features, the feed-forward layers of
    DINO eight times, and its attention heads have 32 channels. DINO has no masks. The recipe's
    ``image_size`` is the shorter side of an image. Cost is that of 1000 proposals and 100
    detections, or of 900 queries.
    """

    head: str = "mask-rcnn"
    width: int | None = None

    heads: ClassVar[Mapping[str, int]] = {
        "mask-rcnn": 256,
        "cascade-mask-rcnn": 256,
        "dino": 256,
    }
    ranking_metric: ClassVar[str] = "val_box_ap"
    measures: ClassVar[tuple[str, ...]] = tuple(_LABELS)
    metrics: ClassVar[tuple[Metric, ...]] = percentages(_LABELS)

    @property
    def annotation(self) -> Annotation:
        return "boxes" if self.head == "dino" else "masks"

    def view(self, recipe: Recipe) -> DetectionView:
        return DetectionView(
            shorter=recipe.shorter_sides or (recipe.image_size,),
            longer=recipe.longer_side,
            test_shorter=recipe.image_size,
            crop=recipe.crop == "resized",
            flip=recipe.flip,
        )

    def unused(self) -> tuple[str, ...]:
        of_regions = ("anchor_scale", "sampled_boxes") if self.head == "dino" else ()
        return (*super().unused(), "color_jitter", *of_regions)

    def describe(self, name: str, recipe: Recipe) -> Data:
        check_installed()
        if self.head == "dino":
            from_transformers.check_installed(self.head)
        return super().describe(name, recipe)

    def widths(self) -> dict[str, Any]:
        """The widths of the head; of DINO as `Sizes`.

        Raises:
            ValueError: DINO's width is no multiple of 64.
        """
        if self.head == "dino":
            return {"sizes": Sizes.of_width(self.channels())}
        return {"width": self.channels(), "hidden": 4 * self.channels()}

    def build(self, variant: Family, data: Data, recipe: Recipe) -> "nn.Module":
        if self.head == "dino":
            return super().build(variant, data, recipe)
        settings = {"anchor_scale": recipe.anchor_scale, "num_sampled": recipe.sampled_boxes}
        return self._detector(variant.build_backbone(recipe), data.num_classes, **settings)

    def with_head(self, backbone: "nn.Module", num_classes: int) -> "nn.Module":
        return self._detector(backbone, num_classes)

    def _detector(self, backbone: "nn.Module", num_classes: int, **settings: Any) -> "nn.Module":
        from archsearch.heads import cascade_mask_rcnn, dino, mask_rcnn

        builders: dict[str, Callable[..., nn.Module]] = {
            "mask-rcnn": mask_rcnn, "cascade-mask-rcnn": cascade_mask_rcnn, "dino": dino,
        }  # fmt: skip
        return builders[self.head](backbone, num_classes, **self.widths(), **settings)

    def loss(
        self, model: "nn.Module", batch: Batch, recipe: Recipe
    ) -> tuple["Tensor", "Tensor | int"]:
        """The losses of all parts of the head, and the number of images."""
        from archsearch.heads.losses import total_of_images

        del recipe
        images, targets = batch
        sizes = [target.size for target in targets]
        losses = model(images, [target.instances for target in targets], sizes)
        return total_of_images(losses).sum(), len(images)

    def predicted(self, model: "nn.Module", batch: Batch) -> "list[Predicted]":
        from archsearch.scenes.predicted import Predicted

        parts = of_one_size(batch)
        pairs = [pair for part in parts for pair in detected(model, part)]
        return [Predicted(scene, as_objects(d), d.scores.cpu().numpy()) for scene, d in pairs]

    def measure(
        self, model: "nn.Module", batches: Iterable[Batch], group: Group
    ) -> Mapping[str, float] | None:
        """Average precision in percent of boxes and masks, over IoU 0.5 to 0.95 and at 0.5.

        DINO has that of boxes only. None if no object is annotated.
        """
        parts = (part for batch in batches for part in of_one_size(batch))
        results = [result for part in parts for result in _results(model, part)]
        everywhere = [result for one in group.gather(results) for result in one]
        values: dict[str, float] = {}
        for kind in _KINDS if self.annotation == "masks" else _KINDS[:1]:
            numbers = average_precision(everywhere, kind)
            values |= {f"{kind}_{n}": v for n in _NUMBERS if (v := numbers[n]) is not None}
        return values or None


def _results(model: "nn.Module", batch: "SceneBatch") -> list[ImageResult]:
    from archsearch.scenes.average_precision import image_result

    return [image_result(*pair) for pair in detected(model, batch)]


def detected(model: "nn.Module", batch: "SceneBatch") -> "list[tuple[Scene, Detections]]":
    """Each image as stored, and what the network detects in it, in its pixels."""
    images, targets = batch
    originals = [target.original for target in targets if target.original is not None]
    sizes = [target.size for target in targets]
    detections = model(images, None, sizes, [original.size for original in originals])
    return [*zip(originals, detections, strict=True)]


def as_objects(detections: "Detections") -> "Objects":
    """The predicted objects in the form of annotated ones; the area is that of the mask, or box."""
    import numpy as np

    from archsearch.scenes.scene import Objects

    arrays = {name: values.cpu().numpy() for name, values in detections.tensors().items()}
    boxes, masks = arrays["boxes"], arrays.get("masks")
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) if masks is None else masks.sum((1, 2))
    crowd = np.zeros(len(boxes), bool)
    return Objects(boxes, arrays["labels"], masks, crowd, areas.astype(np.float32))
