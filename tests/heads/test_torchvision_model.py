"""Mask R-CNN with equal weights: the predictions and losses of torchvision's.

In float64, so that no order of scores is a matter of rounding; but our anchors are float32.
torchvision's model has logits, boxes and masks of the background too, and its class is 0. What it
does otherwise is patched: anchors rounded to whole pixels, pixel centers at whole numbers, the
squared part of the box losses, and masks that are resampled as targets and not thresholded.
"""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archsearch.heads.detector import Detector
from archsearch.heads.fpn import LEVEL_STRIDES
from archsearch.heads.losses import total
from archsearch.heads.masks import cropped
from archsearch.heads.rpn import CANDIDATES, NUM_PROPOSALS, anchors_of
from tests.heads.small import annotated, small_detector

pytest.importorskip("torchvision")

from torchvision.models.detection import MaskRCNN, anchor_utils, faster_rcnn, mask_rcnn, roi_heads
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import poolers

SIZE, NUM_CLASSES, WIDTH, SCALE = (128, 192), 3, 16, 4
NAMES = {
    "rpn_objects": "loss_objectness", "rpn_boxes": "loss_rpn_box_reg",
    "classes": "loss_classifier", "boxes": "loss_box_reg", "masks": "loss_mask",
}  # fmt: skip


@pytest.fixture
def detector() -> Detector:
    """With weights so large that proposals, classes and boxes differ from each other."""
    detector = small_detector().double()
    box_head = detector.stages[0].box_head
    for layer, std in (
        (detector.rpn.logits, 1.0), (detector.rpn.deltas, 0.2),
        (box_head.logits, 1.0), (box_head.deltas, 1.0),
    ):  # fmt: skip
        nn.init.normal_(layer.weight, std=std)
    return detector


class Levels(nn.Module):
    """The pyramid of a detector, named as torchvision's."""

    out_channels = WIDTH

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.backbone, self.fpn = detector.backbone, detector.fpn

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return dict(zip(("0", "1", "2", "3", "pool"), self.fpn(self.backbone(images)), strict=True))


def with_weights_of(detector: Detector) -> MaskRCNN:
    """torchvision's Mask R-CNN with the detector's weights and settings."""
    hidden = detector.stages[0].box_head.logits.in_features
    generator = anchor_utils.AnchorGenerator(((1,),) * 5, ((0.5, 1.0, 2.0),) * 5)
    generator.cell_anchors = [
        anchors_of((1, 1), stride, SCALE, torch.device("cpu")) for stride in LEVEL_STRIDES
    ]
    model = MaskRCNN(
        Levels(detector),
        rpn_anchor_generator=generator,
        rpn_pre_nms_top_n_train=CANDIDATES[True],
        rpn_pre_nms_top_n_test=CANDIDATES[False],
        rpn_post_nms_top_n_train=NUM_PROPOSALS,
        rpn_post_nms_top_n_test=NUM_PROPOSALS,
        box_head=faster_rcnn.TwoMLPHead(WIDTH * 49, hidden),
        box_predictor=faster_rcnn.FastRCNNPredictor(hidden, NUM_CLASSES + 1),
        mask_head=mask_rcnn.MaskRCNNHeads(WIDTH, (WIDTH,) * 4, 1),
        mask_predictor=mask_rcnn.MaskRCNNPredictor(WIDTH, WIDTH, NUM_CLASSES + 1),
    ).double()
    copy_weights(detector, model)
    return model


def copy_weights(detector: Detector, model: MaskRCNN) -> None:
    heads, stage = model.roi_heads, detector.stages[0]
    parts = [
        (model.rpn.head.conv[0][0], detector.rpn.conv, None),
        (model.rpn.head.cls_logits, detector.rpn.logits, None),
        (model.rpn.head.bbox_pred, detector.rpn.deltas, None),
        (heads.box_head.fc6, stage.box_head.trunk[1], None),
        (heads.box_head.fc7, stage.box_head.trunk[3], None),
        (heads.box_predictor.bbox_pred, stage.box_head.deltas, 4),
        (heads.mask_predictor.conv5_mask, stage.mask_head[8], None),
        (heads.mask_predictor.mask_fcn_logits, stage.mask_head[10], 1),
        *((heads.mask_head[i][0], stage.mask_head[2 * i], None) for i in range(4)),
    ]
    with torch.no_grad():
        for theirs, ours, skipped in parts:
            theirs.weight[skipped or 0 :] = ours.weight
            theirs.bias[skipped or 0 :] = ours.bias
        classes = heads.box_predictor.cls_score
        classes.weight.copy_(stage.box_head.logits.weight.roll(1, 0))
        classes.bias.copy_(stage.box_head.logits.bias.roll(1, 0))


@pytest.fixture(autouse=True)
def _patched(monkeypatch: pytest.MonkeyPatch) -> None:
    def absolute(x: Tensor, y: Tensor, beta: float = 0, reduction: str = "mean") -> Tensor:
        del beta
        return F.l1_loss(x, y, reduction=reduction)

    def targets(masks: Tensor, boxes: Tensor, index: Tensor, side: int) -> Tensor:
        return cropped(masks.bool(), index, boxes, side)

    monkeypatch.setattr(poolers, "roi_align", partial(poolers.roi_align, aligned=True))
    monkeypatch.setattr(F, "smooth_l1_loss", absolute)
    monkeypatch.setattr(roi_heads, "project_masks_on_boxes", targets)


def test_predictions(detector: Detector) -> None:
    torch.manual_seed(1)
    images = torch.randn(2, 3, *SIZE, dtype=torch.float64)
    detector.eval()
    theirs = with_weights_of(detector).eval()
    with torch.no_grad():
        levels = theirs.backbone(images)
        proposals, _ = theirs.rpn(ImageList(images, [SIZE] * 2), levels)
        expected, _ = theirs.roi_heads(levels, proposals, [SIZE] * 2)
        ours = detector._detections(list(levels.values()), proposals, [SIZE] * 2)
        masks = detector._masks(list(levels.values()), ours)
    for one, other in zip(detector.predict(images), ours, strict=True):
        close(one.boxes, other.boxes)
    for one, mask, result in zip(ours, masks, expected, strict=True):
        assert len(one) > 10
        assert one.labels.unique().numel() > 1
        assert torch.equal(one.labels + 1, result["labels"])
        torch.testing.assert_close(one.scores, result["scores"])
        torch.testing.assert_close(one.boxes, result["boxes"])
        torch.testing.assert_close(mask, result["masks"][:, 0])


def test_losses_and_gradients(detector: Detector) -> None:
    """Both draw their samples in the same order from torch's generator."""
    torch.manual_seed(2)
    images = torch.randn(2, 3, *SIZE, dtype=torch.float64)
    boxes = [[10, 20, 90, 80], [100, 30, 130, 110], [60, 60, 180, 120], [5, 5, 25, 17]]
    targets = [annotated(boxes[:3], [0, 2, 1], SIZE), annotated(boxes[2:], [1, 1], SIZE)]
    theirs = with_weights_of(detector).train()
    theirs_targets = [
        {"boxes": t.boxes.double(), "labels": t.labels + 1, "masks": t.masks.byte()}
        for t in targets
    ]
    torch.manual_seed(3)
    levels = theirs.backbone(images)
    proposals, expected = theirs.rpn(ImageList(images, [SIZE] * 2), levels, theirs_targets)
    expected |= theirs.roi_heads(levels, proposals, [SIZE] * 2, theirs_targets)[1]
    torch.manual_seed(3)
    losses = detector.losses(images, targets)
    for name, (value, weight) in losses.items():
        close(value.sum() / weight.sum(), expected[NAMES[name]])
    total(losses).backward()
    ours = detector.fpn.output[0].weight.grad.clone()
    detector.fpn.zero_grad()
    sum(expected.values()).backward()
    close(ours, detector.fpn.output[0].weight.grad)


def close(ours: Tensor, theirs: Tensor) -> None:
    """Equal but for anchors in float32."""
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4, check_dtype=False)
