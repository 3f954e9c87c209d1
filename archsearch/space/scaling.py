"""Ladders: an origin and the larger models that alpha, beta and phi make of it (Section 3.2).

Every rung, including the origin at phi = 0, has the origin's block, so that sizes are comparable.
The family defines how a variant grows and how the result is made legal (`Family.grow`).
"""

from itertools import count as count_from

from archsearch.core.budget import Axis, Budget, readable
from archsearch.core.cell import Cell
from archsearch.core.closed_form import cost_of
from archsearch.core.family import Family
from archsearch.core.family_fault import explained
from archsearch.core.numbers import quoted

BEST_PAIR = (1.09, 1.36)
"""(alpha, beta) that the paper found best (supplement C.2, Table C)."""

DOUBLING_TOLERANCE = 0.05
"""The largest relative deviation of one step of phi from doubling that needs no note."""

LADDER_BUDGET = Budget(100_000_000)
"""Where Table C's models end: "extending the -T model to -B models (100M)"."""

MAX_RUNGS = 64

MAX_FACTOR = 100
"""The largest alpha or beta. The paper's are below 2."""


def growth_note(alpha: float, beta: float, origin: Family, axis: Axis = "params") -> str:
    """A note if one step of phi does not roughly double the cost; empty if it does."""
    step, formula = _growth_factor(origin, alpha, beta, axis)
    if abs(step / 2 - 1) <= DOUBLING_TOLERANCE:
        return ""
    return f"{formula} = {step:.2f}, not ~2: one step of phi multiplies the {axis} by that"


def _growth_factor(origin: Family, alpha: float, beta: float, axis: Axis) -> tuple[float, str]:
    with explained(type(origin), "growth_factor", origin.name, passing=ValueError):
        return origin.growth_factor(alpha, beta, axis)


def check_factors(alpha: float | None, beta: float | None) -> tuple[float, float]:
    """Both factors, validated.

    Raises:
        ValueError: lists every factor that is missing or is no number from 1 to `MAX_FACTOR`.
    """
    wrong = []
    for name, value in (("alpha", alpha), ("beta", beta)):
        if value is None:
            wrong.append(f"{name} is missing: the rule needs alpha and beta")
        elif not 1 <= value <= MAX_FACTOR:
            wrong.append(
                f"{name} must be a number >= 1 (Section 3.2), at most {MAX_FACTOR}, got "
                f"{quoted(value)}"
            )
    if wrong or alpha is None or beta is None:
        raise ValueError("; ".join(wrong))
    return alpha, beta


def ladder(
    origin: Family,
    alpha: float = BEST_PAIR[0],
    beta: float = BEST_PAIR[1],
    up_to: Budget = LADDER_BUDGET,
    rounding: str = "nearest",
) -> tuple[Cell, ...]:
    """The models at phi = 0, 1, 2, ... up to the budget ``up_to`` and its tolerance.

    A rung is ``exact`` if nothing had to be rounded (always at phi = 0), else ``repaired``. The
    reason gives the values before and after rounding and the policy, and says if a step is far from
    doubling.

    Raises:
        ValueError: a factor is below 1, the factors need more than `MAX_RUNGS` steps, the rounding
            is unknown, or the origin is over the budget.
    """
    check_factors(alpha, beta)
    _check_growth(origin, alpha, beta, up_to)
    cells: list[Cell] = []
    for phi in count_from():
        cell = scaled_cell(origin, alpha, beta, phi, rounding, up_to.axis)
        assert cell.cost is not None
        if up_to.deviation(cell.cost) > up_to.tolerance:
            return tuple(cells)
        cells.append(cell)
    raise AssertionError("growth above 1 passes every budget")


def _check_growth(origin: Family, alpha: float, beta: float, up_to: Budget) -> None:
    size = up_to.value(cost_of(origin))
    room = up_to.target * (1 + up_to.tolerance) / size
    if room < 1:
        raise ValueError(
            f"the origin {origin.name} has {readable(size, up_to.axis)}, over the budget of {up_to}"
        )
    step, _ = _growth_factor(origin, alpha, beta, up_to.axis)
    if step**MAX_RUNGS < room:
        raise ValueError(
            f"alpha = {alpha:g}, beta = {beta:g} multiply the {up_to.axis} by {step:.3f} a step: "
            f"more than {MAX_RUNGS} steps to {up_to}; take larger factors, such as "
            f"{BEST_PAIR[0]} and {BEST_PAIR[1]}"
        )


def scaled_cell(
    origin: Family, alpha: float, beta: float, phi: int, rounding: str, axis: Axis = "params"
) -> Cell:
    """The cell ``phi`` steps above the origin; its reason says what was rounded and how.

    Raises:
        ValueError: as `Family.grow`.
    """
    with explained(type(origin), "grow", origin.name, passing=ValueError):
        variant, rounded = origin.grow(alpha, beta, phi, rounding)
    note = growth_note(alpha, beta, origin, axis) if phi else ""
    cost = cost_of(variant)
    return Cell(
        requested={"alpha": alpha, "beta": beta, "phi": phi},
        fate="repaired" if rounded else "exact",
        variant=variant,
        cost=cost,
        reason="; ".join(filter(None, (rounded, note))),
        paper=variant.published(),
        growth=growth_per_step(cost_of(origin).params, cost.params, phi),
    )


def growth_per_step(origin: int, params: int, phi: int) -> float | None:
    """The factor by which one of ``phi`` steps multiplies the parameters; None at phi = 0."""
    return round((params / origin) ** (1 / phi), 6) if phi else None
