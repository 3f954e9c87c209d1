"""RandAugment: each image gets two different operations of kornia's, at kornia's magnitudes."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from archsearch.training import rand_augment as module
from archsearch.training.rand_augment import OPERATIONS, rand_augment

NUM_IMAGES = 8
SYMMETRIC = {
    "rotate": "degrees",
    **{name: name for name in ("shear_x", "shear_y", "translate_x", "translate_y")},
}
"""Operations whose sign is drawn -> the name of kornia's parameter."""


def images(side=33):
    """Noise, and what operations treat apart: every level, whole levels, dark and equal pixels."""
    torch.manual_seed(0)
    batch = torch.rand(NUM_IMAGES, 3, side, side)
    levels = torch.arange(side * side).remainder(256).view(side, side) / 255
    batch[3], batch[4], batch[5], batch[6] = levels, batch[4].mul(255).round() / 255, 0.4, 0
    batch[7, 1:] *= 0.1
    return batch


def kornia_operation(name):
    auto = pytest.importorskip("kornia.augmentation.auto")
    policies = auto.rand_augment.rand_augment.default_policy
    assert {policy[0][0] for policy in policies} == set(OPERATIONS)
    return auto.RandAugment(1, 27, [policy for policy in policies if policy[0][0] == name])


def chances_of(name, drawn):
    """Our random number for each image from what kornia drew: a sign, or a threshold."""
    if name == "solarize_add":
        return drawn["thresholds"].numpy()
    signs = drawn[SYMMETRIC[name]] if name in SYMMETRIC else torch.ones(NUM_IMAGES)
    return np.where(signs.numpy() > 0, 0.9, 0.1)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_computes_what_kornias_does(name):
    operation, batch = kornia_operation(name), images()
    parameters = operation.forward_parameters(batch.shape)
    expected = operation(batch, params=parameters)
    chances = chances_of(name, parameters[0].data[0].data)
    ours = batch.clone()
    module._apply(ours, np.full(NUM_IMAGES, OPERATIONS.index(name)), chances)
    assert not torch.equal(ours, batch)
    assert (ours - expected).abs().max() < 2e-5


def test_each_image_gets_its_own_two_operations_in_their_order(monkeypatch):
    """The batch, which is sorted by operation, equals image after image on its own."""
    drawn = module._draw(NUM_IMAGES)
    monkeypatch.setattr(module, "_draw", lambda _: drawn)
    batch = images()
    ours = rand_augment(batch)
    for i, image in enumerate(batch.clone().split(1)):
        for operations, chances in zip(*drawn, strict=True):
            module._apply(image, operations[i : i + 1], chances[i : i + 1])
        assert torch.equal(ours[i], image[0])


def test_every_ordered_pair_of_operations_is_as_likely():
    torch.manual_seed(0)
    num = len(OPERATIONS)
    (first, second), chances = module._draw(50 * num * (num - 1))
    assert (first != second).all()
    pairs = np.bincount(first * num + second, minlength=num * num).reshape(num, num)
    assert not pairs.diagonal().any()
    assert chisquare(pairs[~np.eye(num, dtype=bool)]).pvalue > 0.001
    assert abs(chances.mean() - 0.5) < 0.01


@pytest.mark.parametrize("num_images", [1, 2, 3])
def test_a_small_batch_is_augmented_and_its_input_stays(num_images):
    batch = images()[:num_images]
    before = batch.clone()
    for seed in range(10):
        torch.manual_seed(seed)
        assert rand_augment(batch).shape == batch.shape
    assert torch.equal(batch, before)
