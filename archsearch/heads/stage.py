"""One stage of a two-stage detector: proposals are sampled, classified, refined and masked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archsearch.heads.backbone import STRIDES
from archsearch.heads.boxes import (
    Size,
    Weights,
    clipped,
    decoded,
    encoded,
    full_precision,
    generalized_iou,
)
from archsearch.heads.losses import Losses, of_images
from archsearch.heads.masks import cropped
from archsearch.heads.matching import Target, matched, sampled
from archsearch.heads.region_heads import BOX_SIDE, MASK_SIDE, BoxHead
from archsearch.heads.roi_align import roi_align

NUM_SAMPLED, POSITIVE_FRACTION = 512, 0.25
"""Boxes per image that the losses are computed on, and the largest part that is positive."""

GENERALIZED_IOU_WEIGHT = 10.0
"""Factor of 1 - generalized IoU beside the cross entropy (released cascades)."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The boxes of an image that a stage learns from, positives first.

    Args:
        boxes: ``(S, 4)``.
        index: ``(P,)`` the object that each positive learns; the rest is background.
        added: ``(S,)`` true for objects among the boxes, which are no proposals.
        target: the image's objects.
    """

    boxes: Tensor
    index: Tensor
    added: Tensor
    target: Target

    @property
    def positive(self) -> Tensor:
        """The boxes ``(P, 4)`` that learn an object."""
        return self.boxes[: len(self.index)]

    def labels(self, background: int) -> Tensor:
        """The class ``(S,)`` of each box."""
        labels = self.index.new_full((len(self.boxes),), background)
        labels[: len(self.index)] = self.target.objects.labels[self.index]
        return labels


class Stage(nn.Module):
    """A box head and a mask head, and what they learn.

    Args:
        box_head: the class and the deltas of a box, from maps ``(R, C, 7, 7)``.
        mask_head: maps ``(R, C, 14, 14)`` to logits ``(R, classes, 28, 28)``.
        iou: boxes from this IoU with an object on learn it; the others are background.
        coder: factors of the deltas.
        weight: factor of all losses of the stage.
        num_sampled: boxes per image that the losses are computed on.
        generalized: the box loss is 1 - generalized IoU of the decoded box, times
            `GENERALIZED_IOU_WEIGHT`, instead of the absolute difference of the deltas.
    """

    def __init__(
        self,
        box_head: BoxHead,
        mask_head: nn.Module,
        *,
        iou: float,
        coder: Weights,
        weight: float = 1.0,
        num_sampled: int = NUM_SAMPLED,
        generalized: bool = False,
    ) -> None:
        super().__init__()
        self.box_head, self.mask_head = box_head, mask_head
        self.iou, self.coder, self.weight, self.generalized = iou, coder, weight, generalized
        self.num_sampled = num_sampled

    def forward(self, levels: Sequence[Tensor], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits ``(R, classes + 1)`` and deltas ``(R, classes, 4)`` of the boxes of all images."""
        return cast(tuple[Tensor, Tensor], self.box_head(_pooled(levels, boxes, BOX_SIDE)))

    def masks(self, levels: Sequence[Tensor], boxes: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Logits ``(R, 28, 28)`` of the mask of each box's class, ``labels`` ``(R,)``."""
        logits = full_precision(self.mask_head(_pooled(levels, boxes, MASK_SIDE)))
        return logits[torch.arange(len(labels), device=labels.device), labels]

    @torch.no_grad()
    def sample(self, proposals: Tensor, target: Target) -> Sample:
        """The boxes that the stage learns from, among proposals ``(R, 4)`` and the objects."""
        boxes = torch.cat((proposals, target.objects.boxes))
        matches = matched(boxes, target, self.iou, self.iou)
        positive, negative = sampled(matches, self.num_sampled, POSITIVE_FRACTION)
        chosen = torch.cat((positive, negative))
        added = chosen >= len(proposals)
        return Sample(boxes[chosen], matches.index[positive], added, target)

    @torch.no_grad()
    def refined(
        self, boxes: Sequence[Tensor], deltas: Tensor, classes: Tensor, sizes: Sequence[Size]
    ) -> list[Tensor]:
        """Each box moved by the deltas of its class, cut at the borders of its image.

        Args:
            boxes: ``(R_n, 4)`` of each image.
            deltas: ``(R, classes, 4)`` of the boxes of all images.
            classes: ``(R,)`` the class whose deltas are used.
            sizes: of the images.
        """
        chosen = deltas[torch.arange(len(classes), device=classes.device), classes]
        parts = zip(boxes, torch.split(chosen, [len(b) for b in boxes]), sizes, strict=True)
        return [clipped(decoded(delta, box, self.coder), size) for box, delta, size in parts]

    def losses(
        self, levels: Sequence[Tensor], samples: Sequence[Sample], logits: Tensor, deltas: Tensor
    ) -> Losses:
        """Losses of ``classes`` and ``boxes`` (means over samples) and ``masks`` (over positives).

        Args:
            levels: the pyramid.
            samples: of each image.
            logits, deltas: of the samples of all images.
        """
        labels = torch.cat([sample.labels(deltas.shape[1]) for sample in samples])
        positive = (labels < deltas.shape[1]).nonzero()[:, 0]
        positives = [len(sample.index) for sample in samples]
        classes, num = of_images(
            F.cross_entropy(logits, labels, reduction="none"), [len(s.boxes) for s in samples]
        )
        boxes = self._box_loss(deltas[positive, labels[positive]], samples)
        masks = self._mask_loss(levels, samples, labels[positive])
        losses: Losses = {
            "classes": (classes, num),
            "boxes": (of_images(boxes, positives)[0], num),
            "masks": of_images(masks, positives),
        }
        return {name: (self.weight * value, weight) for name, (value, weight) in losses.items()}

    def _box_loss(self, deltas: Tensor, samples: Sequence[Sample]) -> Tensor:
        """``(P,)`` of the positives of all images."""
        boxes = torch.cat([sample.positive for sample in samples])
        wanted = torch.cat([sample.target.objects.boxes[sample.index] for sample in samples])
        if self.generalized:
            overlaps = generalized_iou(decoded(deltas, boxes, self.coder), wanted)
            return GENERALIZED_IOU_WEIGHT * (1 - overlaps)
        return F.l1_loss(deltas, encoded(wanted, boxes, self.coder), reduction="none").sum(1)

    def _mask_loss(
        self, levels: Sequence[Tensor], samples: Sequence[Sample], labels: Tensor
    ) -> Tensor:
        """``(P,)`` of the positives of all images: the mean over the mask's pixels."""
        logits = self.masks(levels, [sample.positive for sample in samples], labels)
        wanted = torch.cat([_mask_targets(sample, logits.shape[-1]) for sample in samples])
        losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return losses.mean((1, 2))


def _mask_targets(sample: Sample, side: int) -> Tensor:
    masks = sample.target.objects.masks
    assert masks is not None, "the detector checks that targets have masks"
    return cropped(masks, sample.index, sample.positive, side)


def _pooled(levels: Sequence[Tensor], boxes: Sequence[Tensor], side: int) -> Tensor:
    return roi_align(levels[: len(STRIDES)], STRIDES, boxes, side)
