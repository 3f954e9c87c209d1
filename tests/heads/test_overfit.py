"""Detectors learn two images by heart: boxes, classes and masks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from archsearch.heads.boxes import iou
from archsearch.heads.detector import Detector
from archsearch.heads.instances import Detections, Instances
from archsearch.heads.losses import total
from archsearch.heads.published import cascade_mask_rcnn, mask_rcnn
from archsearch.scenes.pasted import pasted
from internimage.config import ModelConfig
from internimage.model import InternImage

CONFIG = ModelConfig((8, 16, 32, 64), (1, 1, 2, 1), (1, 2, 4, 8))
IMAGES = (6, 12)
"""With three and two digits."""


@pytest.mark.slow
def test_mask_rcnn_finds_the_objects_that_it_has_learned() -> None:
    images, targets = annotated_images()
    detector, losses = trained(mask_rcnn, images, targets, steps=100)
    assert losses[-1] < losses[0] / 10
    for found, target in zip(detector.eval().predict(images), targets, strict=True):
        sure = found[found.scores > 0.5]
        assert len(sure) <= len(target) + 1
        assert min(mask_overlaps(sure, target)) > 0.7


@pytest.mark.slow
def test_every_loss_of_a_cascade_falls() -> None:
    images, targets = annotated_images()
    _, losses = trained(cascade_mask_rcnn, images, targets, steps=40)
    assert losses[-1] < losses[0] / 4


def annotated_images() -> tuple[Tensor, list[Instances]]:
    scenes = [pasted("pasted", "").train[i] for i in IMAGES]
    images = torch.stack([torch.tensor(s.pixels).permute(2, 0, 1) / 128 - 1 for s in scenes])
    targets = []
    for objects in (scene.objects for scene in scenes):
        values = (objects.boxes, objects.labels, objects.masks, objects.crowd)
        targets.append(Instances(*map(torch.tensor, values)))
    return images, targets


def trained(
    build: Callable[..., Detector], images: Tensor, targets: list[Instances], steps: int
) -> tuple[Detector, list[float]]:
    """A small detector after these steps on all images, and the loss of each step."""
    torch.manual_seed(0)
    backbone = InternImage(CONFIG, features_only=True)
    detector = build(backbone, 10, width=32, hidden=128, anchor_scale=5)
    optimizer, losses = torch.optim.AdamW(detector.parameters()), []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 5, (steps - step) / 20)
        loss = total(detector.losses(images, targets))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 10)
        optimizer.step()
        losses.append(loss.item())
    return detector, losses


def mask_overlaps(found: Detections, target: Instances) -> list[float]:
    """The IoU of each object's mask with the found one of its class whose box overlaps most."""
    same = target.labels[:, None] == found.labels
    best = (iou(target.boxes, found.boxes) * same).argmax(1)
    pairs = zip(target.masks, found.masks[best], strict=True)
    return [((mask & other).sum() / (mask | other).sum()).item() for mask, other in pairs]
