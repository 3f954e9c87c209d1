"""Anchors, matching, sampling and the crops of masks: cases computed by hand."""

import torch
from torch import Tensor

from archsearch.heads.masks import cropped, pasted
from archsearch.heads.matching import Target, matched, sampled
from archsearch.heads.rpn import anchors_of
from tests.heads.small import annotated, rectangles

CPU = torch.device("cpu")


def test_anchors_are_those_computed_by_hand() -> None:
    anchors = anchors_of((2, 3), 4, 8, CPU).view(2, 3, 3, 4)
    square, wide = anchors[1, 2, 1], anchors[1, 2, 0]
    assert square.tolist() == [8 - 16, 4 - 16, 8 + 16, 4 + 16]
    torch.testing.assert_close(wide[2:] - wide[:2], torch.tensor([32 * 2**0.5, 32 / 2**0.5]))
    torch.testing.assert_close(anchors[0, 0, 2, 2:], torch.tensor([16 / 2**0.5, 16 * 2**0.5]))


def overlapping(*parts: float) -> Tensor:
    """Boxes whose IoU with (0, 0, 10, 1) are these parts."""
    return torch.tensor([[0.0, 0, 10 * part, 1] for part in parts]).view(-1, 4)


def test_boxes_between_the_thresholds_are_ignored() -> None:
    target = Target.of(annotated([[0, 0, 10, 1]], [2]))
    matches = matched(overlapping(0.8, 0.7, 0.5, 0.3, 0.2), target, 0.7, 0.3)
    assert matches.positive.tolist() == [True, True, False, False, False]
    assert matches.negative.tolist() == [False, False, False, False, True]


def test_the_best_boxes_of_every_object_may_be_positive() -> None:
    target = Target.of(annotated([[0, 0, 10, 1], [20, 0, 30, 1]], [2, 1]))
    boxes = torch.cat((overlapping(0.2, 0.1, 0.2), torch.tensor([[40.0, 0, 50, 1]])))
    matches = matched(boxes, target, 0.7, 0.3, every_object=True)
    # no box overlaps the second object, so none learns it
    assert matches.positive.tolist() == [True, False, True, False]
    assert matches.negative.tolist() == [False, True, False, True]
    assert matches.index[matches.positive].tolist() == [0, 0]


def test_boxes_in_a_crowd_are_no_negatives_and_learn_nothing() -> None:
    boxes = [[0, 0, 10, 1], [20, 0, 40, 20]]
    target = Target.of(annotated(boxes, [2, 1], crowd=[False, True]))
    assert len(target.objects) == 1
    candidates = torch.tensor([[0.0, 0, 10, 1], [22, 2, 30, 10], [12, 0, 22, 9], [20, 0, 40, 20]])
    matches = matched(candidates, target, 0.5, 0.5)
    assert matches.positive.tolist() == [True, False, False, False]
    assert matches.negative.tolist() == [False, False, True, False]


def test_without_objects_all_boxes_are_negative() -> None:
    for boxes in ([], [[3, 3, 3, 9]]):
        target = Target.of(annotated(boxes, [0] * len(boxes)))
        matches = matched(overlapping(0.5, 1), target, 0.5, 0.5, every_object=True)
        assert matches.negative.all()
        assert len(target.objects) == 0
        assert not matches.positive.any()
    assert len(matched(overlapping(), target, 0.5, 0.5, every_object=True).index) == 0


def test_a_sample_has_at_most_its_part_of_positives_and_is_filled_with_negatives() -> None:
    target = Target.of(annotated([[0, 0, 10, 1]], [2]))
    matches = matched(overlapping(*[0.9] * 6, *[0.1] * 20), target, 0.5, 0.5)
    torch.manual_seed(0)
    positive, negative = sampled(matches, 10, 0.25)
    assert len(positive) == 2
    assert len(negative) == len(negative.unique()) == 8
    assert set(positive.tolist()) < set(range(6))
    assert set(negative.tolist()) < set(range(6, 26))
    torch.manual_seed(0)
    assert torch.equal(sampled(matches, 10, 0.25)[1], negative)
    assert [len(part) for part in sampled(matches, 60, 0.25)] == [6, 20]


def test_a_bin_is_in_the_target_if_half_of_its_area_is_covered() -> None:
    masks = rectangles([[0, 0, 3, 4], [2, 0, 4, 4]], 4, 4)
    boxes = torch.tensor([[0.0, 0, 4, 4], [0.0, 0, 4, 4], [0.6, 0, 4.6, 4]])
    crops = cropped(masks, torch.tensor([0, 1, 0]), boxes, 2)
    assert crops.tolist() == [[[1, 1], [1, 1]], [[0, 1], [0, 1]], [[1, 0], [1, 0]]]


def test_targets_equal_a_count_of_small_parts() -> None:
    torch.manual_seed(0)
    masks = torch.rand(2, 7, 9) > 0.5
    corner = torch.rand(12, 2) * 7 - 1
    boxes = torch.cat((corner, corner + torch.rand(12, 2) * 6 + 0.2), 1)
    index = torch.randint(0, 2, (12,))
    for box, mask, crop in zip(boxes, masks[index], cropped(masks, index, boxes, 3), strict=True):
        part = covered(mask, box, 3)
        clear = (part - 0.5).abs() > 0.01
        assert clear.sum() > 4
        assert torch.equal(crop[clear], (part > 0.5)[clear].float())


def covered(mask: Tensor, box: Tensor, side: int, parts: int = 100) -> Tensor:
    """The part of each bin in the mask, from ``parts`` points per axis and bin."""
    steps = (torch.arange(side * parts) + 0.5) / (side * parts)
    x, y = (box[i] + (box[i + 2] - box[i]) * steps for i in (0, 1))
    height, width = mask.shape
    inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))
    rows, columns = y.long().clamp(0, height - 1), x.long().clamp(0, width - 1)
    points = mask[rows][:, columns] & inside
    return points.float().view(side, parts, side, parts).mean((1, 3))


def test_a_mask_is_pasted_into_its_box() -> None:
    masks = torch.zeros(9, 4, 4)
    masks[:, :, 2:] = 1
    boxes = torch.tensor([[8.0, 2, 24, 10]]).repeat(9, 1)
    images = pasted(masks, boxes, (12, 30))
    expected = rectangles([[16, 2, 24, 10]], 12, 30)[0]
    # the probability falls to a half at the border of the box, and below it in its corners
    wrong = (images != expected).sum((1, 2))
    assert (wrong <= 6).all()
    assert not (images & ~expected).any()
    assert pasted(masks[:0], boxes[:0], (12, 30)).shape == (0, 12, 30)


def test_a_cropped_mask_is_pasted_back() -> None:
    y, x = torch.meshgrid(torch.arange(60), torch.arange(80), indexing="ij")
    disk = ((y - 30) ** 2 + (x - 40) ** 2 < 20**2)[None]
    box = torch.tensor([[19.0, 9, 61, 51]])
    back = pasted(cropped(disk, torch.tensor([0]), box, 28), box, (60, 80))
    assert (back ^ disk).sum() < 0.05 * disk.sum()
