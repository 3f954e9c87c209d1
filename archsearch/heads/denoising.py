"""Contrastive denoising (Zhang et al., ICLR 2023): queries that start from objects with noise.

Queries come in groups. Each group has every object twice: with a little noise, to be recovered, and
with more, to be recognized as no object. In training only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from archsearch.heads.query_boxes import centered, corners

NUM_OBJECTS = 100
"""Objects with little noise per image, in as many groups as fit; at least one group."""

FLIPPED = 0.25
"""The part of the labels that are replaced by a random one (a label noise of 0.5)."""

BOX_NOISE = 1.0
"""Each corner moves by less than this many halves of its box's sides, and by once to twice as much
in boxes that are no object."""

MATCHED, PADDING = 0, -1
"""The groups of the queries that are matched to objects, and of those that only fill a batch."""


@dataclass(frozen=True, eq=False)
class Noisy:
    """The D denoising queries of an image with M objects.

    Args:
        labels: ``(D,)`` int64, some of which are wrong.
        boxes: ``(D, 4)``, parts of the image's sides.
        index: ``(D,)`` the object that a query is made from.
        positive: ``(D,)`` whether the query recovers its object.
        group: ``(D,)`` from 1.
    """

    labels: Tensor
    boxes: Tensor
    index: Tensor
    positive: Tensor
    group: Tensor


def noisy(labels: Tensor, boxes: Tensor, num_classes: int) -> Noisy:
    """Queries of an image's objects, with noise from torch's global generator.

    Args:
        labels: ``(M,)`` int64.
        boxes: ``(M, 4)``, parts of the image's sides.
        num_classes: K; labels are below.
    """
    num = len(labels)
    num_groups = max(1, NUM_OBJECTS // max(num, 1))
    index = torch.arange(num, device=labels.device).repeat(2 * num_groups)
    half = torch.arange(2 * num_groups, device=labels.device).repeat_interleave(num)
    positive = half % 2 == 0
    is_flipped = torch.rand(len(index), device=labels.device) < FLIPPED
    other = torch.randint(num_classes, index.shape, device=labels.device)
    return Noisy(
        labels=torch.where(is_flipped, other, labels[index]),
        boxes=_moved(boxes[index], positive),
        index=index,
        positive=positive,
        group=half // 2 + 1,
    )


def _moved(boxes: Tensor, positive: Tensor) -> Tensor:
    part = torch.rand_like(boxes) + (~positive)[:, None]
    sign = torch.where(torch.rand_like(boxes) < 0.5, -1.0, 1.0)
    halves = boxes[:, 2:].repeat(1, 2) / 2
    return centered((corners(boxes) + BOX_NOISE * sign * part * halves).clamp(0, 1))


def padded(values: Sequence[Tensor], fill: float) -> Tensor:
    """Tensors ``(D_n, ...)`` of N images as one ``(N, D, ...)``, with ``fill`` at the ends."""
    return torch.nn.utils.rnn.pad_sequence(list(values), batch_first=True, padding_value=fill)


def attention_mask(groups: Tensor) -> Tensor:
    """``(N, 1, Q, Q)`` bool: which queries (last dimension) each query (third) attends to.

    All attend to the matched queries, and else only to their own group: no object leaks into the
    queries that have to find it, nor from one group into another.

    Args:
        groups: ``(N, Q)``, `MATCHED`, `PADDING`, or the number of a denoising group.
    """
    own, other = groups[:, :, None], groups[:, None]
    return ((other == MATCHED) | (other == own))[:, None]
