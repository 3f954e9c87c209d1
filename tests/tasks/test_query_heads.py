"""Mask2Former and DINO train in the loop as heads of their tasks."""

from dataclasses import replace

import pytest
import torch

from archsearch.core.recipes import QUICK
from archsearch.running.train_trial import train_trial, training_of
from archsearch.scenes.predicted import read
from archsearch.storage.trial_folder import PREDICTIONS
from archsearch.study import Trial
from archsearch.tasks import task_from_dict
from archsearch.tasks.detection import Detection
from archsearch.tasks.segmentation import Segmentation
from archsearch.training.device import settings
from archsearch.training.process_group import SINGLE_PROCESS
from archsearch.training.step import backward_in_parts, take_step
from tests.tasks.annotated import TINY, folder_of

pytest.importorskip("transformers")

TASKS = {"mask2former": Segmentation("mask2former", 64), "dino": Detection("dino", 64)}
MEASURES = {"mask2former": {"miou", "pixel_accuracy"}, "dino": {"box_ap", "box_ap50"}}
RECIPE = replace(
    QUICK, name="tiny", epochs=5, batch_size=2, image_size=32, lr=2e-3, warmup_epochs=0,
    val_fraction=0.25,
)  # fmt: skip


def training(name):
    task = TASKS[name]
    trial = Trial(TINY, RECIPE, task.describe("pasted:images=10", RECIPE), 0, task)
    return training_of(trial, torch.device("cpu"))


@pytest.mark.parametrize("name", TASKS)
def test_steps_on_one_batch_lower_the_loss_and_the_result_is_measured(name):
    one = training(name)
    batch = next(one.remaining_batches())
    losses = []
    with settings(one.recipe, one.device):
        for _ in range(3):
            before = float(one.sums[0])
            take_step(one, batch)
            losses.append(float(one.sums[0]) - before)
    assert losses[-1] < 0.95 * losses[0]
    plain = one.splits.plain(next(one.splits.read([torch.arange(1)])))
    with torch.inference_mode():
        measured = one.task.measure(one.model.eval(), [plain], SINGLE_PROCESS)
        (predicted,) = one.task.predicted(one.model, plain)
    assert measured.keys() == MEASURES[name]
    assert all(0 <= value <= 100 for value in measured.values())
    assert predicted.best() is not None


def test_a_detector_without_masks_has_a_record_without_their_measures(tmp_path):
    folder = folder_of(tmp_path, TASKS["dino"], replace(RECIPE, epochs=1), "pasted:images=10")
    train_trial(folder.path, "cpu")
    record, metrics = folder.record(), folder.record().metrics
    assert (record.status, metrics["val_mask_ap"], metrics["test_mask_ap"]) == (
        "complete",
        None,
        None,
    )
    assert 0 <= metrics["test_box_ap"] <= metrics["test_box_ap50"] <= 100
    (image,) = read(folder.path / PREDICTIONS)[0][:1]
    assert image.objects.masks is None


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_in_two_parts_has_the_loss_of_the_whole(name):
    """The mean over the images; each part draws points or noise of its own."""
    one = training(name)
    batch = one.splits.augmented(next(one.remaining_batches()))
    one.model.eval()
    losses = []
    for micro_batch in (2, 1):
        one.progress.micro_batch = micro_batch
        one.optimizer.zero_grad()
        with settings(one.recipe, one.device):
            losses.append(float(backward_in_parts(one, batch, len(batch[1]))))
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.parametrize("name", TASKS)
def test_the_cost_has_the_parameters_of_the_network(name):
    task = TASKS[name]
    data = task.describe("pasted:images=10", RECIPE)
    model = task.build(TINY, data, RECIPE)
    cost = task.cost(TINY, data, 64, 64)
    assert cost.params == sum(p.numel() for p in model.parameters())
    assert task_from_dict(task.to_dict()) == task
