"""Losses of a set of predictions, of which each object is assigned one (Carion et al., ECCV 2020).

Weights and the focal loss are those of Deformable DETR (Zhu et al., ICLR 2021), as DINO has them.
Boxes are parts of the image's sides (`archsearch.heads.query_boxes`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from archsearch.heads.boxes import generalized_iou
from archsearch.heads.losses import Losses
from archsearch.heads.query_boxes import corners

ALPHA, GAMMA = 0.25, 2.0
"""The weight of the positives in the focal loss (Lin et al., ICCV 2017), and its exponent."""

CLASS_COST, CLASS_WEIGHT = 2.0, 1.0
BOX_WEIGHT, OVERLAP_WEIGHT = 5.0, 2.0
"""Weights in the assignment and in the loss, of the absolute differences and of 1 - IoU."""

_TINY = 1e-8


@dataclass(frozen=True, eq=False)
class Prediction:
    """Q predictions of each of N images: class logits ``(N, Q, K)`` and boxes ``(N, Q, 4)``."""

    logits: Tensor
    boxes: Tensor


@dataclass(frozen=True, eq=False)
class Objects:
    """The M objects of an image: labels ``(M,)`` and boxes ``(M, 4)``."""

    labels: Tensor
    boxes: Tensor


Pairs = tuple[Tensor, Tensor]
"""Indices of predictions and of the objects that they learn, of one image."""


@torch.no_grad()
def assigned(logits: Tensor, boxes: Tensor, objects: Objects) -> Pairs:
    """The pairs of least total cost, one for each object if there are as many predictions.

    Args:
        logits: ``(Q, K)``.
        boxes: ``(Q, 4)``.
        objects: of the image.
    """
    costs = cost_matrix(logits, boxes, objects).double()
    largest = torch.finfo(torch.float32).max
    costs = costs.nan_to_num(nan=largest, posinf=largest, neginf=-largest)
    rows, columns = linear_sum_assignment(costs.cpu().numpy())
    return (
        torch.as_tensor(rows, device=logits.device),
        torch.as_tensor(columns, device=logits.device),
    )


def cost_matrix(logits: Tensor, boxes: Tensor, objects: Objects) -> Tensor:
    """``(Q, M)``: what it costs that a prediction learns an object, up to a constant per row."""
    p = logits.sigmoid()[:, objects.labels]
    positive = -ALPHA * (1 - p) ** GAMMA * (p + _TINY).log()
    negative = -(1 - ALPHA) * p**GAMMA * (1 - p + _TINY).log()
    distance = (boxes[:, None] - objects.boxes).abs().sum(-1)
    overlap = generalized_iou(corners(boxes)[:, None], corners(objects.boxes))
    classes = CLASS_COST * (positive - negative)
    return classes + BOX_WEIGHT * distance - OVERLAP_WEIGHT * overlap


def set_losses(
    prediction: Prediction,
    objects: Sequence[Objects],
    pairs: Sequence[Pairs] | None = None,
    valid: Tensor | None = None,
) -> Losses:
    """Losses of ``classes``, ``boxes`` and ``overlaps``, each weighted by the number of pairs.

    Args:
        prediction: of N images.
        objects: of each image.
        pairs: of each image; by default predictions are `assigned`.
        valid: ``(N, Q)`` bool, the predictions that have a loss; all by default.
    """
    parts = [
        _of_image(
            prediction.logits[n],
            prediction.boxes[n],
            known,
            pairs[n] if pairs else assigned(prediction.logits[n], prediction.boxes[n], known),
            None if valid is None else valid[n],
        )
        for n, known in enumerate(objects)
    ]
    classes, boxes, overlaps, weights = (torch.stack(values) for values in zip(*parts, strict=True))
    return {
        "classes": (CLASS_WEIGHT * classes, weights),
        "boxes": (BOX_WEIGHT * boxes, weights),
        "overlaps": (OVERLAP_WEIGHT * overlaps, weights),
    }


def _of_image(
    logits: Tensor, boxes: Tensor, objects: Objects, pairs: Pairs, valid: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sums of the three losses, and the number of pairs."""
    rows, columns = pairs
    wanted = torch.zeros_like(logits)
    wanted[rows, objects.labels[columns]] = 1
    classes = focal_loss(logits, wanted).sum(1)
    if valid is not None:
        classes = classes[valid]
    mine, theirs = boxes[rows], objects.boxes[columns]
    overlaps = 1 - generalized_iou(corners(mine), corners(theirs))
    distance = F.l1_loss(mine, theirs, reduction="sum")
    return classes.sum(), distance, overlaps.sum(), logits.new_tensor(len(rows))


def focal_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """The focal loss of each logit; ``wanted`` is 0 or 1."""
    p = logits.sigmoid()
    error = wanted * (1 - p) + (1 - wanted) * p
    weight = wanted * ALPHA + (1 - wanted) * (1 - ALPHA)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return weight * error**GAMMA * cross_entropy
