"""Boxes: overlaps, deltas and suppression of cases that can be computed by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from archsearch.heads import boxes as b
from archsearch.heads import nms
from archsearch.heads.nms import grouped_nms, plain_nms

UNIT = (1.0, 1.0, 1.0, 1.0)


def test_overlaps_are_those_computed_by_hand() -> None:
    first = torch.tensor([[0.0, 0, 4, 2], [5, 5, 5, 9]])
    second = torch.tensor([[2.0, 0, 6, 2], [4, 0, 8, 2], [5, 5, 5, 9], [0, 0, 4, 2]])
    assert b.iou(first, second).tolist() == [[pytest.approx(4 / 12), 0, 0, 1], [0, 0, 0, 0]]
    assert b.coverage(first, second).tolist() == [[0.5, 0, 0, 1], [0, 0, 0, 0]]
    assert b.iou(first, second[:0]).shape == (2, 0)


def test_generalized_iou_is_negative_for_boxes_apart() -> None:
    first = torch.tensor([[0.0, 0, 2, 2], [0, 0, 4, 2], [0, 0, 4, 2]])
    second = torch.tensor([[4.0, 0, 6, 2], [0, 0, 4, 2], [2, 0, 6, 2]])
    # the hull of the first pair is 6x2, of which 4 pixels are in neither
    assert b.generalized_iou(first, second).tolist() == pytest.approx([-4 / 12, 1, 4 / 12])


def test_deltas_are_those_computed_by_hand() -> None:
    anchor, box = torch.tensor([10.0, 20, 20, 60]), torch.tensor([15.0, 30, 35, 50])
    deltas = b.encoded(box, anchor, (10, 10, 5, 5))
    # center (15, 40) to (25, 40), sides (10, 40) to (20, 20)
    assert deltas.tolist() == pytest.approx([10, 0, 5 * math.log(2), 5 * math.log(0.5)])
    torch.testing.assert_close(b.decoded(deltas, anchor, (10, 10, 5, 5)), box)


def test_a_decoded_side_grows_at_most_by_the_limit() -> None:
    box = b.decoded(torch.tensor([[0.0, 0, 99, -99]]), torch.tensor([[0.0, 0, 4, 4]]), UNIT)
    assert (box[0, 2] - box[0, 0]).item() == pytest.approx(4 * 1000 / 16)
    assert (box[0, 3] - box[0, 1]).item() == pytest.approx(0)


def test_boxes_of_every_class_are_decoded_from_one_anchor() -> None:
    deltas, anchors = torch.randn(3, 5, 4), torch.tensor([[0.0, 0, 4, 4]]).expand(3, 4)
    boxes = b.decoded(deltas, anchors[:, None], UNIT)
    assert boxes.shape == (3, 5, 4)
    torch.testing.assert_close(boxes[1, 2], b.decoded(deltas[1, 2], anchors[1], UNIT))


def test_boxes_are_cut_at_the_borders_of_the_image() -> None:
    boxes = torch.tensor([[-3.0, 1, 99, 5], [2, -8, 3, 99]])
    assert b.clipped(boxes, (6, 9)).tolist() == [[0, 1, 9, 5], [2, 0, 3, 6]]


def test_boxes_without_area_or_numbers_are_empty() -> None:
    boxes = [[0.0, 0, 1, 1], [0, 0, 0, 1], [2, 0, 1, 1], [0, 0, 1, math.nan]]
    assert b.is_empty(torch.tensor(boxes)).tolist() == [False, True, True, True]


def test_suppression_keeps_a_box_whose_suppressor_is_suppressed() -> None:
    """The third overlaps only the second, which the first suppresses."""
    boxes = torch.tensor([[0.0, 0, 10, 1], [4, 0, 14, 1], [8, 0, 18, 1], [0, 5, 1, 6]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.95])
    assert plain_nms(boxes, scores, 0.4).tolist() == [3, 0, 2]
    assert plain_nms(boxes, scores, 0.5).tolist() == [3, 0, 1, 2]
    assert plain_nms(boxes[:0], scores[:0], 0.5).tolist() == []


def test_groups_do_not_suppress_each_other() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4]]).repeat(4, 1)
    scores, groups = torch.tensor([0.1, 0.4, 0.3, 0.2]), torch.tensor([7, 7, 2, 2])
    assert grouped_nms(boxes, scores, groups, 0.5).tolist() == [1, 2]
    assert grouped_nms(boxes[:0], scores[:0], groups[:0], 0.5).tolist() == []


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), num=st.integers(0, 60), threshold=st.sampled_from([0.1, 0.5]))
def test_suppression_equals_a_loop_over_the_boxes(seed: int, num: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 12, (num, 2), generator=generator)
    boxes = torch.cat((corner, corner + torch.randint(1, 9, (num, 2), generator=generator)), 1)
    scores = torch.randint(0, 20, (num,), generator=generator) / 20  # with ties
    kept = kept_in_a_loop(boxes.double(), scores, threshold)
    for block in (7, nms.BLOCK):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nms, "BLOCK", block)
            assert plain_nms(boxes.double(), scores, threshold).tolist() == kept


def kept_in_a_loop(boxes: Tensor, scores: Tensor, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i].item()):
        overlaps = b.iou(boxes[i, None], boxes[kept])[0]
        if not (overlaps > threshold).any():
            kept.append(i)
    return kept
