"""Which boxes learn which object, and the random sample of them that the losses are computed on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from archsearch.heads.boxes import coverage, iou, is_empty
from archsearch.heads.instances import Instances

MAX_COVERAGE = 0.5
"""A box that lies in a crowd region by more than this part is not a negative."""


@dataclass(frozen=True, eq=False)
class Target:
    """What an image teaches: its objects, and regions ``(K, 4)`` in which nothing is negative."""

    objects: Instances
    crowds: Tensor

    @classmethod
    def of(cls, instances: Instances) -> "Target":
        """The annotation, without boxes that have no area: no box overlaps them."""
        kept = instances[~is_empty(instances.boxes)]
        return cls(kept[~kept.crowd], kept.boxes[kept.crowd])


@dataclass(frozen=True, eq=False)
class Matches:
    """For R boxes: the object of highest IoU, 0 if there is none, and what the box is to learn.

    A box that is neither positive nor negative is ignored.
    """

    index: Tensor
    positive: Tensor
    negative: Tensor


def matched(
    boxes: Tensor, target: Target, positive: float, negative: float, *, every_object: bool = False
) -> Matches:
    """Match boxes ``(R, 4)`` to the objects of an image.

    Args:
        boxes: anchors or proposals.
        target: the objects and crowd regions.
        positive: the lowest IoU of a positive.
        negative: boxes with an IoU below it are negative.
        every_object: the boxes of highest IoU with an object are positive, however low the IoU is
            above 0 (Ren et al., NeurIPS 2015). As in torchvision they learn the object of their own
            highest IoU, which may be another one.
    """
    overlaps = iou(boxes, target.objects.boxes)
    if not overlaps.shape[1]:
        overlaps = overlaps.new_zeros(len(boxes), 1)
    highest, index = overlaps.max(1)
    is_positive, is_negative = highest >= positive, highest < negative
    if every_object and len(boxes):
        of_object = overlaps.max(0).values
        best = ((overlaps == of_object) & (of_object > 0)).any(1)
        is_positive, is_negative = is_positive | best, is_negative & ~best
    if len(target.crowds):
        in_crowd = (coverage(boxes, target.crowds) > MAX_COVERAGE).any(1)
        is_negative = is_negative & ~in_crowd
    return Matches(index, is_positive, is_negative)


def sampled(matches: Matches, num: int, fraction: float) -> tuple[Tensor, Tensor]:
    """Indices of positives, at most ``num * fraction``, and of negatives that fill up to ``num``.

    Both are drawn from torch's global generator.
    """
    positives = _drawn(matches.positive, int(num * fraction))
    return positives, _drawn(matches.negative, num - len(positives))


def _drawn(members: Tensor, largest: int) -> Tensor:
    indices = members.nonzero()[:, 0]
    return indices[torch.randperm(len(indices), device=indices.device)[:largest]]
