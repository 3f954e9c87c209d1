"""A target size for a network, such as ``30M`` parameters or ``5G`` multiply-adds."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

from archsearch.core.cost import Cost
from archsearch.core.numbers import quoted

Axis = Literal["params", "macs"]

DEFAULT_TOLERANCE = 0.05

_AXIS_NAMES: dict[str, Axis] = {
    "params": "params", "param": "params", "parameters": "params", "macs": "macs", "mac": "macs",
}  # fmt: skip

_UNITS: dict[str, tuple[int, Axis | None]] = {
    "": (1, None),
    "K": (10**3, "params"),
    "M": (10**6, "params"),
    "B": (10**9, "params"),
    "G": (10**9, "macs"),
}
"""Suffix -> multiplier, and the axis that the suffix implies. The paper writes 30M and 1.08B for
parameters and 5G for multiply-adds."""

LARGEST = 10**15
"""The largest budget: a text of 15 digits gives back every number up to it."""

MIN_PLAIN = 1000
"""A smaller number without a unit is refused: 30 probably means 30M."""

_PATTERN = re.compile(
    r"\s*(\d+(?:_\d+)*(?:\.\d+)?(?:e[+-]?\d{1,3})?)\s*([kmgb]?)\s*"
    r"(|params?|parameters|macs?|flops?)\s*",
    re.IGNORECASE | re.ASCII,
)

_EXPECTED = (
    "a budget is a positive number with a unit, like 30M (parameters), 5G (multiply-adds), "
    "'600M macs' or '1.1G params', or a plain number of parameters such as 3e7"
)


@dataclass(frozen=True)
class Budget:
    """``target`` units of ``axis``; a cost meets it within ``tolerance``, a fraction, either way.

    Budgets use the paper's counting: 1000 classes at 224 x 224, whatever data is trained on.

    Raises:
        ValueError: lists every wrong field.
    """

    target: int
    axis: Axis = "params"
    tolerance: float = DEFAULT_TOLERANCE

    def __post_init__(self) -> None:
        problems = []
        if not 1 <= self.target <= LARGEST:
            problems.append(f"target must be from 1 to {LARGEST:.0e}, got {quoted(self.target)}")
        if self.axis not in get_args(Axis):
            problems.append(f"axis must be one of {', '.join(get_args(Axis))}, got {self.axis!r}")
        if not 0 <= self.tolerance < 1:
            problems.append(f"tolerance must be a fraction 0 <= t < 1, got {self.tolerance}")
        if problems:
            raise ValueError(f"not a budget: {'; '.join(problems)}")

    @classmethod
    def parse(cls, text: str, tolerance: float = DEFAULT_TOLERANCE) -> "Budget":
        """Parse ``30M``, ``5G``, ``600M macs``, ``1.1G params`` or ``30_000_000``.

        Without a unit the suffix decides: K, M and B are parameters, G is multiply-adds. A number
        from `MIN_PLAIN` on without unit and suffix is parameters.

        Raises:
            ValueError: the text is not a budget; the message shows valid ones.
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(f"{_EXPECTED}; got {quoted(text)}")
        number, suffix, unit = match[1], match[2].upper(), match[3].lower()
        if unit.startswith("flop"):
            raise ValueError(
                f"what the paper prints as FLOPs are multiply-adds: write macs in {text!r}"
            )
        multiplier, implied = _UNITS[suffix]
        value, axis = Decimal(number) * multiplier, _AXIS_NAMES.get(unit, implied)
        if axis is None and value < MIN_PLAIN:
            raise ValueError(f"{_EXPECTED}; got {quoted(text)}")
        if value > LARGEST:
            raise ValueError(f"a budget is at most {LARGEST:.0e}, got {quoted(text)}")
        return cls(round(value), axis or "params", tolerance)

    def value(self, cost: Cost) -> int:
        """Parameters or multiply-adds of ``cost``, whichever this budget limits."""
        return cost.params if self.axis == "params" else cost.macs

    def deviation(self, cost: Cost) -> float:
        """Relative difference from the target, signed: 0.02 is 2% above it."""
        return self.value(cost) / self.target - 1

    def refusal(self, cost: Cost) -> str | None:
        """The reason why ``cost`` does not meet this budget; None when it does."""
        if abs(self.value(cost) - self.target) <= self.tolerance * self.target:
            return None
        deviation = self.deviation(cost)
        side = "over" if deviation > 0 else "under"
        return (
            f"{readable(self.value(cost), self.axis)} is {abs(deviation):.1%} {side} the budget of "
            f"{self} (tolerance {100 * self.tolerance:g}%)"
        )

    def __str__(self) -> str:
        """The text that `parse` reads, such as ``30M params``."""
        suffix, unit = _suffix(self.target, self.axis)
        return f"{self.target / unit:.15g}{suffix} {self.axis}"


def readable(value: int, axis: Axis) -> str:
    """Format with three significant digits and the unit: ``36.0M params``, ``4.89G macs``."""
    suffix, unit = _suffix(value, axis)
    number = f"{value / unit:#.3g}".rstrip(".") if unit > 1 else str(value)
    return f"{number}{suffix} {axis}"


def _suffix(value: int, axis: Axis) -> tuple[str, int]:
    units = [("G" if axis == "macs" else "B", 10**9), ("M", 10**6), ("K", 10**3)]
    return next(((s, u) for s, u in units if value >= 0.9995 * u), ("", 1))  # 999,999 is 1.00M
