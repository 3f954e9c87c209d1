"""Scores, and BatchNorm's statistics before a measurement."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from archsearch.tasks.classification import CLASSIFICATION
from archsearch.training.batch_norm import calibrate
from archsearch.training.measure import validate
from archsearch.training.process_group import SINGLE_PROCESS
from archsearch.training.step import take_step
from tests.training.trainings import SHORT, new_training


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_batch_norm_is_recomputed_before_a_measurement(ema_decay):
    recipe = replace(SHORT, ema_decay=ema_decay)
    training = new_training(recipe)
    take_step(training, next(training.remaining_batches()))
    validate(training)
    norms = [m for m in training.measured.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [int(norm.num_batches_tracked) for norm in norms] == [4]


class NormOnly(nn.Module):
    """BatchNorm on two numbers per image; the prediction is the larger one."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x):
        return self.norm(x)


def test_scores_over_uneven_batches_are_in_percent_and_loss_per_image():
    model = NormOnly().eval()
    values = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    labels = torch.tensor([0, 1, 1])
    batches = [(values[:2], labels[:2]), (values[2:], labels[2:])]
    with torch.inference_mode():
        score = CLASSIFICATION.measure(model, batches, SINGLE_PROCESS)
    loss = nn.functional.cross_entropy(model(values), labels)
    assert score["accuracy"] == pytest.approx(200 / 3)
    assert score["loss"] == pytest.approx(loss.item())
    assert CLASSIFICATION.measure(model, [], SINGLE_PROCESS) is None


def test_calibration_takes_the_statistics_of_the_training_images():
    model, no_cast = NormOnly(), lambda: torch.autocast("cpu", enabled=False)
    images = torch.randn(256, 2) * 3 + 5
    calibrate(model, images.split(64), no_cast)
    assert torch.allclose(model.norm.running_mean, images.mean(0), atol=1e-5)
    assert torch.allclose(model.norm.running_var, images.var(0), rtol=0.05)
    assert (model.training, model.norm.training, model.norm.momentum) == (False, False, 0.1)
