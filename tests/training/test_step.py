"""One optimizer step: parts that fit in memory, and the gradient of their mean loss."""

from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from archsearch.core.cost import Cost
from archsearch.core.interrupted import Interrupted
from archsearch.core.recipes import QUICK
from archsearch.families.convnext import ConvNeXt
from archsearch.running.train_trial import train_trial
from archsearch.space.trainable import check_variant
from archsearch.training import machine, state
from archsearch.training.augmentation import Pipeline
from archsearch.training.measure import recalibrate
from archsearch.training.memory import fitting_batch, set_gradient_checkpointing
from archsearch.training.process_group import ProcessGroup
from archsearch.training.step import (
    _clip_gradients,
    backward,
    backward_in_parts,
    take_step,
)
from internimage import InternImage
from internimage.model import Block
from tests.training.trainings import (
    ALL_ON,
    CPU,
    SHORT,
    TINY,
    after,
    assert_same,
    new_training,
    results,
    trial_folder,
)


def test_every_step_has_its_own_random_numbers(tmp_path, monkeypatch):
    seeds = []
    augmented = Pipeline.augmented
    monkeypatch.setattr(
        Pipeline,
        "augmented",
        lambda *arguments: seeds.append(torch.initial_seed()) or augmented(*arguments),
    )
    train_trial(trial_folder(tmp_path).path)
    assert len(seeds) == len(set(seeds)) == 10


def test_gradient_checkpointing_computes_blocks_twice_and_changes_no_number(tmp_path, monkeypatch):
    modes, forward = [], Block.forward
    monkeypatch.setattr(
        Block, "forward", lambda self, x: modes.append(self.training) or forward(self, x)
    )
    outcomes, calls = {}, {}
    for on in (False, True):
        modes.clear()
        folder = trial_folder(tmp_path, replace(ALL_ON, epochs=1, gradient_checkpointing=on))
        train_trial(folder.path)
        outcomes[on], calls[on] = results(folder), modes.count(True)
        del outcomes[on][0]["trial_id"]
    assert_same(outcomes[False], outcomes[True])
    assert calls[True] == 2 * calls[False] > 0


def test_a_network_without_gradient_checkpointing_is_refused_with_the_option():
    wanted = replace(QUICK, gradient_checkpointing=True)
    check_variant(TINY, wanted)
    with pytest.raises(ValueError, match=r"ConvNeXt has no .*--set gradient_checkpointing=false"):
        check_variant(ConvNeXt(16, 1, 1), wanted)
    with pytest.raises(ValueError, match="no module of the network has"):
        set_gradient_checkpointing(nn.Linear(1, 1))


def limit_images(most, monkeypatch):
    """Let networks run out of memory in training above ``most`` images; returns batch sizes."""
    forward = InternImage.forward
    sizes = []

    def limited(self, x):
        if self.training and len(x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(InternImage, "forward", limited)
    return sizes


def test_out_of_memory_reduces_the_images_at_a_time_and_is_noted(tmp_path, monkeypatch):
    sizes = limit_images(8, monkeypatch)
    folder = trial_folder(tmp_path)
    train_trial(folder.path)
    record = folder.record()
    assert record.status == "complete"
    assert record.notes == (
        "out of memory: 6 images at a time from epoch 1 on, with the same 32 per optimizer step",
    )
    assert max(sizes) <= 8
    assert folder.load_checkpoint()[1]["progress"]["micro_batch"] == 6


def test_no_part_of_a_batch_is_one_image(monkeypatch):
    """At 32 pixels the head's map is one pixel: BatchNorm has one value per image and channel."""
    monkeypatch.setattr(machine, "memory", lambda: 0)
    recipe = replace(SHORT, batch_size=5)
    training = new_training(recipe)
    pixels, labels = next(training.remaining_batches())
    assert (training.progress.micro_batch, len(labels)) == (2, 5)
    take_step(training, (pixels, labels))
    recalibrate(training)
    training.recipe = replace(recipe, batch_size=2)
    assert training.steps_per_epoch == len(training.splits.train) // 2 == 64
    assert min(len(labels) for _, labels in training.remaining_batches()) == 2


def test_every_process_takes_as_many_parts_although_shares_differ_by_one():
    training = new_training()
    training.group, training.progress.micro_batch = ProcessGroup(0, 2), 6
    sizes, network = [], training.trained
    training.trained = lambda images: sizes.append(len(images)) or network(images)
    for share in (13, 12):
        batch = torch.rand(share, 3, 32, 32), torch.zeros(share).long()
        backward_in_parts(training, batch, 25)
    assert sizes == [5, 4, 4, 4, 4, 4]


def test_less_memory_on_resume_is_noted(tmp_path, monkeypatch):
    folder = trial_folder(tmp_path)
    with pytest.raises(Interrupted):
        train_trial(folder.path, stop=after(6))
    monkeypatch.setattr(state, "fitting_batch", lambda *_: 10)
    train_trial(folder.path)
    assert folder.record().notes == (
        "out of memory: 10 images at a time from epoch 2 on, with the same 32 per optimizer step",
    )


def test_a_network_that_does_not_fit_at_all_raises(tmp_path, monkeypatch):
    limit_images(0, monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        train_trial(trial_folder(tmp_path).path)


def test_other_errors_are_not_treated_as_out_of_memory(tmp_path, monkeypatch):
    failing = Mock(side_effect=RuntimeError("shapes do not fit"))
    monkeypatch.setattr(InternImage, "forward", failing)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train_trial(trial_folder(tmp_path).path)


def test_the_gradient_of_the_mean_loss_is_the_same_for_any_number_of_parts():
    smoothed = replace(SHORT, label_smoothing=0.1)
    gradients = []
    for micro_batch in (32, 11, 5):
        training = new_training(smoothed)
        model = training.model.eval()  # BatchNorm would see one part only
        training.progress.micro_batch = micro_batch
        pixels, labels = next(training.remaining_batches())
        images = training.splits.pipeline.plain(pixels)
        mean_loss = nn.functional.cross_entropy(model(images), labels, label_smoothing=0.1)
        expected = torch.cat(
            [g.flatten() for g in torch.autograd.grad(mean_loss, model.parameters())]
        )
        loss_sum = backward(training, (images, labels), len(labels), len(labels))
        assert loss_sum.item() == pytest.approx(mean_loss.item() * len(labels), rel=1e-4)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    for gradient in gradients:
        assert torch.allclose(gradient, expected, rtol=1e-3, atol=1e-6)


def test_the_batch_on_a_cpu_is_limited_by_its_memory(monkeypatch):
    cost = Cost(params=1000, macs=1, activations=1000, image_size=32)
    monkeypatch.setattr(machine, "memory", lambda: 16_000 + 91_000)
    assert fitting_batch(replace(QUICK, batch_size=64), cost, CPU) == 10
    assert fitting_batch(replace(QUICK, batch_size=64, precision="bf16"), cost, CPU) == 18
    assert fitting_batch(replace(QUICK, batch_size=4), cost, CPU) == 4
    monkeypatch.setattr(machine, "memory", lambda: 0)
    assert fitting_batch(QUICK, cost, CPU) == 2
    monkeypatch.setattr(machine, "memory", lambda: None)
    assert fitting_batch(QUICK, cost, CPU) == QUICK.batch_size


@pytest.mark.parametrize("longest", [1e-3, 1e3, 3.0])
@pytest.mark.parametrize("broken", [0.0, float("nan"), float("inf")])
def test_gradients_are_clipped_as_torch_does_to_the_last_bit(longest, broken):
    training = new_training(replace(SHORT, clip_norm=longest))
    generator = torch.Generator().manual_seed(0)
    for parameter in training.model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator) / 100
    parameter.grad.view(-1)[0] += broken
    expected = [p.grad.clone() for p in training.model.parameters()]
    expected_norm = _clip_in_two_passes(expected, longest)
    norm = _clip_gradients(training)
    assert torch.equal(norm, expected_norm) or (norm.isnan() and expected_norm.isnan())
    for parameter, gradient in zip(training.model.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad.nan_to_num(7), gradient.nan_to_num(7))


def _clip_in_two_passes(gradients, longest):
    parameters = [nn.Parameter(torch.empty_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    return nn.utils.clip_grad_norm_(parameters, longest)


def test_gradients_that_are_short_enough_are_not_multiplied(monkeypatch):
    training = new_training(replace(SHORT, clip_norm=1e3))
    pixels, labels = next(training.remaining_batches())
    multiply = Mock()
    monkeypatch.setattr(nn.utils, "clip_grads_with_norm_", multiply)
    take_step(training, (pixels, labels))
    assert multiply.call_count == 0
    training.recipe = replace(training.recipe, clip_norm=1e-3)
    take_step(training, (pixels, labels))
    assert multiply.call_count == 1
