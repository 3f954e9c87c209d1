"""Augmentation, batched on the device. Random numbers come from torch's global generators, which
the training loop seeds at every step; kornia is imported only by a recipe that needs it."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from archsearch.core.recipe import Recipe
from archsearch.training.images import MIN_CROP_AREA, Dataset

Change = Callable[[Tensor], Tensor]

RAND_AUGMENT = (2, 27)
"""Operations, and magnitude out of 30: the released recipe's "rand-m9" counts to 10."""

RAND_AUGMENT_GROUPS = 16
"""kornia draws operations once per call; a batch is cut in so many parts to see more of them."""

ERASED_AREA = (0.02, 1 / 3)
ERASED_RATIO = (0.3, 1 / 0.3)
"""Share of the area and ratio of the sides of random erasing, as its authors set them."""

PAD = 1 / 8
"""Padding before a random crop, as a share of the side: 4 pixels at 32."""


class Pipeline:
    """From uint8 pixels to what the network takes, for one recipe and data set."""

    def __init__(self, recipe: Recipe, dataset: Dataset, device: torch.device) -> None:
        self.recipe, self.num_classes = recipe, len(dataset.classes)
        self.mean = torch.tensor(dataset.mean, device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(dataset.std, device=device).view(1, -1, 1, 1)
        self.before, self.after = changes(recipe, cropped=dataset.train.pixels is None)

    def plain(self, pixels: Tensor) -> Tensor:
        """Images ``(N, 3, S, S)`` of zero mean and unit variance, of uint8 ``(N, C, H, W)``."""
        return (to_float(pixels, self.recipe.image_size) - self.mean) / self.std

    def augmented(self, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The same after augmentation, and labels ``(N,)`` or, if mixed, ``(N, classes)``."""
        images = to_float(pixels, self.recipe.image_size)
        for change in self.before:
            images = change(images)
        images = (images - self.mean) / self.std
        for change in self.after:
            images = change(images)
        return mix(images, labels, self.recipe, self.num_classes)


def to_float(pixels: Tensor, image_size: int) -> Tensor:
    """uint8 images of any size to float ``(N, 3, S, S)`` in 0..1; one grey channel to three."""
    x = pixels.float() / 255
    if x.shape[-2:] != (image_size, image_size):
        smaller = image_size < max(x.shape[-2:])
        x = F.interpolate(x, (image_size, image_size), mode="bilinear", antialias=smaller)
    return x.expand(-1, 3, -1, -1)


def changes(recipe: Recipe, cropped: bool) -> tuple[list[Change], list[Change]]:
    """What the recipe does to images in 0..1, and what it does to normalised ones.

    ``cropped`` says that decoding has cut the random part out already (photographs).
    """
    size = (recipe.image_size, recipe.image_size)
    before: list[Change] = []
    if recipe.flip:
        before.append(_kornia("RandomHorizontalFlip", p=0.5))
    if recipe.crop == "pad":
        before.append(_kornia("RandomCrop", size=size, padding=round(size[0] * PAD)))
    if recipe.crop == "resized" and not cropped:
        before.append(_kornia("RandomResizedCrop", size=size, scale=(MIN_CROP_AREA, 1.0)))
    if recipe.auto_augment:
        before.append(_rand_augment())
    if j := recipe.color_jitter:
        before.append(_kornia("ColorJitter", brightness=j, contrast=j, saturation=j))
    after: list[Change] = []
    if p := recipe.erasing:
        after.append(_kornia("RandomErasing", p=p, scale=ERASED_AREA, ratio=ERASED_RATIO))
    return before, after


def _kornia(name: str, **options: Any) -> Change:
    import kornia.augmentation

    return cast(Change, getattr(kornia.augmentation, name)(**options))


def _rand_augment() -> Change:
    from kornia.augmentation.auto import RandAugment

    operation = RandAugment(*RAND_AUGMENT)

    def change(images: Tensor) -> Tensor:
        groups = images.tensor_split(min(RAND_AUGMENT_GROUPS, len(images)))
        return torch.cat([operation(group) for group in groups])

    return change


def mix(images: Tensor, labels: Tensor, recipe: Recipe, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mixup or cutmix, one of the two per batch where the recipe has both.

    Each image is mixed with the one opposite in the batch (batches are in random order). Labels
    ``(N,)`` come back as they are where nothing is mixed, else as probabilities ``(N, classes)``.
    """
    ways = [partial(_mixup, alpha=recipe.mixup)] if recipe.mixup else []
    ways += [partial(_cutmix, alpha=recipe.cutmix)] if recipe.cutmix else []
    if not ways:
        return images, labels
    way = ways[int(torch.randint(len(ways), ()))]
    mixed, share = way(images, images.flip(0))
    one_hot = F.one_hot(labels, num_classes).to(images.dtype)
    return mixed, torch.lerp(one_hot.flip(0), one_hot, share)


def _mixup(images: Tensor, others: Tensor, alpha: float) -> tuple[Tensor, float]:
    """Images blended with others, and the share that is their own."""
    share = _beta(alpha)
    return torch.lerp(others, images, share), share


def _cutmix(images: Tensor, others: Tensor, alpha: float) -> tuple[Tensor, float]:
    """Images with one box filled from others, and the share of the area that is their own."""
    height, width = images.shape[-2:]
    side = (1 - _beta(alpha)) ** 0.5
    top, bottom = _span(height, side)
    left, right = _span(width, side)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def _span(length: int, share: float) -> tuple[int, int]:
    """A part of ``length`` around a random centre, cut off at the edges."""
    center, half = int(torch.randint(length, ())), int(length * share) // 2
    return max(center - half, 0), min(center + half, length)


def _beta(alpha: float) -> float:
    return float(torch.distributions.Beta(alpha, alpha).sample())
