"""Losses of a head: of each image, a sum and the weight that the sum is divided by.

Sums and weights of several processes or parts of a batch can be joined, so a loss of all is the
ratio of the two totals, or the mean over the images of their own ratios.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

Loss = tuple[Tensor, Tensor]
"""Sums ``(N,)``, with their gradients, and weights ``(N,)`` of N images: the number of boxes or
masks that the sum is the mean over."""

Losses = dict[str, Loss]


def total(losses: Mapping[str, Loss]) -> Tensor:
    """The sum of all losses, each the mean over the boxes or masks of all images.

    A loss without boxes is 0 and has zero gradients.
    """
    return cast(Tensor, sum(v.sum() / w.sum().clamp(min=1) for v, w in losses.values()))


def total_of_images(losses: Mapping[str, Loss]) -> Tensor:
    """The sum ``(N,)`` of all losses of each image, each the mean over the image's boxes or masks.

    Nothing in it depends on other images, unlike `total`. The two are equal where every image has
    as many boxes: the samples of the proposal network always, masks only by chance.
    """
    return cast(Tensor, sum(value / weight.clamp(min=1) for value, weight in losses.values()))


def joined(losses: Iterable[Losses]) -> Losses:
    """Losses of the same names of several images or batches, as one batch."""
    first, *others = losses
    return {
        name: (
            torch.cat([value, *(other[name][0] for other in others)]),
            torch.cat([weight, *(other[name][1] for other in others)]),
        )
        for name, (value, weight) in first.items()
    }


def of_images(values: Tensor, lengths: Sequence[int]) -> Loss:
    """The loss of images with these numbers of values, by the values of all images in a row."""
    sums = torch.stack([part.sum() for part in torch.split(values, list(lengths))])
    return sums, values.new_tensor(lengths)
