"""COCO's average precision of boxes and masks, by pycocotools. Does not import torch.

Each image becomes an `ImageResult`: plain values, which processes can exchange. Crowd regions are
treated as COCO's tools do: predictions inside them are neither right nor wrong.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from archsearch.scenes.scene import Masks, Scene

if TYPE_CHECKING:
    from archsearch.heads.instances import Detections

Kind = Literal["box", "mask"]

NUMBERS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
"""What `average_precision` returns: the mean over IoU 0.5 to 0.95 in steps of 0.05, at IoU 0.5 and
0.75, and of objects of less than 32x32 pixels, up to 96x96, and larger."""

INSTALL = "pip install pycocotools"


class MissingPackageError(ValueError):
    """Raised if pycocotools is not installed; the message has the command that installs it."""


def check_installed() -> None:
    """Check that average precision can be computed, before anything trains.

    Raises:
        MissingPackageError: pycocotools is not installed.
    """
    if find_spec("pycocotools") is None:
        raise MissingPackageError(
            f"average precision is computed by pycocotools, which is not installed: {INSTALL}"
        )


@dataclass(frozen=True, eq=False)
class ImageResult:
    """The annotated and the predicted objects of one image, as entries of COCO's files.

    Entries lack only ``id`` and ``image_id``. Masks are run-length encoded.
    """

    size: tuple[int, int]
    annotated: list[dict[str, Any]]
    predicted: list[dict[str, Any]]


def image_result(original: Scene, detections: "Detections") -> ImageResult:
    """The result of one image; detections are in pixels of the image as annotated."""
    objects = original.objects
    assert objects is not None
    annotated = _entries(objects.boxes, objects.labels, objects.masks)
    for entry, crowd, area in zip(annotated, objects.crowd, objects.areas, strict=True):
        entry.update(iscrowd=int(crowd), area=float(area))
    arrays = {name: tensor.cpu().numpy() for name, tensor in detections.tensors().items()}
    predicted = _entries(arrays["boxes"], arrays["labels"], arrays.get("masks"))
    for entry, score in zip(predicted, arrays["scores"], strict=True):
        entry.update(iscrowd=0, score=float(score))
    return ImageResult(original.size, annotated, predicted)


def _entries(
    boxes: NDArray[np.float32], labels: NDArray[np.int64], masks: Masks | None
) -> list[dict[str, Any]]:
    corners = boxes.astype(float)
    corners[:, 2:] -= corners[:, :2]
    entries: list[dict[str, Any]] = [
        {"category_id": int(label) + 1, "bbox": box}
        for label, box in zip(labels, corners.tolist(), strict=True)
    ]
    if masks is not None:
        from pycocotools import mask

        stack = np.asfortranarray(masks.transpose(1, 2, 0).view(np.uint8))
        for entry, encoded in zip(entries, mask.encode(stack), strict=True):
            entry["segmentation"] = encoded
    return entries


def average_precision(results: Sequence[ImageResult], kind: Kind) -> dict[str, float | None]:
    """The `NUMBERS`, in percent; None where no object is annotated, or none of that size.

    At most 100 predictions of an image count, those with the highest scores.

    Raises:
        MissingPackageError: pycocotools is not installed.
    """
    check_installed()
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress and a table
        annotated = _coco(results, [result.annotated for result in results], kind)
        predicted = _coco(results, [result.predicted for result in results], kind)
        evaluation = COCOeval(annotated, predicted, "bbox" if kind == "box" else "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = evaluation.stats[: len(NUMBERS)].tolist()
    return {
        name: None if value < 0 else 100 * value for name, value in zip(NUMBERS, stats, strict=True)
    }


def _coco(
    results: Sequence[ImageResult], entries: Sequence[list[dict[str, Any]]], kind: Kind
) -> Any:
    """A data set in memory. Numbers start at 1: COCO's tools take annotation 0 for no match."""
    from pycocotools import mask
    from pycocotools.coco import COCO

    coco, annotations = COCO(), list[dict[str, Any]]()
    for image, group in enumerate(entries, 1):
        for entry in group:
            annotations.append({**entry, "id": len(annotations) + 1, "image_id": image})
    for entry in annotations:
        if "area" not in entry and kind == "box":
            entry["area"] = entry["bbox"][2] * entry["bbox"][3]
        elif "area" not in entry:
            entry["area"] = float(mask.area(entry["segmentation"]))
    coco.dataset = {
        "images": [
            {"id": i, "height": result.size[0], "width": result.size[1]}
            for i, result in enumerate(results, 1)
        ],
        "categories": [{"id": i} for i in sorted({a["category_id"] for a in annotations})],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco
