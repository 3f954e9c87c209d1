"""Detectors train in the loop: the loss falls, resuming changes nothing, and parts add up."""

from dataclasses import replace

import pytest
import torch

from archsearch.core.interrupted import Interrupted
from archsearch.core.recipes import QUICK
from archsearch.families.convnext import ConvNeXt
from archsearch.families.internimage import Variant
from archsearch.families.vit import ViT
from archsearch.heads import matching
from archsearch.heads.matching import Target
from archsearch.running.train_trial import train_trial, training_of
from archsearch.scenes import predicted
from archsearch.scenes.pasted import HEIGHT, WIDTH
from archsearch.storage.trial_folder import PREDICTIONS
from archsearch.study import Trial
from archsearch.tasks import task_from_dict
from archsearch.tasks.detection import Detection
from archsearch.training.device import settings
from archsearch.training.process_group import SINGLE_PROCESS
from archsearch.training.step import backward_in_parts, take_step
from tests.heads.small import annotated
from tests.tasks.annotated import TINY, equal_numbers, folder_of

RECIPE = replace(
    QUICK, name="tiny", epochs=1, batch_size=4, image_size=16, lr=2e-3, warmup_epochs=0,
    val_fraction=0.25,
)  # fmt: skip
"""Images of 16x20 pixels, padded to 32x32: almost all anchors are in the sample."""
DATA = "pasted:images=10"
TWO_STAGE = ("mask-rcnn", "cascade-mask-rcnn")


def training(task, variant=TINY, **changes):
    recipe = replace(RECIPE, **changes)
    trial = Trial(variant, recipe, task.describe(DATA, recipe), 0, task)
    return training_of(trial, torch.device("cpu"))


@pytest.mark.parametrize("head", TWO_STAGE)
def test_steps_on_one_batch_lower_the_loss(head):
    one = training(Detection(head, width=8), lr=1e-2, epochs=10)
    batch = next(one.remaining_batches())
    losses = []
    with settings(one.recipe, one.device):
        for _ in range(5):
            before = float(one.sums[0])
            take_step(one, batch)
            losses.append(float(one.sums[0]) - before)
    assert losses[-1] < 0.9 * losses[0]


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path):
    task = Detection(width=8)
    once, resumed = (folder_of(tmp_path / name, task, RECIPE, DATA) for name in ("once", "resumed"))
    train_trial(once.path, "cpu")
    with pytest.raises(Interrupted):
        train_trial(resumed.path, "cpu", iter([False, True]).__next__)
    train_trial(resumed.path, "cpu")
    equal_numbers(once, resumed)
    (image, second), classes = predicted.read(once.path / PREDICTIONS)
    assert image.objects.masks.shape[1:] == image.scene.size == (HEIGHT, WIDTH)
    assert len(image.scores) == len(image.objects)
    assert second.scene.objects is not None
    assert classes == tuple("0123456789")
    metrics = once.record().metrics
    assert {"val_box_ap", "test_mask_ap50", "best_val_box_ap"} <= metrics.keys()
    assert 0 <= metrics["test_mask_ap"] <= 100


def test_a_batch_in_two_parts_has_the_gradient_of_the_whole(monkeypatch):
    """Losses are means within an image, so no part needs to know the boxes of another."""
    monkeypatch.setattr(matching, "_drawn", lambda members, most: members.nonzero()[:most, 0])
    one = training(Detection(width=8))
    batch = one.splits.augmented(next(one.remaining_batches()))
    gradients = []
    for micro_batch in (4, 2):
        one.progress.micro_batch = micro_batch
        one.optimizer.zero_grad()
        with settings(one.recipe, one.device):
            loss = backward_in_parts(one, batch, len(batch[1]))
        gradients.append([loss, *(p.grad.clone() for p in one.model.parameters())])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-5, check_dtype=False)


def test_anchors_and_sampled_boxes_are_those_of_the_recipe():
    recipe = replace(RECIPE, anchor_scale=3, sampled_boxes=8)
    for head in TWO_STAGE:
        task = Detection(head, width=8)
        detector = task.build(TINY, task.describe(DATA, recipe), recipe)
        assert detector.rpn.scale == 3
        assert {stage.num_sampled for stage in detector.stages} == {8}
    sample = detector.stages[0].sample(torch.rand(30, 4).cumsum(1), Target.of(annotated([], [])))
    assert len(sample.boxes) == 8


def test_the_cost_is_that_of_the_published_heads():
    """269.294 G multiply-adds of Table 3's T at 1280x800, with 1000 proposals and 100 masks."""
    task = Detection()
    data = replace(task.describe(DATA, RECIPE), num_classes=80)
    cost = task.cost(Variant(64, 16, 4, 18), data, 800, 1280)
    assert (cost.params, round(cost.macs / 1e6)) == (48_905_696, 269_294)


def test_families_without_four_maps_and_wrong_options_are_refused():
    task = Detection(width=8)
    assert task.build(ConvNeXt(8, 1, 1), task.describe(DATA, RECIPE), RECIPE)
    with pytest.raises(ValueError, match="ViT gives no four maps at strides 4, 8, 16 and 32"):
        task.build(ViT.named()["Ti"], task.describe(DATA, RECIPE), RECIPE)
    with pytest.raises(ValueError, match=r"head must be mask-rcnn or .*; width must be a whole"):
        Detection("yolo", width=0)
    assert task_from_dict(task.to_dict()) == task


def test_nothing_is_measured_where_nothing_is_annotated():
    one = training(Detection(width=8))
    images, (target,) = one.splits.plain(next(one.splits.read([torch.tensor([0])])))
    objects = target.original.objects[target.original.objects.labels < 0]
    empty = [replace(target, original=replace(target.original, objects=objects))]
    assert one.task.measure(one.model.eval(), [(images, empty)], SINGLE_PROCESS) is None
