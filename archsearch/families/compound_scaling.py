"""Scaling of a network of four stages by alpha, beta and phi (Section 3.2), with rounding.

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


class Stacked(Protocol):
    """What a variant needs to scale: depths (L1, L1, L3, L1) and widths from C1, twice per stage.

    ``depth`` is the number of blocks, 3 L1 + L3; C1 is rounded to multiples of ``width_step``;
    ``with_stages`` gives the variant with other numbers and everything else as it is.
    """

    @property
    def c1(self) -> int: ...
    @property
    def l1(self) -> int: ...
    @property
    def l3(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def width_step(self) -> int: ...
    def with_stages(self, c1: int, l1: int, l3: int) -> Self: ...
    def cost(self) -> Cost: ...


V = TypeVar("V", bound=Stacked)

SIZE_TOLERANCE = 0.01
"""The largest relative deviation from a step's budget if sizes are to be equal."""

L1_RANGE = 2
"""How far L1 may be from the origin's if sizes are to be equal: from T to H it grows from 4 to 6
(Table 1)."""


def nearest_multiple(c1: float, step: int) -> int:
    """The multiple of ``step`` closest to ``c1``, above 0; ties upwards."""
    return max(1, int(c1 / step + 0.5)) * step


def exponent(origin: V, size: Callable[[V], int]) -> float:
    """The exponent of the width: log2 of the growth of ``size`` if C1 doubles at constant depth."""
    wide = origin.with_stages(2 * origin.c1, origin.l1, origin.l3)
    return log2(size(wide) / size(origin))


def growth_factor(alpha: float, beta: float, by_width: float) -> tuple[float, str]:
    """The factor of one step of phi for this exponent of the width, and its formula."""
    return alpha * pow(beta, by_width), f"alpha * beta^{by_width:.3f}"


def round_nearest(origin: V, depth: float, c1: float) -> V:
    """Round C1 to the nearest multiple of its step and D to an integer, ties upwards; keep L1.

    From T with the best pair this gives S at phi = 1.
    """
    return _split(origin, int(depth + 0.5), nearest_multiple(c1, origin.width_step))


def round_floor(origin: V, depth: float, c1: float) -> V:
    """Round C1 down to a multiple of its step and D down to an integer; keep L1."""
    step = origin.width_step
    return _split(origin, int(depth), max(1, int(c1 / step)) * step)


def round_budget(origin: V, depth: float, c1: float) -> V:
    """Round C1 to the nearest multiple of its step, keep L1, and solve L3 for the unrounded size.

    That size is the origin's parameters times ``(D'/D) (C1'/C1)^exponent``.
    """
    params = origin.cost().params * (depth / origin.depth)
    by_width = exponent(origin, lambda variant: variant.cost().params)
    target = Budget(round(params * (c1 / origin.c1) ** by_width))
    wide: Any = _split(origin, origin.depth, nearest_multiple(c1, origin.width_step))
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
            f"no network with C1 a multiple of {origin.width_step} and L1 within {L1_RANGE} of "
            f"{origin.l1} is within {budget.tolerance:.0%} of {budget} at phi = {phi}: take a "
            "larger origin or another rounding"
        )
    ratio = log(depth / c1)
    return min(sized, key=lambda v: abs(log(v.depth / v.c1) - ratio))


def equal_size_budget(origin: Stacked, phi: int) -> Budget:
    """The one size of all pairs at this step: 2^phi times the origin, as the rule means it."""
    return Budget(origin.cost().params * 2**phi, tolerance=SIZE_TOLERANCE)


def _of_size(origin: V, c1: float, budget: Budget) -> Iterator[V]:
    """Networks with widths around ``c1``, each with the L3 closest to the budget."""
    step = origin.width_step
    for width in range(max(1, int(c1 / 1.5 / step)) * step, int(1.5 * c1) + step, step):
        for l1 in range(max(1, origin.l1 - L1_RANGE), origin.l1 + L1_RANGE + 1):
            smallest: Any = origin.with_stages(width, l1, l1)
            yield solve(smallest, budget)


def _split(origin: V, depth: int, c1: int) -> V:
    """A variant of this depth: L1 is the origin's, and stage 3 takes the rest.

    S and B follow from T in this way (Table 1: L1 = 4 in all three). L, XL and H also raise L1; the
    paper does not print a rule for it.
    """
    return origin.with_stages(c1, origin.l1, depth - 3 * origin.l1)


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


def _unrounded(origin: Stacked, alpha: float, beta: float, phi: int) -> tuple[float, float]:
    """(D', C1') without floating-point noise, so that 1.1 * 30 is exactly 33."""
    return round(alpha**phi * origin.depth, 9), round(beta**phi * origin.c1, 9)


def rounding_note(
    origin: Stacked,
    variant: Stacked,
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
