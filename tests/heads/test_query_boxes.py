"""Boxes of queries, their noise and their losses, by hand and against transformers'."""

import math

import pytest
import torch

from archsearch.heads.denoising import MATCHED, PADDING, attention_mask, noisy
from archsearch.heads.query_boxes import (
    centered,
    corners,
    in_parts,
    logits,
    sines,
    token_boxes,
)
from archsearch.heads.set_losses import Objects, Prediction, assigned, focal_loss, set_losses


def test_corners_and_parts() -> None:
    boxes = torch.tensor([[10.0, 20.0, 50.0, 40.0]])
    parts = in_parts(boxes, (80, 100))
    torch.testing.assert_close(parts, torch.tensor([[0.3, 0.375, 0.4, 0.25]]))
    torch.testing.assert_close(centered(corners(parts)), parts)
    torch.testing.assert_close(logits(parts).sigmoid(), parts)
    assert logits(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([-11.513, 11.513], abs=0.01)


def test_sines_begin_with_those_of_the_full_circle() -> None:
    values = sines(torch.tensor([[0.25, 0.5, 0.0, 1.0]]), 8)
    assert values.shape == (1, 16)
    assert values[0, :4].tolist() == pytest.approx(
        [1, 0, math.sin(math.pi / 200), math.cos(math.pi / 200)], abs=1e-6
    )
    assert values[0, 4:6].tolist() == pytest.approx([0, -1], abs=1e-6)


def test_boxes_of_positions() -> None:
    """A level of 2x4 positions, of which two columns are padding, and one of 1x2."""
    valid = torch.tensor([[[1, 1, 0, 0], [1, 1, 0, 0]]]).bool().flatten(1)
    found, is_inside = token_boxes(torch.cat((valid, valid[:, :2]), 1), [(2, 4), (1, 2)])
    assert is_inside.tolist() == [[True, True, False, False] * 2 + [True, True]]
    boxes = found.sigmoid()[0]
    torch.testing.assert_close(boxes[5], torch.tensor([0.75, 0.75, 0.05, 0.05]))
    torch.testing.assert_close(boxes[8], torch.tensor([0.25, 0.5, 0.1, 0.1]))


def test_noise_moves_corners_by_half_a_side_and_flips_labels() -> None:
    torch.manual_seed(0)
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.1], [0.4, 0.6, 0.1, 0.3], [0.5, 0.4, 0.2, 0.2]])
    noise = noisy(torch.tensor([1, 4, 4]), boxes, 50)
    assert len(noise.labels) == 33 * 3 * 2
    assert noise.group.unique().tolist() == list(range(1, 34))
    assert noise.positive.sum() == 99
    moved = (corners(noise.boxes) - corners(boxes[noise.index])).abs()
    halves = moved / boxes[noise.index, 2:].repeat(1, 2) * 2
    assert 0.9 < halves[noise.positive].max() < 1
    assert 1 < halves[~noise.positive].min() < 1.1
    assert 1.9 < halves[~noise.positive].max() < 2
    wrong = noise.labels != torch.tensor([1, 4, 4])[noise.index]
    assert wrong.float().mean().item() == pytest.approx(0.25, abs=0.08)
    assert torch.equal(noise.index[:6], torch.tensor([0, 1, 2, 0, 1, 2]))
    assert noise.positive[:6].tolist() == [True] * 3 + [False] * 3
    assert len(noisy(torch.zeros(0).long(), torch.zeros(0, 4), 50).labels) == 0
    assert len(noisy(torch.zeros(150).long(), torch.rand(150, 4), 50).labels) == 300


def test_groups_do_not_see_each_other_and_are_not_seen() -> None:
    groups = torch.tensor([[1, 1, 2, 2, PADDING, MATCHED, MATCHED]])
    wanted = [
        [1, 1, 0, 0, 0, 1, 1], [1, 1, 0, 0, 0, 1, 1],
        [0, 0, 1, 1, 0, 1, 1], [0, 0, 1, 1, 0, 1, 1],
        [0, 0, 0, 0, 1, 1, 1],
        [0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1, 1],
    ]  # fmt: skip
    assert attention_mask(groups)[0, 0].int().tolist() == wanted


def test_each_object_gets_the_nearest_prediction_of_its_class() -> None:
    objects = Objects(
        torch.tensor([1, 0]), torch.tensor([[0.2, 0.2, 0.1, 0.1], [0.8] * 2 + [0.2] * 2])
    )
    boxes = torch.stack([objects.boxes[1], objects.boxes[0], objects.boxes[0]])
    classes = torch.tensor([[3.0, -3.0], [3.0, -3.0], [-3.0, 3.0]])
    rows, columns = assigned(classes, boxes, objects)
    assert dict(zip(columns.tolist(), rows.tolist(), strict=True)) == {0: 2, 1: 0}
    losses = set_losses(Prediction(classes[None], boxes[None]), [objects])
    wanted = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    assert losses["classes"][0].item() == pytest.approx(focal_loss(classes, wanted).sum().item())
    assert losses["boxes"][0].item() == pytest.approx(0)
    assert losses["overlaps"][0].item() == pytest.approx(0, abs=1e-5)
    assert [weight.item() for _, weight in losses.values()] == [2, 2, 2]


def test_the_focal_loss_by_its_formula() -> None:
    p = 1 / (1 + math.exp(-2))
    got = focal_loss(torch.tensor([2.0, 2.0]), torch.tensor([1.0, 0.0])).tolist()
    assert got == pytest.approx(
        [-0.25 * (1 - p) ** 2 * math.log(p), -0.75 * p**2 * math.log(1 - p)], rel=1e-5
    )


def test_losses_equal_those_of_transformers() -> None:
    """Of one image; theirs has means over the objects."""
    pytest.importorskip("transformers")
    from transformers import DeformableDetrConfig
    from transformers.loss.loss_deformable_detr import DeformableDetrForObjectDetectionLoss

    torch.manual_seed(0)
    classes, boxes = torch.randn(1, 12, 4), torch.rand(1, 12, 4) * 0.5 + 0.2
    objects = Objects(torch.tensor([3, 0, 1]), torch.rand(3, 4) * 0.3 + 0.3)
    config = DeformableDetrConfig(
        use_timm_backbone=False, num_labels=4, class_cost=2, auxiliary_loss=False
    )
    labels = [{"class_labels": objects.labels, "boxes": objects.boxes}]
    wanted, _, _ = DeformableDetrForObjectDetectionLoss(
        classes, labels, torch.device("cpu"), boxes, config
    )
    losses = set_losses(Prediction(classes, boxes), [objects])
    torch.testing.assert_close(sum(value.sum() / 3 for value, _ in losses.values()), wanted)
