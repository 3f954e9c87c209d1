"""Scaling of a network by alpha, beta and phi (Section 3.2), with rounding.

``D' = alpha^phi D`` and ``C1' = beta^phi C1`` with ``alpha, beta >= 1``; for InternImage
``alpha * beta^1.99 ~ 2``, so that one step of phi doubles the model. C1' must be a multiple of the
family's step (C' for InternImage) and D' a whole number. The paper only says that "some adjustment
is required" (supplement C.2), so the rounding is a named policy here.
"""

from collections.abc import Callable, Iterator
from math import log, log2
from typing import Any, Protocol, Self, TypeVar

from archsearch.core.budget import Budget
from archsearch.core.cost import Cost
from archsearch.space.grid import solve
from archsearch.space.scaling import check_factors


class Scalable(Protocol):
    """What a variant needs to scale: a depth, a width, and what it does with its other numbers.

    ``depth`` is the number of blocks; ``base_width``, the width that others follow from, is rounded
    to multiples of ``width_step``. ``resized`` gives the variant with another depth and width.
    ``shapes`` gives the variants of a width that may differ in the other numbers if sizes are to be
    equal, each with the smallest solved number and the closest to this variant first;
    ``shapes_text`` says which. ``rounded_text`` describes the numbers before and after rounding, or
    is empty if they are equal.
    """

    @property
    def depth(self) -> int: ...
    @property
    def base_width(self) -> int: ...
    @property
    def width_step(self) -> int: ...
    @property
    def shapes_text(self) -> str: ...
    def resized(self, depth: int, width: int) -> Self: ...
    def shapes(self, width: int) -> Iterator[Self]: ...
    def rounded_text(self, origin: Self, depth: float, width: float, rounding: str) -> str: ...
    def cost(self) -> Cost: ...


V = TypeVar("V", bound=Scalable)

SIZE_TOLERANCE = 0.01
"""The largest relative deviation from a step's budget if sizes are to be equal."""


def nearest_multiple(width: float, step: int) -> int:
    """The multiple of ``step`` closest to ``width``, above 0; ties upwards."""
    return max(1, int(width / step + 0.5)) * step


def exponent(origin: V, size: Callable[[V], int]) -> float:
    """The exponent of the width: log2 of the growth of ``size`` if it doubles at constant depth."""
    wide = origin.resized(origin.depth, 2 * origin.base_width)
    return log2(size(wide) / size(origin))


def growth_factor(alpha: float, beta: float, by_width: float) -> tuple[float, str]:
    """The factor of one step of phi for this exponent of the width, and its formula."""
    return alpha * pow(beta, by_width), f"alpha * beta^{by_width:.3f}"


def round_nearest(origin: V, depth: float, width: float) -> V:
    """Round the width to the nearest multiple of its step and D to an integer, ties upwards.

    From T with the best pair this gives S at phi = 1.
    """
    return origin.resized(int(depth + 0.5), nearest_multiple(width, origin.width_step))


def round_floor(origin: V, depth: float, width: float) -> V:
    """Round the width down to a multiple of its step and D down to an integer."""
    step = origin.width_step
    return origin.resized(int(depth), max(1, int(width / step)) * step)


def round_budget(origin: V, depth: float, width: float) -> V:
    """Round the width to the nearest multiple of its step, and solve for the unrounded size.

    That size is the origin's parameters times ``(D'/D) (C1'/C1)^exponent``.
    """
    params = origin.cost().params * (depth / origin.depth)
    by_width = exponent(origin, lambda variant: variant.cost().params)
    target = Budget(round(params * (width / origin.base_width) ** by_width))
    wide: Any = origin.resized(origin.depth, nearest_multiple(width, origin.width_step))
    solved: V = solve(wide, target)
    return solved


def round_equal_size(origin: V, depth: float, width: float, phi: int) -> V:
    """Take the network of the step's size whose ratio of depth to width is closest to D'/C1'.

    The size is the origin's parameters times 2^phi, within `SIZE_TOLERANCE`, for every pair. It
    leaves a pair only the ratio D/C1. With the other numbers fixed, neighboring widths differ in D
    by a third or more, so those may differ, too (`Scalable.shapes`).

    Raises:
        ValueError: no network near this width has the size.
    """
    budget = equal_size_budget(origin, phi)
    sized = [v for v in _of_size(origin, width, budget) if budget.refusal(v.cost()) is None]
    if not sized:
        raise ValueError(
            f"no network with {origin.shapes_text} is within {budget.tolerance:.0%} of {budget} at "
            f"phi = {phi}: take a larger origin or another rounding"
        )
    ratio = log(depth / width)
    return min(sized, key=lambda v: abs(log(v.depth / v.base_width) - ratio))


def equal_size_budget(origin: Scalable, phi: int) -> Budget:
    """The one size of all pairs at this step: 2^phi times the origin, as the rule means it."""
    return Budget(origin.cost().params * 2**phi, tolerance=SIZE_TOLERANCE)


def _of_size(origin: V, width: float, budget: Budget) -> Iterator[V]:
    """Networks with widths around ``width``, each with the solved number closest to the budget."""
    step = origin.width_step
    for near in range(max(1, int(width / 1.5 / step)) * step, int(1.5 * width) + step, step):
        for shape in origin.shapes(near):
            smallest: Any = shape
            yield solve(smallest, budget)


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


def _unrounded(origin: Scalable, alpha: float, beta: float, phi: int) -> tuple[float, float]:
    """(D', C1') without floating-point noise, so that 1.1 * 30 is exactly 33."""
    return round(alpha**phi * origin.depth, 9), round(beta**phi * origin.base_width, 9)


def rounding_note(origin: V, variant: V, alpha: float, beta: float, phi: int, rounding: str) -> str:
    """Describe what was rounded to get ``variant`` from the origin; empty if nothing was."""
    return variant.rounded_text(origin, *_unrounded(origin, alpha, beta, phi), rounding)
