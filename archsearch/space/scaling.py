"""Compound scaling: from an origin to larger models by alpha, beta and phi (Section 3.2).

``D' = alpha^phi D`` and ``C1' = beta^phi C1`` with ``alpha, beta >= 1`` and
``alpha * beta^1.99 ~ 2``, so that one step of phi doubles the model. C1' must be a multiple of C'
and D' a whole number; how they become so the paper leaves at "some adjustment is required"
(supplement C.2), so rounding is a named policy here. Every rung of a ladder, the origin at phi = 0
included, keeps the origin's block, so that sizes compare.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import count as count_from
from math import isfinite, lcm, log2, pow

from archsearch.core.budget import Axis, Budget, readable
from archsearch.core.study import Cell
from archsearch.families.internimage import SCALED_ORIGIN, Variant, paper_figures
from archsearch.families.internimage_cost import count, count_parts, operator_macs
from archsearch.space.grid import nearest_multiple, solve_l3

BEST_PAIR = (1.09, 1.36)
"""(alpha, beta) that the paper found best (supplement C.2, Table C)."""

DOUBLING_TOLERANCE = 0.05
"""How far one step of phi may be from doubling before it is said."""

LADDER_BUDGET = Budget(100_000_000)
"""Where Table C's models end: "extending the -T model to -B models (100M)"."""

MAX_RUNGS = 64

Rounding = Callable[[Variant, float, float], Variant]
"""Makes a legal variant of (origin, D', C1')."""


def exponent(
    origin: Variant = SCALED_ORIGIN,
    axis: Axis = "params",
    *,
    classifier: bool = True,
    operator: bool = True,
) -> float:
    """log2 of what doubling C1 at constant depth costs: the 1.99 of ``alpha * beta^1.99 ~ 2``.

    From T: parameters 1.977, without the last Linear (``classifier=False``) 1.995; multiply-adds
    1.981, without the operator's samples (``operator=False``) 1.995. The paper gives 1.99 and not
    which of these it is.
    """
    wide = replace(origin, c1=2 * origin.c1)
    values = [_measure(v, axis, classifier, operator) for v in (origin, wide)]
    return log2(values[1] / values[0])


def _measure(variant: Variant, axis: Axis, classifier: bool, operator: bool) -> int:
    config = variant.config()
    cost, last = count(config), count_parts(config)["classifier"]
    if axis == "params":
        return cost.params - (0 if classifier else last.params)
    samples = 0 if operator else operator_macs(config)
    return cost.macs - samples - (0 if classifier else last.macs)


def growth(
    alpha: float, beta: float, origin: Variant = SCALED_ORIGIN, axis: Axis = "params"
) -> float:
    """What one step of phi multiplies the cost by: ``alpha * beta^exponent``, meant to be 2.

    Raises:
        ValueError: naming every factor that is not a number >= 1.
    """
    check_factors(alpha, beta)
    return alpha * pow(beta, exponent(origin, axis))


def growth_note(
    alpha: float, beta: float, origin: Variant = SCALED_ORIGIN, axis: Axis = "params"
) -> str:
    """Says so when a step of phi is not close to doubling; empty when it is."""
    step = growth(alpha, beta, origin, axis)
    if abs(step / 2 - 1) <= DOUBLING_TOLERANCE:
        return ""
    return (
        f"alpha * beta^{exponent(origin, axis):.3f} = {step:.2f}, not ~2: "
        f"one step of phi multiplies the {axis} by that"
    )


def check_factors(alpha: float | None, beta: float | None) -> tuple[float, float]:
    """Both factors, if they are what the rule wants.

    Raises:
        ValueError: naming every factor that is missing or not a number >= 1.
    """
    wrong = []
    for name, value in (("alpha", alpha), ("beta", beta)):
        if value is None:
            wrong.append(f"{name} is missing: the rule needs alpha and beta")
        elif not (isfinite(value) and value >= 1):
            wrong.append(f"{name} wants a number >= 1 (Section 3.2), got {value:g}")
    if wrong or alpha is None or beta is None:
        raise ValueError("; ".join(wrong))
    return alpha, beta


def round_nearest(origin: Variant, depth: float, c1: float) -> Variant:
    """C1 to the nearest multiple of C', D to the nearest integer, ties upwards; L1 stays.

    From T with the best pair this gives S at phi = 1.
    """
    return _split(origin, int(depth + 0.5), nearest_multiple(c1, origin.group_channels))


def round_floor(origin: Variant, depth: float, c1: float) -> Variant:
    """C1 down to a multiple of C', D down to an integer; L1 stays."""
    return _split(origin, int(depth), _floor_multiple(c1, origin.group_channels))


def round_budget(origin: Variant, depth: float, c1: float) -> Variant:
    """C1 to the nearest multiple of C'; L3 makes good what that changed of the size; L1 stays.

    The size aimed at is what the rule promises before rounding: the origin's parameters times
    ``(D'/D) (C1'/C1)^exponent``.
    """
    promised = count(origin.config()).params * (depth / origin.depth)
    target = Budget(round(promised * (c1 / origin.c1) ** exponent(origin)))
    width = nearest_multiple(c1, origin.group_channels)
    return solve_l3(width, origin.group_channels, origin.l1, target, origin)


def _split(origin: Variant, depth: int, c1: int) -> Variant:
    """Depth between the stages: L1 stays the origin's and stage 3 takes the rest.

    So S and B were made of T (Table 1: L1 = 4 in all three); L, XL and H also raise L1, by no rule
    that is printed.
    """
    return replace(origin, c1=c1, l3=depth - 3 * origin.l1)


def _floor_multiple(c1: float, group_channels: int) -> int:
    step = lcm(2, group_channels)
    return max(1, int(c1 / step)) * step


ROUNDINGS: dict[str, Rounding] = {
    "nearest": round_nearest,
    "floor": round_floor,
    "budget": round_budget,
}


def scale(
    origin: Variant, alpha: float, beta: float, phi: int, rounding: str = "nearest"
) -> Variant:
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
    return ROUNDINGS[rounding](origin, *_unrounded(origin, alpha, beta, phi))


def _unrounded(origin: Variant, alpha: float, beta: float, phi: int) -> tuple[float, float]:
    """(D', C1'), free of the noise of floating point: 1.1 * 30 is 33."""
    return round(alpha**phi * origin.depth, 9), round(beta**phi * origin.c1, 9)


def ladder(
    origin: Variant = SCALED_ORIGIN,
    alpha: float = BEST_PAIR[0],
    beta: float = BEST_PAIR[1],
    up_to: Budget = LADDER_BUDGET,
    rounding: str = "nearest",
) -> tuple[Cell, ...]:
    """phi = 0, 1, 2, ... while the model stays within ``up_to`` and its tolerance.

    Rungs are ``exact`` where nothing had to be rounded (phi = 0 always), else ``repaired``: the
    reason says from what to what and by which policy, and whether a step is far from doubling.

    Raises:
        ValueError: for factors below 1 or that hardly grow, an unknown rounding, or an origin that
            is over the budget.
    """
    _check_growth(origin, alpha, beta, up_to)
    cells: list[Cell] = []
    for phi in count_from():
        cell = scaled_cell(origin, alpha, beta, phi, rounding, up_to.axis)
        assert cell.cost is not None
        if up_to.deviation(cell.cost) > up_to.tolerance:
            return tuple(cells)
        cells.append(cell)
    raise AssertionError("growth above 1 passes every budget")


def _check_growth(origin: Variant, alpha: float, beta: float, up_to: Budget) -> None:
    step = growth(alpha, beta, origin, up_to.axis)
    room = up_to.target * (1 + up_to.tolerance) / up_to.value(count(origin.config()))
    if room < 1:
        size = readable(up_to.value(count(origin.config())), up_to.axis)
        raise ValueError(f"the origin {origin.name} has {size}, over the budget of {up_to}")
    if step**MAX_RUNGS < room:
        raise ValueError(
            f"alpha = {alpha:g}, beta = {beta:g} multiply the {up_to.axis} by {step:.3f} a step: "
            f"more than {MAX_RUNGS} steps to {up_to}; take larger factors (the paper: "
            f"{BEST_PAIR[0]}, {BEST_PAIR[1]})"
        )


def scaled_cell(
    origin: Variant, alpha: float, beta: float, phi: int, rounding: str, axis: Axis = "params"
) -> Cell:
    """`scale` with its account: asked for alpha, beta, phi; what was rounded, and by which policy.

    Raises:
        ValueError: as `scale`.
    """
    variant = scale(origin, alpha, beta, phi, rounding)
    depth, c1 = _unrounded(origin, alpha, beta, phi)
    exact = (depth, c1) == (variant.depth, variant.c1)
    rounded = (
        f"C1 {c1:.1f} -> {variant.c1}, D {depth:.1f} -> {variant.depth} (rounding {rounding!r}, "
        f"L1 stays {variant.l1})"
    )
    note = growth_note(alpha, beta, origin, axis) if phi else ""
    return Cell(
        asked={"alpha": alpha, "beta": beta, "phi": phi},
        fate="exact" if exact else "repaired",
        variant=variant,
        cost=count(variant.config()),
        reason="; ".join(filter(None, ("" if exact else rounded, note))),
        paper=paper_figures(variant),
    )
