"""How consistent are the boxes of a detector when the images are scaled?"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from archsearch.core.recipe import Recipe
from archsearch.core.task import Data
from archsearch.study import About

if TYPE_CHECKING:
    import torch

    from archsearch.evaluation import SavedNetwork, Split
    from archsearch.heads.instances import Detections
    from archsearch.scenes.average_precision import ImageResult
    from archsearch.scenes.scene import Scene

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Supplement F.3 (Fig. C, row 3)",
    command="archsearch scale-invariance RUN:best",
    small="100 images of `pasted`: a few minutes on a CPU",
    full="the validation images of COCO, shorter side 800",
)

FACTORS = tuple(n / 4 for n in range(1, 13))
"""0.25 to 3 in steps of 0.25 (F.3)."""


@dataclass(frozen=True)
class AtScale:
    """The box mAP of a detector on images scaled by ``factor``, in percent.

    ``consistency`` takes the boxes of the same images at factor 1 for the truth, ``box_ap`` the
    annotated ones; None where there is no box of that kind. ``shorter_side`` is in pixels.
    """

    network: str
    factor: float
    shorter_side: int
    consistency: float | None
    box_ap: float | None
    num_images: int


def check_detector(saved: "SavedNetwork") -> None:
    """Check that a network detects objects.

    Raises:
        ValueError: it does not.
    """
    from archsearch.tasks.detection import Detection

    if not isinstance(saved.task, Detection):
        raise ValueError(f"{saved.label} is no detector: train one with --task detect")


def scale_invariance(
    saved: "SavedNetwork",
    data: Data,
    recipe: Recipe,
    split: "Split",
    device: "torch.device",
    max_images: int = 1000,
) -> tuple[AtScale, ...]:
    """Return the box mAP at every factor, of at most ``max_images`` images of the split.

    The image as stored is resized to the factor times the sides that the recipe measures with;
    boxes are scaled back to the image as stored. All boxes that the network returns count, also as
    truth: its own limits are a score of 0.05 and 100 boxes.

    Raises:
        ValueError: the device cannot compute in the recipe's precision.
    """
    model = replace(saved, model=saved.model.to(device))
    at_one = [*_boxes(model, data, recipe, split, device, max_images)]
    points = []
    for factor in FACTORS:
        scaled = _scaled(recipe, factor)
        boxes = at_one
        if factor != 1:
            boxes = [*_boxes(model, data, scaled, split, device, max_images)]
        own, truth = _results(boxes, at_one)
        points.append(
            AtScale(saved.label, factor, scaled.image_size, _ap(own), _ap(truth), len(boxes))
        )
    return tuple(points)


def _scaled(recipe: Recipe, factor: float) -> Recipe:
    shorter, longer = (max(1, round(factor * s)) for s in (recipe.image_size, recipe.longer_side))
    return replace(recipe, image_size=shorter, longer_side=longer, shorter_sides=())


def _boxes(
    saved: "SavedNetwork",
    data: Data,
    recipe: Recipe,
    split: "Split",
    device: "torch.device",
    max_images: int,
) -> "Iterator[tuple[Scene, Detections]]":
    """Each image as stored, and its predicted boxes in pixels of that image, without masks."""
    import numpy as np
    import torch

    from archsearch.tasks.detection import detected
    from archsearch.training.device import autocast, settings

    splits = saved.task.prepare(data, recipe, device)
    read, indices = (splits.read, splits.val) if split == "val" else (splits.read_test, splits.test)
    order = np.random.RandomState(0).permutation(len(indices))[:max_images]
    batches = read([indices[i : i + 1] for i in order.tolist()])
    with settings(recipe, device), torch.inference_mode():
        for batch in map(splits.plain, batches):
            with autocast(recipe.precision, device):
                ((scene, detections),) = detected(saved.model, batch)
            objects = scene.objects and replace(scene.objects, masks=None)
            yield replace(scene, objects=objects), replace(detections, masks=None)


def _results(
    boxes: "list[tuple[Scene, Detections]]", at_one: "list[tuple[Scene, Detections]]"
) -> "tuple[list[ImageResult], list[ImageResult]]":
    """The boxes beside those at factor 1, and beside the annotated ones."""
    from archsearch.scenes.average_precision import image_result
    from archsearch.tasks.detection import as_objects

    own = [
        image_result(replace(scene, objects=as_objects(first)), detections)
        for (scene, detections), (_, first) in zip(boxes, at_one, strict=True)
    ]
    return own, [image_result(*pair) for pair in boxes]


def _ap(results: "list[ImageResult]") -> float | None:
    from archsearch.scenes.average_precision import average_precision

    return average_precision(results, "box")["ap"]
