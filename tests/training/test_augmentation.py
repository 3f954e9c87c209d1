"""Augmentation: each option does what it says, on every image, repeatably."""

from dataclasses import replace

import pytest
import torch

from archsearch.core.recipes import QUICK
from archsearch.training import augmentation
from archsearch.training.augmentation import Pipeline, to_float
from archsearch.training.data import load
from archsearch.training.mixing import mix

CPU = torch.device("cpu")
OFF = replace(QUICK, image_size=32)
RAMP = torch.arange(32 * 32, dtype=torch.float32).view(1, 1, 32, 32).mul(255 / 1023)
BATCH = RAMP.round().to(torch.uint8).expand(64, 1, 32, 32)
LABELS = torch.arange(64) % 10


def augment(recipe, seed=0, pixels=BATCH):
    torch.manual_seed(seed)
    return Pipeline(recipe, load("digits"), CPU).augmented(pixels, LABELS[: len(pixels)])


def changed_share(recipe):
    """Share of the images that an augmentation changes."""
    plain, _ = augment(OFF)
    images, _ = augment(recipe)
    return (images != plain).flatten(1).any(1).float().mean().item()


def test_a_recipe_without_augmentation_changes_nothing():
    images, labels = augment(OFF)
    assert torch.equal(images, Pipeline(OFF, load("digits"), CPU).plain(BATCH))
    assert torch.equal(labels, LABELS)


def test_digits_become_three_normalized_channels_at_the_recipe_size():
    data = load("digits")
    images = Pipeline(OFF, data, CPU).plain(torch.from_numpy(data.train.pixels))
    assert images.shape == (len(data.train), 3, 32, 32)
    assert torch.equal(images[:, 0], images[:, 2])
    at_8 = Pipeline(replace(OFF, image_size=8), data, CPU).plain(
        torch.from_numpy(data.train.pixels)
    )
    assert abs(at_8.mean().item()) < 1e-4
    assert abs(at_8.std().item() - 1) < 1e-3


def test_shrinking_averages_pixels():
    """Of four columns the middle two are white: nearest-neighbor sampling would give only white."""
    row = torch.tensor([0, 255, 255, 0], dtype=torch.uint8).repeat(8)
    stripes = row.expand(1, 1, 32, 32)
    assert (to_float(stripes, 8)[..., 1:-1] - 0.5).abs().max() < 0.2


@pytest.mark.parametrize(
    ("change", "least", "most"),
    [
        ({"flip": True}, 0.3, 0.7),
        ({"crop": "pad"}, 0.9, 1.0),
        ({"crop": "resized"}, 0.9, 1.0),
        ({"auto_augment": True}, 0.5, 1.0),
        ({"color_jitter": 0.4}, 0.9, 1.0),
        ({"erasing": 0.25}, 0.1, 0.45),
        ({"mixup": 0.8}, 0.0, 1.0),
        ({"cutmix": 1.0}, 0.0, 1.0),
    ],
)
def test_each_option_changes_images_and_repeats_with_its_seed(change, least, most):
    recipe = replace(OFF, **change)
    first, again, other = (augment(recipe, seed) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert first[0].shape == (64, 3, 32, 32)
    assert first[0].isfinite().all()
    if "mixup" not in change and "cutmix" not in change:
        assert not torch.equal(first[0], other[0])
        assert least <= changed_share(recipe) <= most


def test_a_flip_is_a_mirror():
    images, _ = augment(replace(OFF, flip=True))
    plain, _ = augment(OFF)
    same = (images == plain).flatten(1).all(1)
    mirrored = (images == plain.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all()


def test_a_padded_crop_moves_by_at_most_an_eighth():
    images, _ = augment(replace(OFF, crop="pad"))
    plain = augment(OFF)[0][0, 0]
    center = images[:, 0, 16, 16]
    near = plain[12:21, 12:21]
    assert all((near - value).abs().min() < 1e-4 for value in center)
    assert len(set(center.tolist())) > 20


def test_a_resized_crop_stretches_whole_pixels_from_corner_to_corner():
    """On ramps along x and y the corners of the output are whole numbers, the rest linear."""
    side, num_images = 32, 200
    ramp = torch.arange(side, dtype=torch.float32)
    ramps = torch.stack(torch.meshgrid(ramp, ramp, indexing="xy"))
    torch.manual_seed(0)
    across, down = augmentation.crop_resized(ramps.expand(num_images, 2, side, side)).unbind(1)
    for values in (across, down.mT):
        first, last = values[:, :, 0], values[:, :, -1]
        assert (first - first[:, :1].round()).abs().max() < 1e-4
        assert (last - last[:, :1].round()).abs().max() < 1e-4
        middle = torch.lerp(first[..., None], last[..., None], torch.linspace(0, 1, side))
        assert (values - middle).abs().max() < 1e-4
    width, height = (x[:, -1, -1] - x[:, 0, 0] + 1 for x in (across, down))
    assert (width * height / side**2).min() > 0.06
    assert ((width / height).log().abs() < 0.5).all()
    assert {1.0} < set((width / height).tolist())


def test_color_jitter_takes_its_steps_in_every_order(monkeypatch):
    taken = []
    steps = [lambda x, _, i=i: (taken.append(i), x.clone())[1] for i in range(3)]
    monkeypatch.setattr(augmentation, "_JITTER", steps)
    for _ in range(60):
        augmentation.color_jitter(torch.rand(2, 3, 4, 4), 0.4)
    assert len({tuple(taken[i : i + 3]) for i in range(0, 180, 3)}) == 6


def mixed(change, seed):
    """Images and targets of a mixed batch of four constant images, and the images' values."""
    torch.manual_seed(seed)
    values = torch.tensor([0.0, 1.0, 2.0, 3.0])
    images = values.view(4, 1, 1, 1).expand(4, 3, 32, 32)
    return (*mix(images, torch.arange(4), replace(OFF, **change), 4), values)


@pytest.mark.parametrize("seed", range(8))
def test_mixup_blends_labels_in_the_proportion_of_the_pixels(seed):
    images, targets, values = mixed({"mixup": 0.8}, seed)
    assert torch.allclose(targets.sum(1), torch.ones(4))
    assert torch.allclose(images[:, 0, 0, 0], targets @ values, atol=1e-5)
    assert images.flatten(1).std(1).max() < 1e-5


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_weights_labels_by_the_share_of_the_area(seed):
    images, targets, values = mixed({"cutmix": 1.0}, seed)
    assert torch.allclose(targets.sum(1), torch.ones(4))
    assert torch.allclose(images.mean((1, 2, 3)), targets @ values, atol=1e-5)
    for value, image in enumerate(images):
        assert set(image.unique().tolist()) <= {value, 3 - value}


def test_with_mixup_and_cutmix_each_batch_gets_one_of_them():
    blended = [
        mixed({"mixup": 0.8, "cutmix": 1.0}, seed)[0][0].unique().tolist() for seed in range(40)
    ]
    by_cutmix = sum(set(values) <= {0.0, 3.0} for values in blended)
    assert 10 < by_cutmix < 35
