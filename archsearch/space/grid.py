"""A grid over a family's numbers at a budget, and what becomes of every cell of it.

Discretize all numbers but one, and let that one bring each model to the budget (for InternImage
L3: Section 3.2 and supplement C.1). The paper does not say what it did with cells that break its
rules (48 and 80 are no multiples of 32, 16 is none of 32). Here every cell has a fate, stated with
its reason: ``exact``, ``repaired`` or ``infeasible``; none disappears.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any, Literal, TypeVar, get_args

from archsearch.core.budget import Axis, Budget, readable
from archsearch.core.cell import Cell, Fate
from archsearch.core.family import Family

Invalid = Literal["repair", "skip", "error"]
V = TypeVar("V", bound=Family)


@dataclass(frozen=True)
class Space:
    """Values of every number but the solved one; ``like`` gives the family and the switches.

    Raises:
        ValueError: naming every list that is missing, empty, repeats a value or holds one below 1.
    """

    like: Family
    values: Mapping[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        names = self.names
        wrong = [
            f"{self.like.label_of(name)} wants different whole numbers >= 1, got "
            f"{', '.join(map(str, values)) or '-'}"
            for name in names
            if not (values := self.values.get(name, ()))
            or len(set(values)) < len(values)
            or min(values) < 1
        ]
        wrong += [
            f"{type(self.like).__name__} has no number {name}: there are {', '.join(names)}"
            for name in self.values
            if name not in names
        ]
        if wrong:
            raise ValueError(f"not a space: {'; '.join(wrong)}")

    @property
    def names(self) -> list[str]:
        """The numbers that a cell chooses, in the order of the family's fields."""
        return [n for n in self.like.number_names() if n != self.like.solved]

    def coordinates(self) -> Iterator[dict[str, int]]:
        """The numbers of every cell, along the family's axes: the panel slowest, as Fig. A is
        read."""
        axes = self.like.axes or tuple(self.names)
        for values in product(*(self.values[axis] for axis in axes)):
            cell = dict(zip(axes, values, strict=True))
            yield {name: cell[name] for name in self.names}

    def with_values(self, **values: tuple[int, ...]) -> "Space":
        """Other values for some of the numbers."""
        return replace(self, values={**self.values, **values})


def solve(variant: V, budget: Budget) -> V:
    """The legal variant closest to the budget's target, whether or not within its tolerance.

    Only the solved number changes. Cost grows with it, so the best value is next to where the cost
    crosses the target; of two equally close the smaller. For InternImage's (64, 16, 4) at 30M that
    is L3 = 18, the paper's origin model: hence closest to the budget is taken for its rule.
    """

    @cache
    def value(solved: int) -> int:
        return budget.value(variant.with_solved(solved).cost())

    least = variant.least()
    above = first_above(value, least, budget.target)
    if above > least and budget.target - value(above - 1) <= value(above) - budget.target:
        above -= 1
    return variant.with_solved(above)


def first_above(value: Any, least: int, target: float) -> int:
    """The smallest number from ``least`` on whose value, which grows with it, reaches target."""
    step = 1
    while value(least + step - 1) < target:
        step *= 2
    low, high = least + step // 2 - 1, least + step - 1  # value(low) < target <= value(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if value(middle) < target else (low, middle)
    return high


def plan(space: Space, budget: Budget, invalid: Invalid = "repair") -> tuple[Cell, ...]:
    """One cell per coordinate of the space, in its order, each with its fate.

    ``invalid`` says what to do with coordinates that break a rule: ``repair`` takes the legal
    numbers closest to them (`Family.repaired`) and solves again; ``skip`` makes them infeasible;
    ``error`` refuses the space when any cell is not exact. A cell that no value of the solved
    number brings within the budget's tolerance is infeasible in any case.

    Raises:
        ValueError: for an unknown ``invalid``; with ``error``, listing every cell not exact.
    """
    if invalid not in get_args(Invalid):
        raise ValueError(f"invalid wants one of {', '.join(get_args(Invalid))}, got {invalid!r}")
    cells = [_cell(values, space.like, budget, invalid) for values in space.coordinates()]
    if invalid == "error" and (bad := [cell for cell in cells if cell.fate != "exact"]):
        lines = "\n".join(f"  {_place(cell, space.like)}: {cell.reason}" for cell in bad)
        raise ValueError(f"{len(bad)} of {len(cells)} cells are not exact:\n{lines}")
    return tuple(_told_of_twin(cell, cells, space.like) for cell in cells)


def _cell(values: Mapping[str, int], like: Family, budget: Budget, invalid: Invalid) -> Cell:
    variant = _shallowest(like, values)
    broken, repair = "; ".join(variant.problems()), ""
    if broken:
        repaired = variant.repaired() if invalid == "repair" else None
        if repaired is None:
            return Cell(values, "infeasible", None, None, broken)
        variant, rule = repaired
        repair = f"{broken}; {rule}"
    variant = solve(variant, budget)
    cost = variant.cost()
    if refusal := budget.refusal(cost):
        reason = f"{_closest(variant)}: {refusal}"
        return Cell(values, "infeasible", None, None, "; ".join(filter(None, (repair, reason))))
    fate: Fate = "repaired" if broken else "exact"
    return Cell(values, fate, variant, cost, repair, variant.published())


def _shallowest(like: Family, values: Mapping[str, int]) -> Family:
    """These numbers with the least of the solved one, legal or not."""
    start = like.unchecked(**values)
    return start.unchecked(**{like.solved: start.least()})


def _closest(variant: Family) -> str:
    """The model that comes closest to a budget it does not meet, in words."""
    kind = "smallest legal" if variant.solved_value == variant.least() else "closest"
    name = (variant.axes or variant.number_names())[-1]
    width = f"{variant.label_of(name)} = {variant.by_name[name]}"
    solved = f"{variant.label_of(variant.solved)} = {variant.solved_value}"
    return f"the {kind} model with {width} has {solved}"


def _told_of_twin(cell: Cell, cells: list[Cell], like: Family) -> Cell:
    """A repaired cell with the same variant as another says so: they share their trials."""
    if cell.fate != "repaired":
        return cell
    twins = [_place(c, like) for c in cells if c.variant == cell.variant and c is not cell]
    if not twins:
        return cell
    return replace(cell, reason=f"{cell.reason}; the same network as {', '.join(twins)}")


def _place(cell: Cell, like: Family) -> str:
    return ", ".join(f"{like.label_of(name)} = {value}" for name, value in cell.requested.items())


def plan_rows(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Cells as plain rows for JSON and tables; what an infeasible cell lacks is None.

    Columns: the variant's numbers (an infeasible cell shows those requested), ``params, macs,
    status, reason``, then the coordinates requested as ``asked_...`` and the paper's figures as
    ``paper_...``.
    """
    listed = list(cells)
    requested = dict.fromkeys(name for cell in listed for name in cell.requested)
    paper = dict.fromkeys(name for cell in listed for name in cell.paper)
    variants = [cell.variant for cell in listed if cell.variant is not None]
    numbers = dict.fromkeys(name for variant in variants for name in variant.number_names())
    return [
        {
            **_numbers(cell, numbers or requested),
            "params": cell.cost and cell.cost.params,
            "macs": cell.cost and cell.cost.macs,
            "status": cell.fate,
            "reason": cell.reason,
            **{f"asked_{name}": cell.requested.get(name) for name in requested},
            **{f"paper_{name}": cell.paper.get(name) for name in paper},
        }
        for cell in listed
    ]


def _numbers(cell: Cell, names: Iterable[str]) -> dict[str, Any]:
    numbers = {} if cell.variant is None else cell.variant.by_name
    return {name: (numbers or cell.requested).get(name) for name in names}


def summary(cells: Iterable[Cell], axis: Axis = "params") -> str:
    """One sentence: how many cells of which fate, and the spread of their sizes."""
    listed = list(cells)
    fates = [cell.fate for cell in listed]
    fate_counts = ", ".join(
        f"{fates.count(f)} {f}" for f in ("exact", "repaired", "infeasible") if f in fates
    )
    sizes = [getattr(cell.cost, axis) for cell in listed if cell.cost]
    spread = [readable(size, axis) for size in (min(sizes), max(sizes))] if sizes else []
    count = f"{len(listed)} cell{'' if len(listed) == 1 else 's'}"
    return "; ".join(filter(None, (f"{count}: {fate_counts}", " to ".join(spread))))
