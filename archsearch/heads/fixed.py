"""A two-stage detector of one image whose outputs have fixed numbers, for ONNX.

What `Detector.predict` leaves out keeps its position here, with a score of minus infinity until the
end, where it becomes zero.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from archsearch.heads.backbone import STRIDES
from archsearch.heads.boxes import Size, clipped, decoded, full_precision, is_empty
from archsearch.heads.instances import MIN_SCORE, NMS_IOU, NUM_DETECTIONS
from archsearch.heads.onnx_operators import OPERATORS, kept, pooled
from archsearch.heads.region_heads import BOX_SIDE, MASK_SIDE
from archsearch.heads.roi_align import levels_of
from archsearch.heads.rpn import NMS_IOU as PROPOSAL_IOU
from archsearch.heads.rpn import NUM_PROPOSALS, RPN
from archsearch.heads.stage import Stage


class FixedDetector(nn.Module):
    """The detections of `Detector.predict`, filled up to 100 by zeros.

    ``forward`` takes one image ``(1, 3, H, W)`` and returns ``boxes`` ``(100, 4)`` in its pixels,
    ``scores`` ``(100,)`` that fall, ``labels`` ``(100,)``, and ``masks`` ``(100, 28, 28)``: the
    probabilities of a mask inside its box. An entry with a score of zero is no detection. There are
    less than 100 entries if an image has room for less. The arguments are those of `Detector`.
    """

    onnx_outputs: ClassVar[tuple[str, ...]] = ("boxes", "scores", "labels", "masks")
    onnx_operators: ClassVar[Mapping[Any, Any]] = OPERATORS

    def __init__(
        self, backbone: nn.Module, fpn: nn.Module, rpn: RPN, stages: Sequence[Stage]
    ) -> None:
        super().__init__()
        self.backbone, self.fpn, self.rpn = backbone, fpn, rpn
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        size = (int(images.shape[2]), int(images.shape[3]))
        levels = cast(list[Tensor], self.fpn(self.backbone(images)))
        boxes, scores, labels = self._detections(levels, *self._proposals(levels, size), size)
        return boxes, scores, labels, self._masks(levels, boxes, labels)

    def _stages(self) -> list[Stage]:
        return cast(list[Stage], list(self.stages))

    def _proposals(self, levels: list[Tensor], size: Size) -> tuple[Tensor, Tensor]:
        """Boxes ``(R, 4)``, and which of them ``(R,)`` are proposals."""
        candidates = self.rpn.candidates(self.rpn(levels))
        parts = [(clipped(b, size), s) for b, s in candidates]
        boxes, scores = torch.cat([b for b, _ in parts]), torch.cat([_kept(*p) for p in parts])
        scores, best = scores.topk(min(NUM_PROPOSALS, len(scores)))
        return boxes[best], scores.isfinite()

    def _detections(
        self, levels: list[Tensor], boxes: Tensor, valid: Tensor, size: Size
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels, by falling score."""
        stages = self._stages()
        logits, deltas = _classified(stages[0], levels, boxes)
        total = logits
        for stage, following in pairwise(stages):
            (boxes,) = stage.refined([boxes], deltas, logits[:, :-1].argmax(1), [size])
            logits, deltas = _classified(following, levels, boxes)
            total = total + logits
        scores = (total / len(stages)).softmax(1)[:, :-1].T
        found = clipped(decoded(deltas, boxes[:, None], stages[-1].coder), size).transpose(0, 1)
        return _best(found, _only(scores, valid & (scores > MIN_SCORE)))

    def _masks(self, levels: list[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Probabilities ``(M, 28, 28)``, averaged over the stages."""
        bins, rows = _bins(levels, boxes, MASK_SIDE), torch.arange(len(labels))
        masks = [full_precision(stage.mask_head(bins))[rows, labels] for stage in self._stages()]
        return torch.stack([mask.sigmoid() for mask in masks]).mean(0)


def _best(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and labels of the best of ``(classes, R, 4)`` after suppression by class."""
    scores = _only(scores, kept(boxes, _only(scores, ~is_empty(boxes)), NMS_IOU)).flatten()
    scores, best = scores.topk(min(NUM_DETECTIONS, len(scores)))
    is_found = scores.isfinite()
    found = boxes.flatten(0, 1)[best] * is_found[:, None]
    labels = best // boxes.shape[1] * is_found
    return found, torch.where(is_found, scores, 0.0), labels


def _kept(boxes: Tensor, scores: Tensor) -> Tensor:
    """The scores ``(R,)`` of a level, minus infinity for boxes that do not remain."""
    scores = _only(scores, ~is_empty(boxes) & scores.isfinite())
    return _only(scores, kept(boxes[None], scores[None], PROPOSAL_IOU)[0])


def _only(scores: Tensor, where: Tensor) -> Tensor:
    return scores.masked_fill(~where, -torch.inf)


def _classified(stage: Stage, levels: Sequence[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
    return cast(tuple[Tensor, Tensor], stage.box_head(_bins(levels, boxes, BOX_SIDE)))


def _bins(levels: Sequence[Tensor], boxes: Tensor, side: int) -> Tensor:
    maps = list(levels[: len(STRIDES)])
    return cast(Tensor, pooled(maps, STRIDES, boxes, levels_of(boxes, len(maps)), side))
