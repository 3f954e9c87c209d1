"""Mixup and cutmix: images and labels of a batch mixed with one another."""

from functools import partial

import torch
from torch import Tensor
from torch.distributions import Beta

from archsearch.core.recipe import Recipe


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
    mixed, share = mixers[_below(len(mixers))](images, images.flip(0))
    classes = torch.arange(num_classes, device=labels.device)
    one_hot = (labels[:, None] == classes).to(images.dtype)
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
    center, half = _below(length), int(length * share) // 2
    return max(center - half, 0), min(center + half, length)


def _below(end: int) -> int:
    """A random whole number from 0 to ``end`` - 1."""
    return int(torch.randint(end, ()).numpy())


def _beta(alpha: float) -> float:
    return float(Beta(alpha, alpha, validate_args=False).sample().numpy())
