"""The mean intersection over union of label maps, at one scale or averaged over several."""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from archsearch.scenes.loader import Target, normalized, one_image
from archsearch.scenes.scene import IGNORED, Scene
from archsearch.scenes.views import SegmentationView

RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""Scales of multi-scale evaluation, each as it is and mirrored (Table 5, released)."""

Predict = Callable[[Tensor], Tensor]
"""Normalized images ``(N, 3, H, W)`` to logits ``(N, K, H, W)`` of K classes."""


def confusion(predicted: Tensor, annotated: Tensor, num_classes: int) -> Tensor:
    """``(K, K)`` int64: the number of pixels of each annotated (row) and predicted class.

    Pixels that are annotated as `IGNORED` do not count. The sum over images and processes is the
    confusion matrix of all of them.
    """
    counted = annotated != IGNORED
    pairs = annotated[counted].long() * num_classes + predicted[counted]
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def mean_iou(matrix: Tensor) -> dict[str, float | None]:
    """From a confusion matrix, in percent: ``miou`` and ``pixel_accuracy``; None without pixels.

    Classes that are neither annotated nor predicted do not count.
    """
    counts = matrix.double()
    intersection = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - intersection
    if not union.any():
        return {"miou": None, "pixel_accuracy": None}
    present = union > 0
    return {
        "miou": 100 * float((intersection[present] / union[present]).mean()),
        "pixel_accuracy": 100 * float(intersection.sum() / counts.sum()),
    }


def annotated_map(target: Target) -> Tensor:
    """The label map ``(H, W)`` of the original image of a target, for `confusion`."""
    assert target.original is not None
    assert target.original.label_map is not None
    return torch.from_numpy(target.original.label_map)


def to_original(logits: Tensor, target: Target) -> Tensor:
    """Logits or probabilities ``(K, H, W)`` of an image of a batch at the size of the original."""
    assert target.original is not None
    height, width = target.size
    image = logits[None, :, :height, :width].float()
    return F.interpolate(image, target.original.size, mode="bilinear")[0]


def multi_scale(
    predict: Predict,
    original: Scene,
    view: SegmentationView,
    device: torch.device,
    ratios: Sequence[float] = RATIOS,
    flip: bool = True,
) -> Tensor:
    """Probabilities ``(K, H, W)`` at the size of the original image, averaged over ``ratios`` of
    the view's scale, and over both directions with ``flip``.

    The mean is of probabilities, as in the evaluation in general use, so that every prediction
    counts as much: logits have another range at every scale.
    """
    predictions = (
        probabilities
        for ratio in ratios
        for probabilities in _at_scale(predict, original, view.scaled(ratio), device, flip)
    )
    total = sum(predictions, start=torch.zeros((), device=device))
    return total / (len(ratios) * (2 if flip else 1))


def _at_scale(
    predict: Predict, original: Scene, view: SegmentationView, device: torch.device, flip: bool
) -> Iterator[Tensor]:
    """The probabilities of the image, and those of its mirror image mirrored back."""
    images, (target,) = normalized(one_image(original, view, device))
    if flip:
        height, width = target.size
        mirrored = torch.zeros_like(images)
        mirrored[..., :height, :width] = images[..., :height, :width].flip(-1)
        images = torch.cat([images, mirrored])
    plain, *others = (to_original(logits, target).softmax(0) for logits in predict(images))
    yield plain
    for other in others:
        yield other.flip(-1)
