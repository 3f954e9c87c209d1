"""Image augmentation, in batches on the device.

Random numbers come from torch's global generators, which the training loop seeds before every
step. kornia is imported only for recipes that need it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from archsearch.core.recipe import Recipe
from archsearch.training.images import MIN_CROP_AREA, Dataset

Transform = Callable[[Tensor], Tensor]

RAND_AUGMENT = (2, 27)
"""Number of operations, and magnitude out of 30: "rand-m9" of the released recipe counts to 10."""

RAND_AUGMENT_GROUPS = 16
"""kornia draws its operations once per call, so a batch is split into this many groups to see more
of them."""

ERASED_AREA = (0.02, 1 / 3)
ERASED_RATIO = (0.3, 1 / 0.3)
"""Random erasing: share of the area and aspect ratio, as its authors set them."""

PAD = 1 / 8
"""Padding before a random crop, as a share of the side: 4 pixels at 32."""


class Pipeline:
    """Converts uint8 pixels to network inputs, for one recipe and one data set."""

    def __init__(self, recipe: Recipe, dataset: Dataset, device: torch.device) -> None:
        self.recipe, self.num_classes = recipe, len(dataset.classes)
        self.mean = torch.tensor(dataset.mean, device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(dataset.std, device=device).view(1, -1, 1, 1)
        cropped = dataset.train.pixels is None
        self.before_normalization, self.after_normalization = transforms(recipe, cropped)

    def plain(self, pixels: Tensor) -> Tensor:
        """Images ``(N, 3, S, S)`` of zero mean and unit variance, from uint8 ``(N, C, H, W)``."""
        return (to_float(pixels, self.recipe.image_size) - self.mean) / self.std

    def augmented(self, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Augmented images ``(N, 3, S, S)``, and labels ``(N,)`` or, if mixed, ``(N, classes)``."""
        images = to_float(pixels, self.recipe.image_size)
        for transform in self.before_normalization:
            images = transform(images)
        images = (images - self.mean) / self.std
        for transform in self.after_normalization:
            images = transform(images)
        return mix(images, labels, self.recipe, self.num_classes)


def to_float(pixels: Tensor, image_size: int) -> Tensor:
    """Float images ``(N, 3, S, S)`` in 0..1 from uint8 images of any size; gray becomes three
    equal channels."""
    x = pixels.float() / 255
    if x.shape[-2:] != (image_size, image_size):
        smaller = image_size < max(x.shape[-2:])
        x = F.interpolate(x, (image_size, image_size), mode="bilinear", antialias=smaller)
    return x.expand(-1, 3, -1, -1)


def transforms(recipe: Recipe, cropped: bool) -> tuple[list[Transform], list[Transform]]:
    """The recipe's transforms of images in 0..1, and those of normalized images.

    ``cropped`` means that decoding has already cut out a random part (photographs).
    """
    size = (recipe.image_size, recipe.image_size)
    before: list[Transform] = []
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
    after: list[Transform] = []
    if p := recipe.erasing:
        after.append(_kornia("RandomErasing", p=p, scale=ERASED_AREA, ratio=ERASED_RATIO))
    return before, after


def _kornia(name: str, **options: Any) -> Transform:
    import kornia.augmentation

    return cast(Transform, getattr(kornia.augmentation, name)(**options))


def _rand_augment() -> Transform:
    from kornia.augmentation.auto import RandAugment

    operation = RandAugment(*RAND_AUGMENT)

    def transform(images: Tensor) -> Tensor:
        groups = images.tensor_split(min(RAND_AUGMENT_GROUPS, len(images)))
        return torch.cat([operation(group) for group in groups])

    return transform


def mix(images: Tensor, labels: Tensor, recipe: Recipe, num_classes: int) -> tuple[Tensor, Tensor]:
    """Images and labels after mixup or cutmix: one of the two per batch if the recipe has both.

    Each image is mixed with the image at the opposite position of the batch (batches are in random
    order). Labels ``(N,)`` are returned unchanged if the recipe mixes nothing, else as
    probabilities ``(N, classes)``.
    """
    mixers = [partial(_mixup, alpha=recipe.mixup)] if recipe.mixup else []
    mixers += [partial(_cutmix, alpha=recipe.cutmix)] if recipe.cutmix else []
    if not mixers:
        return images, labels
    mixer = mixers[int(torch.randint(len(mixers), ()))]
    mixed, share = mixer(images, images.flip(0))
    one_hot = F.one_hot(labels, num_classes).to(images.dtype)
    return mixed, torch.lerp(one_hot.flip(0), one_hot, share)


def _mixup(images: Tensor, others: Tensor, alpha: float) -> tuple[Tensor, float]:
    """Images blended with others, and the weight of the original images."""
    share = _beta(alpha)
    return torch.lerp(others, images, share), share


def _cutmix(images: Tensor, others: Tensor, alpha: float) -> tuple[Tensor, float]:
    """Images with one box filled from others, and the area share of the original images."""
    height, width = images.shape[-2:]
    side = (1 - _beta(alpha)) ** 0.5
    top, bottom = _span(height, side)
    left, right = _span(width, side)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def _span(length: int, share: float) -> tuple[int, int]:
    """Start and end of a span of ``share`` times ``length`` around a random center, clipped to the
    image."""
    center, half = int(torch.randint(length, ())), int(length * share) // 2
    return max(center - half, 0), min(center + half, length)


def _beta(alpha: float) -> float:
    return float(torch.distributions.Beta(alpha, alpha).sample())
