"""Two-stage detectors: Mask R-CNN has one stage, Cascade Mask R-CNN three.

In training each stage draws its sample among the boxes that the previous stage refined. In
evaluation the logits of all stages are averaged, and so are the probabilities of their masks.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from archsearch.heads.boxes import Size, clipped, decoded, is_empty
from archsearch.heads.fixed import FixedDetector
from archsearch.heads.fpn import FPN
from archsearch.heads.instances import (
    MIN_SCORE,
    NMS_IOU,
    NUM_DETECTIONS,
    Detections,
    Instances,
)
from archsearch.heads.losses import Losses
from archsearch.heads.masks import pasted
from archsearch.heads.matching import Target
from archsearch.heads.nms import grouped_nms
from archsearch.heads.rpn import RPN
from archsearch.heads.stage import Sample, Stage


class Detector(nn.Module):
    """A backbone with pyramid, proposals and stages.

    Args:
        backbone: gives four maps (`archsearch.heads.backbone`).
        fpn: the pyramid on its maps.
        rpn: proposes boxes.
        stages: classify and refine the boxes, in this order.
    """

    def __init__(self, backbone: nn.Module, fpn: FPN, rpn: RPN, stages: Sequence[Stage]) -> None:
        super().__init__()
        self.backbone, self.fpn, self.rpn = backbone, fpn, rpn
        self.stages = nn.ModuleList(stages)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self,
        images: Tensor,
        targets: Sequence[Instances] | None = None,
        sizes: Sequence[Size] | None = None,
        originals: Sequence[Size] | None = None,
    ) -> Losses | list[Detections]:
        """`losses` with targets, else `predict`; what DistributedDataParallel calls."""
        if targets is None:
            return self.predict(images, sizes, originals)
        return self.losses(images, targets, sizes)

    def losses(
        self,
        images: Tensor,
        targets: Sequence[Instances],
        sizes: Sequence[Size] | None = None,
    ) -> Losses:
        """The losses by name; `archsearch.heads.losses.total` adds their means.

        Samples are drawn from torch's global generator. Every parameter receives a gradient, also
        from images without objects.

        Args:
            images: ``(N, 3, H, W)``; padding is at the right and at the bottom.
            targets: of each image, with masks.
            sizes: height and width of each image without padding; ``(H, W)`` by default.

        Raises:
            ValueError: targets or sizes are not one per image, masks are missing, or labels are not
                of the classes.
        """
        sizes = checked_sizes(images, sizes)
        num_classes = self._stages()[0].box_head.num_classes
        check_labels(targets, num_classes, len(images), with_masks=True)
        checked = [one if one.masks is not None else _with_no_masks(one) for one in targets]
        known = [Target.of(one) for one in checked]
        levels = self._levels(images)
        predictions = self.rpn(levels)
        losses: Losses = self.rpn.losses(predictions, known)
        boxes = self.rpn.proposals(predictions, sizes)
        for i, stage in enumerate(self._stages()):
            samples = [stage.sample(b, t) for b, t in zip(boxes, known, strict=True)]
            logits, deltas = stage(levels, [sample.boxes for sample in samples])
            for name, loss in stage.losses(levels, samples, logits, deltas).items():
                losses[name if len(self.stages) == 1 else f"{name}_{i + 1}"] = loss
            boxes = next_proposals(stage, samples, logits, deltas, sizes)
        return losses

    def for_export(self) -> nn.Module:
        """The network that ONNX files are written of: one image, outputs of fixed numbers."""
        return FixedDetector(self.backbone, self.fpn, self.rpn, self._stages())

    @torch.no_grad()
    def predict(
        self,
        images: Tensor,
        sizes: Sequence[Size] | None = None,
        originals: Sequence[Size] | None = None,
    ) -> list[Detections]:
        """The objects of each image, at most 100, by falling score; call ``eval()`` first.

        Args:
            images: ``(N, 3, H, W)``; padding is at the right and at the bottom.
            sizes: height and width of each image without padding; ``(H, W)`` by default.
            originals: height and width to which boxes and masks are scaled, such as those of the
                image file; ``sizes`` by default.

        Raises:
            ValueError: sizes are not one per image.
        """
        sizes = checked_sizes(images, sizes)
        originals = sizes if originals is None else checked_sizes(images, originals)
        levels = self._levels(images)
        boxes = self.rpn.proposals(self.rpn(levels), sizes)
        detections = self._detections(levels, boxes, sizes)
        masks = self._masks(levels, detections)
        parts = zip(detections, masks, sizes, originals, strict=True)
        return [_scaled(*part) for part in parts]

    def _levels(self, images: Tensor) -> list[Tensor]:
        return cast(list[Tensor], self.fpn(self.backbone(images)))

    def _stages(self) -> list[Stage]:
        return cast(list[Stage], list(self.stages))

    def _detections(
        self, levels: list[Tensor], boxes: list[Tensor], sizes: Sequence[Size]
    ) -> list[Detections]:
        """What the last stage finds in each image, without masks."""
        stages = self._stages()
        logits, deltas = stages[0](levels, boxes)
        total = logits
        for stage, following in pairwise(stages):
            boxes = stage.refined(boxes, deltas, logits[:, :-1].argmax(1), sizes)
            logits, deltas = following(levels, boxes)
            total = total + logits
        lengths = [len(b) for b in boxes]
        scores = torch.split((total / len(stages)).softmax(1)[:, :-1], lengths)
        parts = zip(boxes, scores, torch.split(deltas, lengths), sizes, strict=True)
        return [_detected(stages[-1], *part) for part in parts]

    def _masks(self, levels: list[Tensor], detections: list[Detections]) -> Sequence[Tensor]:
        """Probabilities ``(M, 28, 28)`` of the masks of each image, averaged over the stages."""
        boxes = [one.boxes for one in detections]
        labels = torch.cat([one.labels for one in detections])
        masks = [stage.masks(levels, boxes, labels).sigmoid() for stage in self._stages()]
        return torch.split(torch.stack(masks).mean(0), [len(b) for b in boxes])


def next_proposals(
    stage: Stage, samples: Sequence[Sample], logits: Tensor, deltas: Tensor, sizes: Sequence[Size]
) -> list[Tensor]:
    """The refined proposals of each image; objects are added again when the next stage samples.

    A positive moves by the deltas of its object's class, another box by those of its likeliest.
    """
    background = deltas.shape[1]
    labels = torch.cat([sample.labels(background) for sample in samples])
    classes = torch.where(labels < background, labels, logits[:, :-1].argmax(1))
    refined = stage.refined([sample.boxes for sample in samples], deltas, classes, sizes)
    parts = zip(samples, refined, strict=True)
    return [boxes[~sample.added & ~is_empty(boxes)] for sample, boxes in parts]


def _detected(
    stage: Stage, boxes: Tensor, scores: Tensor, deltas: Tensor, size: Size
) -> Detections:
    """Detections among the boxes ``(R, 4)`` of an image, by scores ``(R, classes)``."""
    rows, labels = (scores > MIN_SCORE).nonzero(as_tuple=True)
    found = clipped(decoded(deltas[rows, labels], boxes[rows], stage.coder), size)
    all_found = Detections(found, scores[rows, labels], labels, None)
    valid = all_found[~is_empty(found)]
    kept = grouped_nms(valid.boxes, valid.scores, valid.labels, NMS_IOU)
    return valid[kept[:NUM_DETECTIONS]]


def _scaled(detections: Detections, masks: Tensor, size: Size, original: Size) -> Detections:
    """The detections of an image of ``size`` in pixels of ``original``, with masks."""
    (height, width), (rows, columns) = size, original
    factors = [columns / width, rows / height] * 2
    boxes = detections.boxes * detections.boxes.new_tensor(factors)
    return Detections(boxes, detections.scores, detections.labels, pasted(masks, boxes, original))


def checked_sizes(images: Tensor, sizes: Sequence[Size] | None) -> Sequence[Size]:
    """The sizes without padding, by default those of the batch.

    Raises:
        ValueError: they are not one per image.
    """
    if sizes is None:
        return [cast(Size, tuple(images.shape[2:]))] * len(images)
    if len(sizes) != len(images):
        raise ValueError(f"wanted sizes for {len(images)} images, got {len(sizes)}")
    return sizes


def check_labels(
    targets: Sequence[Instances], num_classes: int, num_images: int, *, with_masks: bool = False
) -> None:
    """Check the annotations of a batch.

    Raises:
        ValueError: they are not one per image, masks are missing, or labels are not of the classes.
    """
    if len(targets) != num_images:
        raise ValueError(f"wanted targets for {num_images} images, got {len(targets)}")
    problems = []
    for n, one in enumerate(targets):
        if with_masks and len(one) and one.masks is None:
            problems.append(f"image {n} has no masks")
        if len(one) and not 0 <= one.labels.min() <= one.labels.max() < num_classes:
            problems.append(f"image {n} has the labels {torch.unique(one.labels).tolist()}")
    if problems:
        wanted = f"labels from 0 to {num_classes - 1} for all objects"
        kinds = "masks and " if with_masks else ""
        raise ValueError(f"wanted {kinds}{wanted}, but {'; '.join(problems)}")


def _with_no_masks(none: Instances) -> Instances:
    masks = torch.zeros(0, 1, 1, dtype=torch.bool, device=none.boxes.device)
    return replace(none, masks=masks)
