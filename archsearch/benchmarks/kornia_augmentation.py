"""The augmentation of `archsearch.training.augmentation` as kornia computes it, for comparison."""

from typing import Any, cast

import torch
from torch import Tensor

from archsearch.core.recipe import Recipe
from archsearch.training.augmentation import ERASED_AREA, ERASED_RATIO, PAD, Transform
from archsearch.training.images import MIN_CROP_AREA

MAGNITUDE = (2, 27)
GROUPS = 16
"""kornia draws RandAugment's operations once per call, so a batch is split to see more of them."""


def transforms(recipe: Recipe, cropped: bool) -> tuple[list[Transform], list[Transform]]:
    """As `archsearch.training.augmentation.transforms`."""
    size = (recipe.image_size, recipe.image_size)
    before: list[Transform] = []
    if recipe.flip:
        before.append(_kornia("RandomHorizontalFlip", p=0.5))
    if recipe.crop == "pad":
        before.append(_kornia("RandomCrop", size=size, padding=round(size[0] * PAD)))
    if recipe.crop == "resized" and not cropped:
        before.append(_kornia("RandomResizedCrop", size=size, scale=(MIN_CROP_AREA, 1.0)))
    if recipe.auto_augment:
        before.append(rand_augment)
    if j := recipe.color_jitter:
        before.append(_kornia("ColorJitter", brightness=j, contrast=j, saturation=j))
    after: list[Transform] = []
    if p := recipe.erasing:
        after.append(_kornia("RandomErasing", p=p, scale=ERASED_AREA, ratio=ERASED_RATIO))
    return before, after


def _kornia(name: str, **options: Any) -> Transform:
    import kornia.augmentation

    return cast(Transform, getattr(kornia.augmentation, name)(**options))


def rand_augment(images: Tensor) -> Tensor:
    """Two operations for each of `GROUPS` parts of the batch."""
    from kornia.augmentation.auto import RandAugment

    operation = RandAugment(*MAGNITUDE)
    return torch.cat([operation(part) for part in images.tensor_split(min(GROUPS, len(images)))])
