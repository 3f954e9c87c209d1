"""Image augmentation, in batches on the device.

Random numbers come from torch's global generator of the CPU, which the training loop seeds before
every step, also for images on a GPU: what is drawn is known on the host, and nothing waits for the
device.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from archsearch.core.recipe import Recipe
from archsearch.training.images import MIN_CROP_AREA, Dataset
from archsearch.training.mixing import mix
from archsearch.training.rand_augment import Floats, rand_augment, to_device

Transform = Callable[[Tensor], Tensor]

ERASED_AREA = (0.02, 1 / 3)
ERASED_RATIO = (0.3, 1 / 0.3)
"""Random erasing: share of the area and aspect ratio, as its authors set them."""

PAD = 1 / 8
"""Padding before a random crop, as a share of the side: 4 pixels at 32."""

CROP_TRIES = 10
"""Boxes that are drawn for a resized crop; if none fits inside the image, all of it is used."""


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
    before: list[Transform] = []
    if recipe.flip:
        before.append(flip)
    if recipe.crop == "pad":
        before.append(crop_padded)
    if recipe.crop == "resized" and not cropped:
        before.append(crop_resized)
    if recipe.auto_augment:
        before.append(rand_augment)
    if recipe.color_jitter:
        before.append(partial(color_jitter, strength=recipe.color_jitter))
    return before, [partial(erase, probability=recipe.erasing)] if recipe.erasing else []


def flip(images: Tensor) -> Tensor:
    """Images ``(N, C, H, W)``, each mirrored with a probability of one half."""
    flipped = torch.rand(len(images), 1, 1, 1).numpy() < 0.5
    return torch.where(to_device(flipped, images.device), images.flip(-1), images)


def crop_padded(images: Tensor) -> Tensor:
    """Images ``(N, C, S, S)`` moved by whole pixels, at most `PAD` of the side; zeros move in."""
    side = images.shape[-1]
    pad = round(side * PAD)
    moves = np.floor(torch.rand(2, len(images)).numpy() * (2 * pad + 1)) - pad
    ones = np.ones_like(moves)
    matrices = _matrices(ones, 2 * moves / side)
    grid = F.affine_grid(
        to_device(matrices, images.device), list(images.shape), align_corners=False
    )
    return F.grid_sample(images, grid, mode="nearest", align_corners=False)


def crop_resized(images: Tensor) -> Tensor:
    """A random box of each image ``(N, C, S, S)``, enlarged to its size: the Inception crop.

    A box has 8 to 100% of the area and sides 3:4 to 4:3; its corners are centers of pixels.
    """
    side = images.shape[-1]
    sizes = _boxes(len(images), side)
    starts = np.floor(torch.rand(2, len(images)).numpy() * (side - sizes + 1))
    last = max(side - 1, 1)
    scales = (sizes - 1) / last
    matrices = _matrices(scales, 2 * starts / last + scales - 1)
    grid = F.affine_grid(to_device(matrices, images.device), list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, align_corners=True)


def _boxes(num_images: int, side: int) -> Floats:
    """Widths and heights ``(2, N)`` in pixels: of the first of `CROP_TRIES` draws that fits."""
    area, ratio = torch.rand(2, num_images, CROP_TRIES).numpy()
    area = side**2 * (MIN_CROP_AREA + (1 - MIN_CROP_AREA) * area)
    ratio = (4 / 3) ** (2 * ratio - 1)
    sizes = np.round(np.sqrt(np.stack([area * ratio, area / ratio])))
    fits = ((sizes >= 1) & (sizes <= side)).all(0)
    first = sizes[:, np.arange(num_images), fits.argmax(1)]
    return np.where(fits.any(1), first, np.float32(side))


def _matrices(scales: Floats, shifts: Floats) -> Floats:
    """``(N, 2, 3)`` from ``(2, N)``, x before y: where each image is sampled, in coordinates from
    -1 to 1."""
    matrices = np.zeros((scales.shape[1], 2, 3), np.float32)
    matrices[:, [0, 1], [0, 1]], matrices[:, :, 2] = scales.T, shifts.T
    return matrices


def color_jitter(images: Tensor, strength: float) -> Tensor:
    """Images ``(N, 3, H, W)`` with brightness, contrast and saturation multiplied by factors of
    their own from ``1 - strength`` to ``1 + strength``; the order is drawn for the batch."""
    low = max(1 - strength, 0)
    factors = low + (1 + strength - low) * torch.rand(3, len(images), 1, 1, 1).numpy()
    for step in torch.randperm(3).numpy():
        images = _JITTER[step](images, to_device(factors[step], images.device)).clamp_(0, 1)
    return images


def _contrast(images: Tensor, factors: Tensor) -> Tensor:
    return torch.lerp(_gray(images).mean((2, 3), keepdim=True), images, factors)


def _saturation(images: Tensor, factors: Tensor) -> Tensor:
    return torch.lerp(_gray(images), images, factors)


_JITTER = (torch.mul, _contrast, _saturation)


def _gray(images: Tensor) -> Tensor:
    """Luma ``(N, 1, H, W)`` by ITU-R BT.601."""
    red, green, blue = images.chunk(3, dim=1)
    return (red * 0.299).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def erase(images: Tensor, probability: float) -> Tensor:
    """Normalized images ``(N, C, H, W)``, each with a box set to zero by a probability."""
    chances = torch.rand(6, len(images)).numpy()
    area = np.prod(images.shape[-2:]) * _between(ERASED_AREA, chances[0])
    flat, tall = (
        _between((ERASED_RATIO[0], 1), chances[1]),
        _between((1, ERASED_RATIO[1]), chances[1]),
    )
    ratio = np.where(chances[2] < 0.5, flat, tall)
    rows = _inside(images.shape[-2], np.sqrt(area * ratio), chances[3])
    columns = _inside(images.shape[-1], np.sqrt(area / ratio), chances[4])
    rows &= (chances[5] < probability)[:, None]
    in_rows = to_device(rows[:, None, :, None], images.device)
    return images.masked_fill(in_rows & to_device(columns[:, None, None, :], images.device), 0)


def _between(ends: tuple[float, float], chances: Floats) -> Floats:
    return ends[0] + (ends[1] - ends[0]) * chances


def _inside(length: int, sizes: Floats, chances: Floats) -> NDArray[np.bool_]:
    """``(N, length)``: whether a position is in a span of about that size, which is placed at
    random inside."""
    sizes = np.clip(np.round(sizes), 1, length)
    starts = np.floor(chances * (length - sizes + 1))
    after_start = np.arange(length) - starts[:, None]
    inside: NDArray[np.bool_] = (after_start >= 0) & (after_start < sizes[:, None])
    return inside
