"""Our augmentation beside kornia's: the same numbers or the same distribution, without waits."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import ks_2samp

from archsearch.benchmarks import kornia_augmentation
from archsearch.benchmarks.augmentation import Operations
from archsearch.benchmarks.random_images import random_images
from archsearch.core.recipes import CIFAR, QUICK, TABLE_B
from archsearch.training.augmentation import Pipeline

CPU = torch.device("cpu")
OFF = replace(QUICK, image_size=24)


def ours(recipe, device=CPU):
    return Pipeline(recipe, random_images(1, recipe.image_size), device)


def kornias(recipe):
    pytest.importorskip("kornia")
    pipeline = ours(recipe)
    both = kornia_augmentation.transforms(recipe, cropped=False)
    pipeline.before_normalization, pipeline.after_normalization = both
    return pipeline


def batch(num_images, side):
    """Smooth random images, whose position, colors and edges can be seen, and their labels."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(num_images, 3, 5, 5, generator=generator) * 255
    images = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return images.clamp(0, 255).to(torch.uint8), torch.arange(num_images) % 10


@pytest.mark.parametrize("side", [8, 32, 57])
@pytest.mark.parametrize("num_images", [2, 33])
def test_flips_padded_crops_and_mixing_have_kornias_numbers_to_the_last_bit(side, num_images):
    """Recipes without other augmentation keep the ids of their trials, so their numbers stay."""
    recipe = replace(CIFAR, image_size=side)
    results = []
    for pipeline in (ours(recipe), kornias(recipe)):
        torch.manual_seed(0)
        images, labels = pipeline.augmented(*batch(num_images, side))
        results.append((images, labels, torch.get_rng_state()))
        assert images.is_contiguous()
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


FEATURES = {
    "mean": lambda x: x.mean((1, 2, 3)),
    "spread": lambda x: x.flatten(1).std(1),
    "color": lambda x: (x[:, 0] - x[:, 2]).abs().mean((1, 2)),
    "steepness": lambda x: x.diff(dim=-1).abs().mean((1, 2, 3)),
    "left and right": lambda x: (x[..., :12] - x[..., 12:]).mean((1, 2, 3)),
    "top and bottom": lambda x: (x[..., :12, :] - x[..., 12:, :]).mean((1, 2, 3)),
    "corner": lambda x: x[..., :4, :4].mean((1, 2, 3)),
    "pixels of the mean color": lambda x: (x == 0).float().mean((1, 2, 3)),
}


@pytest.mark.parametrize(
    "change",
    [
        {"crop": "resized"},
        {"auto_augment": True},
        {"color_jitter": 0.4},
        {"color_jitter": 1.5},
        {"erasing": 0.7},
        {
            "flip": True,
            "crop": "resized",
            "auto_augment": True,
            "color_jitter": 0.4,
            "erasing": 0.25,
        },
    ],
    ids=lambda change: "-".join(change),
)
def test_augmented_images_have_the_distribution_of_kornias(change):
    """Batches of 16, of which kornia's RandAugment sees each image alone: images are independent.

    The threshold is 0.001 over all features.
    """
    recipe, num_batches = replace(OFF, **change), 60
    both = []
    for seed, pipeline in enumerate((ours(recipe), kornias(recipe))):
        torch.manual_seed(seed)
        pixels, labels = batch(16, 24)
        repeats = [pipeline.augmented(pixels, labels)[0] for _ in range(num_batches)]
        both.append(torch.cat(repeats))
    for name, feature in FEATURES.items():
        first, second = (feature(images).numpy() for images in both)
        assert ks_2samp(first, second).pvalue > 0.001 / len(FEATURES), name


@pytest.mark.parametrize("seed", range(6))
def test_table_b_takes_fewer_than_200_operations_and_reads_no_tensor(seed):
    recipe, operations = replace(TABLE_B["T"], image_size=8), Operations()
    pipeline, (pixels, labels) = ours(recipe), batch(256, 8)
    torch.manual_seed(seed)
    with operations:
        pipeline.augmented(pixels, labels)
    assert operations.waits == 0
    assert operations.count < 200


@pytest.mark.parametrize("crop", ["pad", "resized"])
def test_augmentation_needs_no_value_of_the_device(crop):
    """Tensors of the device meta have no values: reading one there is an error."""
    recipe, meta = replace(TABLE_B["T"], crop=crop, image_size=8), torch.device("meta")
    pipeline, (pixels, labels) = ours(recipe, meta), batch(32, 12)
    for seed in range(4):
        torch.manual_seed(seed)
        images, targets = pipeline.augmented(pixels.to(meta), labels.to(meta))
        assert (images.shape, targets.shape) == ((32, 3, 8, 8), (32, 10))
        assert images.is_meta
        assert targets.is_meta


def test_the_counter_sees_operations_that_read_values():
    x = torch.arange(4)
    for read in (lambda: x[0].item(), lambda: x[x > 1], lambda: x.nonzero(), lambda: bool(x[0])):
        operations = Operations()
        with operations:
            read()
        assert operations.waits == 1
