"""The networks of a grid that take one latency: the solved number by prediction and measurement.

First the smallest networks of a few cells are measured, then networks that are predicted to take
the time, spread over the cells. The model of these predicts the others. Where the interval of a
prediction crosses the tolerance, the network is measured, and the ratio to its prediction corrects
those of the cell's other sizes.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from archsearch.core.family import Family
from archsearch.latency.design import MAX_MEASURED, spread
from archsearch.latency.known import Latencies
from archsearch.space.crossing import first_above
from archsearch.space.grid import Invalid, Space, legal_variant
from archsearch.space.step_budget import StepBudget, sizes_of

NUM_FIRST = 4
"""This many of the smallest networks are measured before any is predicted."""

LARGEST_GROWTH = 256
"""The solved number is at most so much larger than the smallest."""


@dataclass(frozen=True)
class Solver:
    """The cells of a space under a budget of latency, with what is ``known`` so far."""

    space: Space
    invalid: Invalid
    budget: StepBudget
    known: Latencies

    def for_model(self) -> list[Family]:
        """The networks to measure next for the model; empty if it has all of them."""
        first = spread(self._starts(), NUM_FIRST)
        if missing := [v for v in first if v not in self.known.fitted]:
            return missing
        if len(self.known.fitted) > len(first):
            return []
        predicted = [self._nearest(start) for start in self._starts()]
        return spread(predicted, MAX_MEASURED - len(first), self.known.fitted)

    def doubtful(self) -> list[Family]:
        """The networks whose predictions do not decide; empty if every cell is solved."""
        pairs = ((start, self._nearest(start)) for start in self._starts())
        return list(dict.fromkeys(v for start, v in pairs if self._is_doubtful(start, v)))

    def times(self) -> Mapping[Family, float]:
        """Seconds of the measured networks, and of predicted ones where they decide a cell."""
        pairs = ((start, self._nearest(start)) for start in self._starts())
        predicted = {
            v: self.known.predicted(v)
            for start, v in pairs
            if v not in self.known.measured and not self._is_doubtful(start, v)
        }
        return {**predicted, **self.known.measured}

    def _starts(self) -> Iterator[Family]:
        """The smallest network of each cell, once."""
        cells = (
            legal_variant(self.space.like, values, self.invalid)[0]
            for values in self.space.coordinates()
        )
        yield from dict.fromkeys(start for start in cells if start is not None)

    def _nearest(self, start: Family) -> Family:
        """The cell's network whose latency is closest to the budget, as far as is known.

        A measured one within half of the tolerance is close enough.
        """
        first, known = start.solved_value, sizes_of(start, self.known.measured)
        target = self.budget.seconds
        best = min(known, key=lambda size: abs(known[size] - target), default=first)
        if known and abs(known[best] - target) <= self.budget.tolerance / 2 * target:
            return start.with_solved(best)

        def seconds(size: int) -> float:
            if size > first + LARGEST_GROWTH:
                return math.inf
            predicted = self.known.predicted_size(start, size)
            if not known:
                return predicted
            nearest = min(known, key=lambda n: abs(n - size))
            return predicted * known[nearest] / self.known.predicted_size(start, nearest)

        above = first_above(seconds, first, target, lambda _: None)
        is_lower = above > first and target - seconds(above - 1) <= seconds(above) - target
        return start.with_solved(above - is_lower)

    def _is_doubtful(self, start: Family, variant: Family) -> bool:
        """Whether a network must be measured: its interval crosses a limit of the budget.

        A cell with a measured network is decided by measured ones alone.
        """
        if variant in self.known.measured:
            return False
        if sizes_of(start, self.known.measured):
            return True
        low, high = self.known.range(variant)
        return any(
            low <= (1 + side) * self.budget.seconds <= high
            for side in (-self.budget.tolerance, self.budget.tolerance)
        )
