"""What the weights of a training say of themselves. Does not import torch."""

import hashlib

from archsearch.core.family import Family
from archsearch.core.recipe import Recipe
from archsearch.core.task import Data, Task
from archsearch.study import Record, canonical_json
from archsearch.tasks.classification import CLASSIFICATION
from archsearch.training.data import load_verified
from archsearch.training.images import EVAL_CROP, Dataset
from internimage.description import Description, Preprocessing


def describe_weights(
    variant: Family, recipe: Recipe, data: Data, task: Task, record: Record | None
) -> Description:
    """The description of a trained network; classes and preprocessing are those of classifiers.

    Raises:
        DataError: the data is missing, or other data than the training had.
    """
    digest = recipe_digest(recipe)
    commit = "" if record is None else record.versions.get("commit", "")
    if task != CLASSIFICATION:
        return Description(variant=variant.name, recipe=digest, commit=commit)
    dataset = load_verified(data)
    images = preprocessing(dataset, recipe.image_size)
    return Description(dataset.classes, images, variant.name, digest, commit)


def recipe_digest(recipe: Recipe) -> str:
    """Sixteen hex digits of everything in a recipe but its name."""
    settings = {key: value for key, value in recipe.to_dict().items() if key != "name"}
    return hashlib.sha256(canonical_json(settings).encode()).hexdigest()[:16]


def preprocessing(dataset: Dataset, image_size: int) -> Preprocessing:
    """How the held-out images of a data set become inputs: photographs are cropped."""
    if dataset.train.pixels is None:
        return Preprocessing(image_size, dataset.mean, dataset.std, EVAL_CROP, "bicubic")
    return Preprocessing(image_size, dataset.mean, dataset.std)
