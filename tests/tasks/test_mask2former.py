"""Mask2Former trains in the loop as a head of the task of segmentation."""

from dataclasses import replace

import pytest
import torch

from archsearch.core.recipe import QUICK
from archsearch.running.train_trial import training_of
from archsearch.study import Trial
from archsearch.tasks.segmentation import Segmentation
from archsearch.training.device import settings
from archsearch.training.process_group import SINGLE_PROCESS
from archsearch.training.step import backward_in_parts, take_step
from tests.tasks.annotated import TINY

pytest.importorskip("transformers")

TASK = Segmentation("mask2former", width=32)
RECIPE = replace(
    QUICK, name="tiny", epochs=5, batch_size=2, image_size=32, lr=2e-3, warmup_epochs=0,
    val_fraction=0.25,
)  # fmt: skip


def training():
    trial = Trial(TINY, RECIPE, TASK.describe("pasted:images=10", RECIPE), 0, TASK)
    return training_of(trial, torch.device("cpu"))


def test_steps_on_one_batch_lower_the_loss_and_the_result_is_measured():
    one = training()
    batch = next(one.remaining_batches())
    losses = []
    with settings(one.recipe, one.device):
        for _ in range(3):
            before = float(one.sums[0])
            take_step(one, batch)
            losses.append(float(one.sums[0]) - before)
    assert losses[-1] < 0.9 * losses[0]
    plain = one.splits.plain(next(one.splits.read([torch.arange(1)])))
    with torch.inference_mode():
        measured = TASK.measure(one.model.eval(), [plain], SINGLE_PROCESS)
    assert 0 <= measured["miou"] <= measured["pixel_accuracy"] <= 100


def test_a_batch_in_two_parts_has_the_loss_of_the_whole():
    """The mean over the images; each part draws points of its own."""
    one = training()
    batch = one.splits.augmented(next(one.remaining_batches()))
    one.model.eval()
    losses = []
    for micro_batch in (2, 1):
        one.progress.micro_batch = micro_batch
        one.optimizer.zero_grad()
        with settings(one.recipe, one.device):
            losses.append(float(backward_in_parts(one, batch, len(batch[1]))))
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_the_cost_has_the_parameters_of_the_network():
    data = TASK.describe("pasted:images=10", RECIPE)
    model = TASK.build(TINY, data, RECIPE)
    cost = TASK.cost(TINY, data, 64, 64)
    assert cost.params == sum(p.numel() for p in model.parameters())
