"""How an InternImage grows by alpha, beta and phi (Section 3.2), and how the result becomes legal.

``D' = alpha^phi D`` and ``C1' = beta^phi C1`` with ``alpha, beta >= 1`` and
``alpha * beta^1.99 ~ 2``, so that one step of phi doubles the model. C1' must be a multiple of C'
and D' a whole number; the paper leaves how at "some adjustment is required" (supplement C.2), so
rounding is a named policy here.
"""

from collections.abc import Callable
from math import lcm, log2
from typing import Any, Protocol, Self, TypeVar

from archsearch.core.budget import Budget
from archsearch.core.cost import Cost
from archsearch.families.internimage_cost import count, count_parts, operator_macs
from archsearch.space.grid import solve
from archsearch.space.scaling import check_factors
from internimage.config import ModelConfig


class FourNumbers(Protocol):
    """What this module reads of `archsearch.families.internimage.Variant`."""

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


def nearest_multiple(c1: float, group_channels: int) -> int:
    """The legal width closest to ``c1``: a multiple of C', even, at least one; ties upwards."""
    step = lcm(2, group_channels)
    return max(1, int(c1 / step + 0.5)) * step


def _floor_multiple(c1: float, group_channels: int) -> int:
    step = lcm(2, group_channels)
    return max(1, int(c1 / step)) * step


def exponent(
    origin: FourNumbers, axis: str = "params", *, classifier: bool = True, operator: bool = True
) -> float:
    """log2 of what doubling C1 at constant depth costs: the 1.99 of ``alpha * beta^1.99 ~ 2``.

    From T: parameters 1.977, without the last Linear (``classifier=False``) 1.995; multiply-adds
    1.981, without the operator's samples (``operator=False``) 1.995. The paper gives 1.99 and not
    which of these it is.
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
    """C1 to the nearest multiple of C', D to the nearest integer, ties upwards; L1 stays.

    From T with the best pair this gives S at phi = 1.
    """
    return _split(origin, int(depth + 0.5), nearest_multiple(c1, origin.group_channels))


def round_floor(origin: V, depth: float, c1: float) -> V:
    """C1 down to a multiple of C', D down to an integer; L1 stays."""
    return _split(origin, int(depth), _floor_multiple(c1, origin.group_channels))


def round_budget(origin: V, depth: float, c1: float) -> V:
    """C1 to the nearest multiple of C'; L3 compensates what that changed of the size; L1 stays.

    The target is the size that the rule gives before rounding: the origin's parameters times
    ``(D'/D) (C1'/C1)^exponent``.
    """
    params = origin.cost().params * (depth / origin.depth)
    target = Budget(round(params * (c1 / origin.c1) ** exponent(origin)))
    wide: Any = _split(origin, origin.depth, nearest_multiple(c1, origin.group_channels))
    solved: V = solve(wide, target)
    return solved


def _split(origin: V, depth: int, c1: int) -> V:
    """Depth between the stages: L1 stays the origin's and stage 3 takes the rest.

    S and B follow from T in this way (Table 1: L1 = 4 in all three); L, XL and H also raise L1, by
    no rule that is printed.
    """
    return origin.with_numbers(c1, origin.group_channels, origin.l1, depth - 3 * origin.l1)


ROUNDINGS: dict[str, Callable[[Any, float, float], Any]] = {
    "nearest": round_nearest,
    "floor": round_floor,
    "budget": round_budget,
}
"""Each makes a legal variant of (origin, D', C1')."""


def scale(origin: V, alpha: float, beta: float, phi: int, rounding: str = "nearest") -> V:
    """The origin scaled by phi steps, made legal by the named rounding; phi = 0 is the origin.

    Raises:
        ValueError: for factors below 1, a negative phi or an unknown rounding.
    """
    check_factors(alpha, beta)
    if phi < 0:
        raise ValueError(f"phi wants a whole number >= 0, got {phi}")
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding wants one of {', '.join(ROUNDINGS)}, got {rounding!r}")
    if phi == 0:
        return origin
    variant: V = ROUNDINGS[rounding](origin, *_unrounded(origin, alpha, beta, phi))
    return variant


def _unrounded(origin: FourNumbers, alpha: float, beta: float, phi: int) -> tuple[float, float]:
    """(D', C1'), free of the noise of floating point: 1.1 * 30 is 33."""
    return round(alpha**phi * origin.depth, 9), round(beta**phi * origin.c1, 9)


def rounded(
    origin: FourNumbers,
    variant: FourNumbers,
    alpha: float,
    beta: float,
    phi: int,
    rounding: str,
) -> str:
    """What had to be rounded to make ``variant`` of the origin, in words; empty for nothing."""
    depth, c1 = _unrounded(origin, alpha, beta, phi)
    if (depth, c1) == (variant.depth, variant.c1):
        return ""
    return (
        f"C1 {c1:.1f} -> {variant.c1}, D {depth:.1f} -> {variant.depth} (rounding {rounding!r}, "
        f"L1 stays {variant.l1})"
    )
