"""Region proposal network (Ren et al., NeurIPS 2015) on a feature pyramid.

Three anchors per position and level, of ratios (height / width) 0.5, 1 and 2 and the area of a
square of 8 strides.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archsearch.heads.boxes import (
    Size,
    Weights,
    clipped,
    decoded,
    encoded,
    full_precision,
    is_empty,
)
from archsearch.heads.fpn import LEVEL_STRIDES, WIDTH
from archsearch.heads.losses import Losses, joined
from archsearch.heads.matching import Target, matched, sampled
from archsearch.heads.nms import grouped_nms

RATIOS = (0.5, 1.0, 2.0)
SCALE = 8
"""Side of a square anchor in strides of its level: 32 to 512 pixels."""

POSITIVE_IOU, NEGATIVE_IOU = 0.7, 0.3
NUM_SAMPLED, POSITIVE_FRACTION = 256, 0.5
"""Anchors per image that the losses are computed on, and the largest part that is positive."""

CANDIDATES = {True: 2000, False: 1000}
"""Boxes per level before suppression, in training and in evaluation."""

NMS_IOU, NUM_PROPOSALS = 0.7, 1000
"""Threshold of the suppression within a level, and boxes per image after it."""

CODER: Weights = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Of each level with A anchors: logits ``(N, A)``, deltas ``(N, A, 4)``, anchors ``(A, 4)``."""

    logits: list[Tensor]
    deltas: list[Tensor]
    anchors: list[Tensor]

    def by_level(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Logits, deltas and anchors of each level."""
        return zip(self.logits, self.deltas, self.anchors, strict=True)


class RPN(nn.Module):
    """A 3x3 convolution on every level, then the logit of an object and the deltas of its box.

    Args:
        width: channels of the levels.
        scale: side of a square anchor in strides.
        beta: where the loss of the deltas changes from squared to absolute; 0 for absolute.
    """

    def __init__(self, width: int = WIDTH, *, scale: float = SCALE, beta: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.logits = nn.Conv2d(width, len(RATIOS), 1)
        self.deltas = nn.Conv2d(width, 4 * len(RATIOS), 1)
        self.scale, self.beta = scale, beta
        self.apply(_init_weights)

    def forward(self, levels: Sequence[Tensor]) -> Predictions:
        """Predictions of the pyramid's levels ``(N, width, H, W)``, in full precision."""
        hidden = [F.relu(self.conv(level)) for level in levels]
        return Predictions(
            logits=[_last(self.logits(x), 1)[..., 0] for x in hidden],
            deltas=[_last(self.deltas(x), 4) for x in hidden],
            anchors=[
                anchors_of(cast(Size, tuple(x.shape[2:])), stride, self.scale, x.device)
                for x, stride in zip(hidden, LEVEL_STRIDES, strict=True)
            ],
        )

    @torch.no_grad()
    def proposals(self, predictions: Predictions, sizes: Sequence[Size]) -> list[Tensor]:
        """At most `NUM_PROPOSALS` boxes ``(R, 4)`` of each image, by falling score.

        Args:
            predictions: of all images.
            sizes: height and width of each image without padding; boxes are cut there.
        """
        return [self._proposals_of(predictions, n, size) for n, size in enumerate(sizes)]

    def candidates(self, predictions: Predictions, n: int = 0) -> list[tuple[Tensor, Tensor]]:
        """Boxes and logits of each level of an image before suppression, not yet cut."""
        return [
            _candidates(logits[n], deltas[n], anchors, CANDIDATES[self.training])
            for logits, deltas, anchors in predictions.by_level()
        ]

    def _proposals_of(self, predictions: Predictions, n: int, size: Size) -> Tensor:
        parts = self.candidates(predictions, n)
        boxes, scores = (torch.cat(values) for values in zip(*parts, strict=True))
        levels = torch.cat([torch.full_like(s, i) for i, (_, s) in enumerate(parts)])
        boxes = clipped(boxes, size)
        valid = ~is_empty(boxes) & scores.isfinite()
        boxes, scores, levels = boxes[valid], scores[valid], levels[valid]
        return boxes[grouped_nms(boxes, scores, levels, NMS_IOU)[:NUM_PROPOSALS]]

    def losses(self, predictions: Predictions, targets: Sequence[Target]) -> Losses:
        """Cross entropy of ``rpn_objects`` and the loss of the deltas ``rpn_boxes``.

        Both are means over the sampled anchors.
        """
        logits, deltas = torch.cat(predictions.logits, 1), torch.cat(predictions.deltas, 1)
        anchors = torch.cat(predictions.anchors)
        images = zip(logits, deltas, targets, strict=True)
        return joined(self._losses_of(*image, anchors) for image in images)

    def _losses_of(self, logits: Tensor, deltas: Tensor, target: Target, anchors: Tensor) -> Losses:
        matches = matched(anchors, target, POSITIVE_IOU, NEGATIVE_IOU, every_object=True)
        positive, negative = sampled(matches, NUM_SAMPLED, POSITIVE_FRACTION)
        chosen = torch.cat((positive, negative))
        is_object = (torch.arange(len(chosen), device=chosen.device) < len(positive)).float()
        boxes = target.objects.boxes[matches.index[positive]]
        wanted = encoded(boxes, anchors[positive], CODER)
        objects = F.binary_cross_entropy_with_logits(logits[chosen], is_object, reduction="sum")
        deltas = F.smooth_l1_loss(deltas[positive], wanted, beta=self.beta, reduction="sum")
        weight = logits.new_tensor([len(chosen)])
        return {"rpn_objects": (objects[None], weight), "rpn_boxes": (deltas[None], weight)}


def _candidates(
    logits: Tensor, deltas: Tensor, anchors: Tensor, largest: int
) -> tuple[Tensor, Tensor]:
    """The boxes of highest logit of a level, at most ``largest``, and their logits."""
    scores, best = logits.topk(min(largest, len(logits)))
    return decoded(deltas[best], anchors[best], CODER), scores


def anchors_of(size: Size, stride: int, scale: float, device: torch.device) -> Tensor:
    """Anchors ``(H * W * 3, 4)`` of a level: row by row, each position with its three ratios.

    The anchors of position (0, 0) have their centers at the corner of the image.
    """
    side = scale * stride
    sides = torch.tensor([(side / math.sqrt(r), side * math.sqrt(r)) for r in RATIOS])
    shapes = torch.cat((-sides / 2, sides / 2), 1).to(device)
    y, x = (torch.arange(length, device=device) * float(stride) for length in size)
    centers = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    return (centers.tile(2)[:, :, None] + shapes).flatten(0, 2)


def _last(x: Tensor, values: int) -> Tensor:
    """``(N, A * values, H, W)`` to ``(N, H * W * A, values)``, in full precision."""
    return full_precision(x).permute(0, 2, 3, 1).reshape(len(x), -1, values)


def _init_weights(module: nn.Module) -> None:
    """Normal weights of standard deviation 0.01 and zero biases, as published."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(cast(Tensor, module.bias))
