"""Non-maximum suppression in plain torch, or by torchvision's compiled function where it imports.

Both keep the same boxes. torchvision does not import beside every build of torch, so it is not a
dependency. On a CPU plain torch is not slower (`archsearch.benchmarks.detection_step`).
"""

import logging
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import cast

import torch
from torch import Tensor

from archsearch.heads.boxes import iou

log = logging.getLogger("archsearch")

BLOCK = 256
"""Boxes whose overlaps with each other are in memory at once."""

Nms = Callable[[Tensor, Tensor, float], Tensor]


def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Indices of the boxes that are kept, by falling score.

    A box is kept unless its IoU with a kept box of higher score is above ``threshold``; of two
    equal scores the earlier one counts as higher.

    Args:
        boxes: ``(M, 4)``.
        scores: ``(M,)``.
        threshold: from 0 to 1.
    """
    return chosen_nms()(boxes, scores, threshold)


@cache
def chosen_nms() -> Nms:
    """torchvision's function if it imports, else `plain_nms`; logs the choice once, as info."""
    try:
        compiled = import_module("torchvision").ops.nms
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        log.info("non-maximum suppression in plain torch: torchvision does not import (%s)", error)
        return plain_nms
    log.info("non-maximum suppression by torchvision")
    return cast(Nms, compiled)


def plain_nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """`nms` in plain torch: a block of the highest scores at a time, which suppresses the rest."""
    rest, kept = scores.argsort(descending=True, stable=True), [scores.new_zeros(0).long()]
    while len(rest):
        block, rest = rest[:BLOCK], rest[BLOCK:]
        kept.append(block[_kept_in_block(boxes[block], threshold)])
        suppressed = (iou(boxes[kept[-1]], boxes[rest]) > threshold).any(0)
        rest = rest[~suppressed]
    return torch.cat(kept)


def _kept_in_block(boxes: Tensor, threshold: float) -> Tensor:
    """Which of the boxes, by falling score, no kept box before them suppresses.

    All are decided at once from the previous decision, until it repeats. A box is decided rightly
    after as many steps as there are boxes in the longest chain of overlaps that leads to it, which
    is far fewer than the kept boxes.
    """
    overlaps = (iou(boxes, boxes) > threshold).triu(1).float()
    kept = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    while True:
        previous, kept = kept, kept.float() @ overlaps < 0.5  # a product is faster than `any`
        if torch.equal(previous, kept):
            return kept


def grouped_nms(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """`nms` within each group of boxes, such as a class; the kept ones of all by falling score.

    Args:
        boxes, scores, threshold: as of `nms`.
        groups: ``(M,)`` int64; boxes of different groups do not suppress each other.
    """
    kept = torch.zeros_like(groups, dtype=torch.bool)
    for group in torch.unique(groups):
        members = (groups == group).nonzero()[:, 0]
        kept[members[nms(boxes[members], scores[members], threshold)]] = True
    indices = kept.nonzero()[:, 0]
    return indices[scores[indices].argsort(descending=True, stable=True)]
