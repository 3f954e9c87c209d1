"""Networks whose training step takes one time: the solved number is found by measurement.

A time has no closed form. The smallest network of each cell and a deeper one are measured, a line
through two times gives the next size, and so on until the nearest size is measured.
"""

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from archsearch.core.cell import Cell
from archsearch.core.family import Family
from archsearch.core.numbers import quoted
from archsearch.space.grid import Invalid, Space, legal_variant

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}

GROWTH = 4
"""A size is extrapolated to at most this multiple of the largest that was measured."""

Times = Mapping[Family, float]
"""Measured seconds per image by network."""


@dataclass(frozen=True)
class StepBudget:
    """Seconds per image of a training step, or a latency; a network meets it within ``tolerance``,
    a fraction."""

    seconds: float
    tolerance: float

    @classmethod
    def parse(
        cls, text: str, tolerance: float, of: str = "the time of a training step per image"
    ) -> "StepBudget":
        """Parse ``2ms``, ``500us`` or ``0.1s``; ``of`` says in a message what the time is.

        Raises:
            ValueError: the text is no time above 0, or the tolerance no fraction above 0.
        """
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s)\s*", text, re.ASCII)
        seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
        if not 0 < seconds <= 3600:
            raise ValueError(
                f"a budget by seconds is {of}, such as 2ms or 500us, at most an hour, got "
                f"{quoted(text)}"
            )
        if not 0 < tolerance < 1:
            raise ValueError(f"tolerance must be a fraction 0 < t < 1, got {tolerance}")
        return cls(seconds, tolerance)

    @staticmethod
    def is_time(text: str) -> bool:
        """Whether the unit of a budget is one of time."""
        return re.search(r"\d\s*[um]?s\s*$", text) is not None

    def refusal(self, seconds: float) -> str | None:
        """The reason why a measured time does not meet this budget; None when it does."""
        deviation = seconds / self.seconds - 1
        if abs(deviation) <= self.tolerance:
            return None
        side = "over" if deviation > 0 else "under"
        return (
            f"{time_text(seconds)} is {abs(deviation):.1%} {side} the budget of {self} "
            f"(tolerance {100 * self.tolerance:g}%)"
        )

    def __str__(self) -> str:
        return time_text(self.seconds)


def time_text(seconds: float) -> str:
    """Return seconds per image as ``2.5ms``."""
    unit, size = next(((u, s) for u, s in _UNITS.items() if seconds < 1000 * s), ("s", 1.0))
    return f"{seconds / size:.3g}{unit}"


def next_sizes(space: Space, invalid: Invalid, budget: StepBudget, times: Times) -> list[Family]:
    """The networks to measure next, those of all cells together; empty if all are found."""
    starts = (legal_variant(space.like, v, invalid)[0] for v in space.coordinates())
    sizes = (size for start in starts if start for size in _next(start, budget, times))
    return list(dict.fromkeys(sizes))


def _next(start: Family, budget: StepBudget, times: Times) -> Iterable[Family]:
    known, first = sizes_of(start, times), start.solved_value
    for size in (first, 2 * first + 2):
        if size not in known:
            return [start, start.with_solved(2 * first + 2)]
    if known[first] >= budget.seconds:
        return []
    size = min(max(_crossing(known, budget.seconds), first), GROWTH * max(known))
    return [] if size in known else [start.with_solved(size)]


def sizes_of(start: Family, times: Times) -> dict[int, float]:
    """The times of a cell's networks by the solved number, ascending; ``start`` is one of them."""
    same = {v.solved_value: t for v, t in times.items() if _at_start(v, start) == start}
    return dict(sorted(same.items()))


def _at_start(variant: Family, start: Family) -> Family | None:
    same = type(variant) is type(start)
    return variant.unchecked(**{start.solved: start.solved_value}) if same else None


def _crossing(known: Mapping[int, float], target: float) -> int:
    """The solved number at which the time crosses ``target``, by a line through two sizes.

    The two are those around the target, else the largest two. Where the line does not rise, which
    is noise, the largest size is doubled.
    """
    sizes = list(known)
    high = next((i for i in range(1, len(sizes)) if known[sizes[i]] >= target), len(sizes) - 1)
    low, top = sizes[high - 1], sizes[high]
    slope = (known[top] - known[low]) / (top - low)
    return 2 * sizes[-1] if slope <= 0 else round(low + (target - known[low]) / slope)


def timed_cells(
    space: Space,
    invalid: Invalid,
    budget: StepBudget,
    times: Times,
    predicted: Container[Family] = (),
) -> tuple[Cell, ...]:
    """One cell per coordinate of the space: the network with the nearest time.

    The times of ``predicted`` networks were not measured.
    """
    return tuple(
        _cell(space, values, invalid, budget, times, predicted) for values in space.coordinates()
    )


def _cell(
    space: Space,
    values: Mapping[str, int],
    invalid: Invalid,
    budget: StepBudget,
    times: Times,
    predicted: Container[Family],
) -> Cell:
    start, repair = legal_variant(space.like, values, invalid)
    if start is None:
        return Cell(values, "infeasible", None, None, repair)
    known = sizes_of(start, times)
    size = min(known, key=lambda size: abs(known[size] - budget.seconds))
    variant = start.with_solved(size)
    if refusal := budget.refusal(known[size]):
        how = "by prediction" if variant in predicted else "that was measured"
        reason = f"{variant.name} is the closest {how}: {refusal}"
        return Cell(values, "infeasible", None, None, "; ".join(filter(None, (repair, reason))))
    fate = "repaired" if repair else "exact"
    return Cell(values, fate, variant, variant.cost(), repair, variant.published())  # type: ignore[arg-type]
