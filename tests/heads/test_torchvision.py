"""The heads' operations equal torchvision's, where it imports."""

import pytest
import torch
from torch import Tensor

from archsearch.heads import boxes as b
from archsearch.heads.nms import chosen_nms, grouped_nms, plain_nms
from archsearch.heads.roi_align import levels_of, roi_align
from archsearch.heads.rpn import anchors_of

torchvision = pytest.importorskip("torchvision")

CPU = torch.device("cpu")


def random_boxes(num: int, largest: int = 60) -> Tensor:
    corner = torch.rand(num, 2) * 100 - 5
    return torch.cat((corner, corner + torch.rand(num, 2) * largest + 0.5), 1)


def test_roi_align_and_its_gradient() -> None:
    torch.manual_seed(0)
    level = torch.randn(2, 8, 24, 31, requires_grad=True)
    boxes = [random_boxes(40), random_boxes(30)]
    ours = roi_align([level], [4], boxes, 7)
    theirs = torchvision.ops.roi_align(level, boxes, 7, 1 / 4, 2, aligned=True)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    weights = torch.randn_like(ours)
    gradients = [torch.autograd.grad((x * weights).sum(), level)[0] for x in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=0, atol=5e-5)


def test_levels() -> None:
    boxes = random_boxes(500, largest=900)
    mapper = torchvision.ops.poolers.LevelMapper(2, 5)
    assert torch.equal(levels_of(boxes, 4), mapper([boxes]))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_suppression(threshold: float) -> None:
    torch.manual_seed(1)
    boxes, scores, groups = random_boxes(400), torch.rand(400), torch.randint(0, 5, (400,))
    assert chosen_nms() is torchvision.ops.nms
    assert torch.equal(
        plain_nms(boxes, scores, threshold), torchvision.ops.nms(boxes, scores, threshold)
    )
    assert torch.equal(
        grouped_nms(boxes, scores, groups, threshold),
        torchvision.ops.batched_nms(boxes, scores, groups, threshold),
    )


def test_deltas_and_overlaps() -> None:
    torch.manual_seed(2)
    first, second, weights = random_boxes(50), random_boxes(50), (10.0, 10.0, 5.0, 5.0)
    coder = torchvision.models.detection._utils.BoxCoder(weights)
    deltas = coder.encode_single(first, second)
    torch.testing.assert_close(b.encoded(first, second, weights), deltas, rtol=1e-5, atol=1e-5)
    wild = 20 * torch.randn(50, 4)
    torch.testing.assert_close(
        b.decoded(wild, second, weights), coder.decode_single(wild, second), rtol=1e-5, atol=1e-3
    )
    torch.testing.assert_close(b.iou(first, second), torchvision.ops.box_iou(first, second))
    pairs = torchvision.ops.generalized_box_iou(first, second).diagonal()
    torch.testing.assert_close(b.generalized_iou(first, second), pairs)


def test_anchors() -> None:
    """But for torchvision's rounding of the anchors of the first position to whole pixels."""
    generator = torchvision.models.detection.anchor_utils.AnchorGenerator(((32,),), ((0.5, 1, 2),))
    first = anchors_of((1, 1), 4, 8, CPU)
    assert torch.equal(generator.cell_anchors[0], first.round())
    generator.cell_anchors = [first]
    strides = [[torch.tensor(4), torch.tensor(4)]]
    (anchors,) = generator.grid_anchors([(3, 5)], strides)
    torch.testing.assert_close(anchors, anchors_of((3, 5), 4, 8, CPU))
