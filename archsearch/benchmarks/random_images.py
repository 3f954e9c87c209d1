"""Classification of random images, which needs no data set."""

import numpy as np
import torch

from archsearch.core.recipe import Recipe
from archsearch.core.task import Data, Splits
from archsearch.tasks.classification import Classification, LabeledSplits
from archsearch.training.augmentation import Pipeline
from archsearch.training.images import Dataset, Images, in_memory
from archsearch.training.loader import indices, reader

NUM_CLASSES = 10


class RandomImages(Classification):
    """Classification of one batch of noise, which needs no data set."""

    def prepare(self, data: Data, recipe: Recipe, device: torch.device) -> Splits:
        dataset = random_images(data.num_train, recipe.image_size)
        read = reader(dataset.train, recipe.image_size, device)
        train = indices(range(data.num_train))
        none = train[:0]
        return LabeledSplits(train, none, none, read, read, Pipeline(recipe, dataset, device))


def random_images(count: int, image_size: int) -> Dataset:
    """Return `count` color images of noise, each of its own class, up to ten classes."""
    source = np.random.default_rng(0)
    pixels = source.integers(0, 256, (count, 3, image_size, image_size), dtype=np.uint8)
    images = Images(pixels, (), np.arange(count) % NUM_CLASSES)
    classes = tuple(str(label) for label in range(NUM_CLASSES))
    return in_memory("random", "noise", classes, images, images)
