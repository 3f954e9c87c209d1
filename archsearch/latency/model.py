"""Latency as a sum of layers: one rate >= 0 per feature, from few measured networks.

The features of a network are of the shapes of its layers, counted on the meta device, so that any
family has them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from archsearch.core.closed_form import cost_of
from archsearch.core.counted_cost import counted_layers
from archsearch.core.family import Family
from archsearch.stats.nonnegative import nonnegative_rates, weighted_sum

LEVEL = 0.95
"""Confidence of the interval of a prediction."""

FEATURES = ("dense_macs", "channel_macs", "elements", "calls", "params")
"""Multiply-adds of matrix products and plain convolutions; those of operators that compute each
channel for itself (depth-wise convolution, sampling); output elements of all these; their calls;
weights, which are read once per image."""

Row = tuple[float, ...]
T = TypeVar("T")


def features(variant: Family, image_size: int, num_classes: int) -> Row:
    """Return `FEATURES` of a network for one image.

    Raises:
        BuildFault: the network cannot be built or run.
    """
    layers = counted_layers(variant, image_size, image_size, num_classes)
    own = [values for name, values in layers.items() if _is_by_channel(name)]
    macs, elements, calls = (sum(column) for column in zip(*layers.values(), strict=True))
    by_channel = sum(values[0] for values in own)
    params = cost_of(variant, image_size, image_size, num_classes).params
    return tuple(map(float, (macs - by_channel, by_channel, elements, calls, params)))


@lru_cache(maxsize=4096)
def growth(start: Family, image_size: int, num_classes: int) -> tuple[Row, Row] | None:
    """Return the features of a network, and what each step of its solved number adds to them.

    None if the first two steps do not add the same, as where a width is solved.
    """
    first, second, third = (
        features(start.with_solved(start.solved_value + step), image_size, num_classes)
        for step in range(3)
    )
    step = tuple(b - a for a, b in zip(first, second, strict=True))
    return (
        (first, step) if step == tuple(c - b for b, c in zip(second, third, strict=True)) else None
    )


def _is_by_channel(name: str) -> bool:
    """Torch's other operators with a FLOP formula mix channels; a user's own may not."""
    return name.endswith(" grouped") or not name.startswith("aten::")


@dataclass(frozen=True)
class LatencyModel:
    """``rates`` in seconds per unit of each feature, and the relative ``error`` of a prediction.

    The error is the root mean square of those of the measured networks, each predicted from the
    others; None with fewer than three networks.
    """

    rates: tuple[float, ...]
    error: float | None
    num_networks: int

    @classmethod
    def fit(cls, rows: Sequence[Row], seconds: Sequence[float]) -> "LatencyModel":
        """Return the model of measured networks."""
        num = len(rows)
        error = None
        if num >= 3:
            left_out = predicted_from_others(rows, seconds)
            errors = [s / p - 1 if p > 0 else 1.0 for s, p in zip(seconds, left_out, strict=True)]
            error = math.sqrt(sum(e**2 for e in errors) / num)
        return cls(tuple(nonnegative_rates(rows, seconds)), error, num)

    def seconds(self, row: Row) -> float:
        """Return the predicted latency of a network."""
        return weighted_sum(self.rates, row)

    @property
    def half_width(self) -> float:
        """Half of the interval of a prediction, relative to it; infinite if it is not known."""
        from archsearch.stats.intervals import t_quantile  # loads numpy, which a plan does not need

        if self.error is None:
            return math.inf
        return t_quantile((1 + LEVEL) / 2, self.num_networks - 1) * self.error


def predicted_from_others(rows: Sequence[Row], seconds: Sequence[float]) -> list[float]:
    """Return the latency of each network by the model of all others."""
    return [
        weighted_sum(
            nonnegative_rates(_without(rows, i), _without(seconds, i)),
            rows[i],
        )
        for i in range(len(rows))
    ]


def _without(values: Sequence[T], i: int) -> list[T]:
    return [*values[:i], *values[i + 1 :]]
