"""Scaling of an InternImage by alpha, beta and phi (Section 3.2), with rounding to a legal model.

``D' = alpha^phi D`` and ``C1' = beta^phi C1`` with ``alpha, beta >= 1`` and
``alpha * beta^1.99 ~ 2``, so that one step of phi doubles the model. C1' must be a multiple of C'
and D' a whole number. The paper only says that "some adjustment is required" (supplement C.2), so
the rounding is a named policy here.
"""

from collections.abc import Callable, Iterator
from math import lcm, log, log2
from typing import Any, Protocol, Self, TypeVar

from archsearch.core.budget import Budget
from archsearch.core.cost import Cost
from archsearch.families.internimage_cost import count, count_parts, operator_macs
from archsearch.space.grid import solve
from archsearch.space.scaling import check_factors
from internimage.config import ModelConfig


class FourNumbers(Protocol):
    """The attributes of `archsearch.families.internimage.Variant` that this module uses."""

    @property
    def c1(self) -> int: ...
    @property
    def group_channels(self) -> int: ...
    @property
    def l1(self) -> int: ...
    @property
    def l3(self) -> int: ...
    @property
    def depth(self) -> int: ...
    def with_numbers(self, *numbers: int) -> Self: ...
    def config(self) -> ModelConfig: ...
    def cost(self) -> Cost: ...


V = TypeVar("V", bound=FourNumbers)

SIZE_TOLERANCE = 0.01
"""The largest relative deviation from a step's budget if sizes are to be equal."""

L1_RANGE = 2
"""How far L1 may be from the origin's if sizes are to be equal: from T to H it grows from 4 to 6
(Table 1)."""


def nearest_multiple(c1: float, group_channels: int) -> int:
    """The legal width closest to ``c1``: even, a multiple of C', above 0; ties upwards."""
    step = lcm(2, group_channels)
    return max(1, int(c1 / step + 0.5)) * step


def exponent(
    origin: FourNumbers, axis: str = "params", *, classifier: bool = True, operator: bool = True
) -> float:
    """The exponent of the width: log2 of the cost ratio when C1 doubles at constant depth.

    This is the 1.99 of ``alpha * beta^1.99 ~ 2``. From T: parameters 1.977, without the last Linear
    (``classifier=False``) 1.995; multiply-adds 1.981, without the operator's samples
    (``operator=False``) 1.995. The paper does not say which of these its 1.99 is.
    """
    wide = origin.with_numbers(2 * origin.c1, origin.group_channels, origin.l1, origin.l3)
    values = [_measure(v.config(), axis, classifier, operator) for v in (origin, wide)]
    return log2(values[1] / values[0])


def _measure(config: ModelConfig, axis: str, classifier: bool, operator: bool) -> int:
    cost, last = count(config), count_parts(config)["classifier"]
    if axis == "params":
        return cost.params - (0 if classifier else last.params)
    samples = 0 if operator else operator_macs(config)
    return cost.macs - samples - (0 if classifier else last.macs)


def round_nearest(origin: V, depth: float, c1: float) -> V:
    """Round C1 to the nearest multiple of C' and D to the nearest integer, ties upwards; keep L1.

    From T with the best pair this gives S at phi = 1.
    """
    return _split(origin, int(depth + 0.5), nearest_multiple(c1, origin.group_channels))


def round_floor(origin: V, depth: float, c1: float) -> V:
    """Round C1 down to a multiple of C' and D down to an integer; keep L1."""
    step = lcm(2, origin.group_channels)
    return _split(origin, int(depth), max(1, int(c1 / step)) * step)


def round_budget(origin: V, depth: float, c1: float) -> V:
    """Round C1 to the nearest multiple of C' and solve L3 for the size before rounding; keep L1.

    The size before rounding is the origin's parameters times ``(D'/D) (C1'/C1)^exponent``.
    """
    params = origin.cost().params * (depth / origin.depth)
    target = Budget(round(params * (c1 / origin.c1) ** exponent(origin)))
    wide: Any = _split(origin, origin.depth, nearest_multiple(c1, origin.group_channels))
    solved: V = solve(wide, target)
    return solved


def round_equal_size(origin: V, depth: float, c1: float, phi: int) -> V:
    """Take the network of the step's size whose ratio of depth to width is closest to D'/C1'.

    The size is the origin's parameters times 2^phi, within `SIZE_TOLERANCE`, for every pair. It
    leaves a pair only the ratio D/C1. With L1 fixed, neighboring widths differ in D by a third or
    more, so L1 may move by `L1_RANGE`.

    Raises:
        ValueError: no network near this width has the size.
    """
    budget = equal_size_budget(origin, phi)
    sized = [v for v in _of_size(origin, c1, budget) if budget.refusal(v.cost()) is None]
    if not sized:
        raise ValueError(
            f"no network with C' = {origin.group_channels} and L1 within {L1_RANGE} of "
            f"{origin.l1} is within {budget.tolerance:.0%} of {budget} at phi = {phi}: take a "
            "larger origin or another rounding"
        )
    ratio = log(depth / c1)
    return min(sized, key=lambda v: abs(log(v.depth / v.c1) - ratio))


def equal_size_budget(origin: FourNumbers, phi: int) -> Budget:
    """The one size of all pairs at this step: 2^phi times the origin, as the rule means it."""
    return Budget(origin.cost().params * 2**phi, tolerance=SIZE_TOLERANCE)


def _of_size(origin: V, c1: float, budget: Budget) -> Iterator[V]:
    """Networks with widths around ``c1``, each with the L3 closest to the budget."""
    step = lcm(2, origin.group_channels)
    for width in range(max(1, int(c1 / 1.5 / step)) * step, int(1.5 * c1) + step, step):
        for l1 in range(max(1, origin.l1 - L1_RANGE), origin.l1 + L1_RANGE + 1):
            smallest: Any = origin.with_numbers(width, origin.group_channels, l1, l1)
            yield solve(smallest, budget)


def _split(origin: V, depth: int, c1: int) -> V:
    """A variant of this depth: L1 is the origin's, and stage 3 takes the rest.

    S and B follow from T in this way (Table 1: L1 = 4 in all three). L, XL and H also raise L1; the
    paper does not print a rule for it.
    """
    return origin.with_numbers(c1, origin.group_channels, origin.l1, depth - 3 * origin.l1)


ROUNDINGS: dict[str, Callable[[Any, float, float], Any]] = {
    "nearest": round_nearest,
    "floor": round_floor,
    "budget": round_budget,
}
"""Name -> function that returns a legal variant from (origin, D', C1')."""

EQUAL_SIZE = "equal-size"
ROUNDING_NAMES = (*ROUNDINGS, EQUAL_SIZE)


def scale(origin: V, alpha: float, beta: float, phi: int, rounding: str = "nearest") -> V:
    """The origin scaled by phi steps and rounded by the named policy; phi = 0 gives the origin.

    Raises:
        ValueError: a factor is below 1, phi is negative, the rounding is unknown, or as
            `round_equal_size`.
    """
    check_factors(alpha, beta)
    if phi < 0:
        raise ValueError(f"phi must be a whole number >= 0, got {phi}")
    if rounding not in ROUNDING_NAMES:
        raise ValueError(f"rounding must be one of {', '.join(ROUNDING_NAMES)}, got {rounding!r}")
    if phi == 0:
        return origin
    unrounded = _unrounded(origin, alpha, beta, phi)
    if rounding == EQUAL_SIZE:
        return round_equal_size(origin, *unrounded, phi)
    variant: V = ROUNDINGS[rounding](origin, *unrounded)
    return variant


def _unrounded(origin: FourNumbers, alpha: float, beta: float, phi: int) -> tuple[float, float]:
    """(D', C1') without floating-point noise, so that 1.1 * 30 is exactly 33."""
    return round(alpha**phi * origin.depth, 9), round(beta**phi * origin.c1, 9)


def rounding_note(
    origin: FourNumbers,
    variant: FourNumbers,
    alpha: float,
    beta: float,
    phi: int,
    rounding: str,
) -> str:
    """Describe what was rounded to get ``variant`` from the origin; empty if nothing was."""
    depth, c1 = _unrounded(origin, alpha, beta, phi)
    if (depth, c1, origin.l1) == (variant.depth, variant.c1, variant.l1):
        return ""
    l1 = "stays" if variant.l1 == origin.l1 else f"{origin.l1} ->"
    return (
        f"C1 {c1:.1f} -> {variant.c1}, D {depth:.1f} -> {variant.depth} (rounding {rounding!r}, "
        f"L1 {l1} {variant.l1})"
    )
