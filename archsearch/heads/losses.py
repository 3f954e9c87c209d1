"""Losses of a head: each is a sum and the weight that the sum is divided by.

Sums and weights of several processes or parts of a batch add up, so a loss of all is the ratio of
the two totals.
"""

from collections.abc import Iterable, Mapping
from typing import cast

from torch import Tensor

Loss = tuple[Tensor, Tensor]
"""The sum, with its gradient, and the weight: the number of boxes or masks it is the mean over."""

Losses = dict[str, Loss]


def total(losses: Mapping[str, Loss]) -> Tensor:
    """The sum of all mean losses; a loss without boxes is 0 and has zero gradients."""
    return cast(Tensor, sum(value / weight.clamp(min=1) for value, weight in losses.values()))


def added(losses: Iterable[Losses]) -> Losses:
    """Losses of the same names, each with its sums and its weights added."""
    first, *others = losses
    for other in others:
        first = {name: (s + other[name][0], w + other[name][1]) for name, (s, w) in first.items()}
    return first
