"""Segmenters train in the loop: the loss falls, resuming changes nothing, and parts add up."""

from dataclasses import replace

import pytest
import torch

from archsearch.core.interrupted import Interrupted
from archsearch.core.recipes import QUICK
from archsearch.heads import upernet_model
from archsearch.running.train_trial import train_trial, training_of
from archsearch.scenes.views import SegmentationView
from archsearch.study import Trial
from archsearch.tasks import task_from_dict
from archsearch.tasks.annotated import of_one_size
from archsearch.tasks.recipes import SEGMENTATION_RECIPES
from archsearch.tasks.segmentation import Segmentation
from archsearch.training.device import settings
from archsearch.training.process_group import SINGLE_PROCESS
from archsearch.training.step import backward_in_parts, take_step
from tests.tasks.annotated import TINY, equal_numbers, folder_of

RECIPE = replace(
    QUICK, name="tiny", epochs=1, batch_size=4, image_size=32, lr=2e-3, warmup_epochs=0,
    val_fraction=0.25,
)  # fmt: skip
DATA = "pasted:images=10"
TASK = Segmentation(width=8)


def training(**changes):
    recipe = replace(RECIPE, **changes)
    trial = Trial(TINY, recipe, TASK.describe(DATA, recipe), 0, TASK)
    return training_of(trial, torch.device("cpu"))


def test_steps_on_one_batch_lower_the_loss():
    one = training(lr=1e-2, epochs=10)
    batch = next(one.remaining_batches())
    losses = []
    with settings(one.recipe, one.device):
        for _ in range(5):
            before = float(one.sums[0])
            take_step(one, batch)
            losses.append(float(one.sums[0]) - before)
    assert losses[-1] < 0.9 * losses[0]


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path):
    once, resumed = (folder_of(tmp_path / name, TASK, RECIPE, DATA) for name in ("once", "resumed"))
    train_trial(once.path, "cpu")
    with pytest.raises(Interrupted):
        train_trial(resumed.path, "cpu", iter([False, True]).__next__)
    train_trial(resumed.path, "cpu")
    equal_numbers(once, resumed)
    metrics = once.record().metrics
    assert {"val_miou", "test_pixel_accuracy", "best_val_miou"} <= metrics.keys()
    assert 0 < metrics["test_miou"] < metrics["test_pixel_accuracy"] <= 100


def test_a_batch_in_two_parts_has_the_gradient_of_the_whole():
    """The mean is over the labeled pixels of both; BatchNorm uses stored statistics here."""
    one = training()
    images, targets = one.splits.augmented(next(one.remaining_batches()))
    targets[0].label_map[:20] = upernet_model.IGNORED  # so that the parts differ in pixels
    one.model.eval()
    gradients = []
    for micro_batch in (4, 2):
        one.progress.micro_batch = micro_batch
        one.optimizer.zero_grad()
        with settings(one.recipe, one.device):
            loss = backward_in_parts(one, (images, targets), len(targets))
        gradients.append([loss, *(p.grad.clone() for p in one.model.parameters())])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-5, check_dtype=False)


def test_a_batch_without_labels_changes_nothing():
    one = training()
    images, targets = one.splits.augmented(next(one.remaining_batches()))
    for target in targets:
        target.label_map[:] = upernet_model.IGNORED
    with settings(one.recipe, one.device):
        assert backward_in_parts(one, (images, targets), len(targets)) == 0
    assert all(p.grad is None or not p.grad.any() for p in one.model.parameters())


class WithoutDropout(Segmentation):
    """UperNet without dropout, which every process draws on its own."""

    def with_head(self, backbone, num_classes):
        network = super().with_head(backbone, num_classes)
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout2d):
                module.p = 0.0
        return network


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """BatchNorm and the mean over the labeled pixels are over the images of both."""
    task, recipe = WithoutDropout(width=8), replace(RECIPE, epochs=2)
    one, two = (folder_of(tmp_path / name, task, recipe, DATA) for name in ("one", "two"))
    train_trial(one.path, "cpu")
    train_trial(two.path, "cpu*2")
    equal_numbers(one, two, rel=1e-3)


def test_the_measure_does_not_depend_on_the_images_beside():
    """Images of other sizes would pad each other, and pooling is over the padding too."""
    one = training()
    batch = one.splits.plain(next(one.splits.read([torch.arange(2)])))
    narrow = one.splits.plain(next(one.splits.read([torch.arange(2)])))
    narrow[1][1] = replace(narrow[1][1], size=(32, 24))
    assert [images.shape for images, _ in of_one_size(batch)] == [(2, 3, 32, 64)]
    assert [images.shape[2:] for images, _ in of_one_size(narrow)] == [(32, 64), (32, 32)]
    with torch.inference_mode():
        both = TASK.measure(one.model.eval(), [batch], SINGLE_PROCESS)
        parts = one.splits.parts(batch, 2)
        assert TASK.measure(one.model, parts, SINGLE_PROCESS) == pytest.approx(both)
        assert TASK.measure(one.model, [], SINGLE_PROCESS) is None


def test_the_recipe_decides_how_images_are_augmented():
    """The quick one cuts squares only, so that digits keep their sides and colors."""
    published = SEGMENTATION_RECIPES["upernet-160k"]
    assert TASK.view(published) == SegmentationView(512, 512, 2048, (0.5, 2.0), distort=True)
    quick = SEGMENTATION_RECIPES["quick-segment"]
    plain = SegmentationView(128, 128, 512, (1.0, 1.0), distort=False, flip=False)
    assert TASK.view(quick) == plain
    assert TASK.view(replace(quick, crop="resized")).ratios == (0.5, 2.0)
    assert TASK.view(replace(quick, color_jitter=0.5)).distort


def test_the_cost_is_that_of_the_published_head():
    """UperNet on Table 5's T: 59,062,300 parameters, 943.966 G multiply-adds at 512x2048."""
    data = replace(TASK.describe(DATA, RECIPE), num_classes=150)
    cost = Segmentation().cost(TINY.parse("T"), data, 512, 2048)
    assert (cost.params, round(cost.macs / 1e6)) == (59_062_300, 943_966)
    with pytest.raises(ValueError, match="head must be upernet or mask2former, got 'mask-rcnn'"):
        Segmentation("mask-rcnn")
    assert task_from_dict(TASK.to_dict()) == TASK
