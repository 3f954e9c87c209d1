"""The proposals and losses of constant predictions, computed by hand."""

import math

import pytest
import torch

from archsearch.heads.boxes import clipped, encoded
from archsearch.heads.fpn import LEVEL_STRIDES
from archsearch.heads.matching import Target
from archsearch.heads.rpn import CODER, RPN, Predictions
from tests.heads.small import annotated

SIZE = (64, 96)
LEVELS = [torch.zeros(2, 4, -(-SIZE[0] // s), -(-SIZE[1] // s)) for s in LEVEL_STRIDES]


def constant_rpn(*logits: float) -> RPN:
    """An RPN that gives every position these logits of the three ratios, and no deltas."""
    rpn = RPN(4, scale=4)
    for parameter in rpn.parameters():
        torch.nn.init.zeros_(parameter)
    rpn.logits.bias.data.copy_(torch.tensor(logits))
    return rpn


def test_predictions_are_in_the_order_of_the_anchors() -> None:
    rpn = RPN(4)
    levels = [torch.randn_like(level) for level in LEVELS]
    predictions = rpn(levels)
    hidden = rpn.conv(levels[1]).relu()
    index = (5 * levels[1].shape[3] + 7) * 3 + 2  # row 5, column 7, the third ratio
    expected = rpn.deltas(hidden)[1, 8:12, 5, 7]
    torch.testing.assert_close(predictions.deltas[1][1, index], expected)
    torch.testing.assert_close(predictions.logits[1][1, index], rpn.logits(hidden)[1, 2, 5, 7])
    x1, y1, x2, y2 = predictions.anchors[1][index].tolist()
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((7 * 8, 5 * 8))


def test_proposals_are_the_anchors_of_highest_logit_without_overlaps() -> None:
    rpn = constant_rpn(-1, 3, -2)
    predictions = rpn(LEVELS)
    for logits in predictions.logits[:4]:
        logits -= 10
    first, second = rpn.proposals(predictions, [SIZE, (20, 30)])
    # at stride 64 two positions have squares of 256 pixels; cut at the border they overlap
    anchors = predictions.anchors[4]
    assert len(anchors) == 2 * 3
    torch.testing.assert_close(first[0], clipped(anchors[1], SIZE))
    assert (second <= torch.tensor([30, 20, 30, 20])).all()
    assert len(second) < len(first) <= 1000


def test_boxes_that_are_no_numbers_are_not_proposed() -> None:
    rpn = constant_rpn(0, 0, 0)
    predictions = rpn(LEVELS)
    broken = [deltas * torch.nan for deltas in predictions.deltas]
    predictions = Predictions(predictions.logits, broken, predictions.anchors)
    assert [len(boxes) for boxes in rpn.proposals(predictions, [SIZE] * 2)] == [0, 0]


@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_losses_are_those_computed_by_hand(beta: float) -> None:
    rpn = constant_rpn(0, 0, 0)
    rpn.beta = beta
    predictions = rpn(LEVELS)
    anchor = predictions.anchors[1][(2 * 12 + 3) * 3 + 1]  # 32x32 at (24, 16), all in the image
    moved = (anchor + 4).tolist()
    target = Target.of(annotated([moved], [0], SIZE))
    none = Target.of(annotated([], [], SIZE))
    losses = rpn.losses(predictions, [target, none])
    value, weight = losses["rpn_objects"]
    assert weight.sum().item() == 512
    assert value.sum().item() == pytest.approx(512 * math.log(2), rel=1e-5)
    differences = encoded(torch.tensor(moved), anchor, CODER).abs()
    expected = differences.sum() if beta == 0 else (differences**2).sum() / (2 * beta)
    # the four anchors around overlap most and equally, by 28x28 pixels: an IoU of 0.62
    torch.testing.assert_close(losses["rpn_boxes"][0].sum(), 4 * expected)
