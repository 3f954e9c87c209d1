"""A grid over a family's numbers at a budget, with a fate for every cell.

All numbers but one are discretized; the remaining one is solved so that each model meets the budget
(for InternImage L3: Section 3.2 and supplement C.1). The paper does not say what it did with cells
that break its rules (C1 = 48, 80 and 16 are not multiples of C' = 32). Here every cell is kept and
has a fate: ``exact``, ``repaired`` or ``infeasible``, the last two with a reason.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal, TypeVar, get_args

from archsearch.core.budget import Axis, Budget, readable
from archsearch.core.cell import Cell, Fate
from archsearch.core.closed_form import cost_of
from archsearch.core.family import Family
from archsearch.core.family_fault import BuildFault
from archsearch.core.numbers import LARGEST, quoted
from archsearch.space.crossing import Sizes, Unsolvable

Invalid = Literal["repair", "skip", "error"]
V = TypeVar("V", bound=Family)


@dataclass(frozen=True)
class Space:
    """Values of every number but the solved one; ``like`` gives the family and the switches.

    Raises:
        ValueError: lists every number without values, with repeated values or with one below 1, and
            every name that is not a number of the family.
    """

    like: Family
    values: Mapping[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        names = self.names
        wrong = [
            f"{self.like.label_of(name)} must be different whole numbers >= 1, at most "
            f"{LARGEST:,}, got {', '.join(map(quoted, values)) or '-'}"
            for name in names
            if not (values := self.values.get(name, ()))
            or len(set(values)) < len(values)
            or not 1 <= min(values) <= max(values) <= LARGEST
        ]
        wrong += [
            f"{type(self.like).__name__} has no number {name}; known: {', '.join(names)}"
            for name in self.values
            if name not in names
        ]
        if wrong:
            raise ValueError(f"not a space: {'; '.join(wrong)}")

    @property
    def names(self) -> list[str]:
        """The numbers that the grid discretizes, in the order of the family's fields."""
        return [n for n in self.like.number_names() if n != self.like.solved]

    def coordinates(self) -> Iterator[dict[str, int]]:
        """The numbers of every cell. Along the family's axes the panel varies slowest, as in
        Fig. A."""
        axes = self.like.axes or tuple(self.names)
        for values in product(*(self.values[axis] for axis in axes)):
            cell = dict(zip(axes, values, strict=True))
            yield {name: cell[name] for name in self.names}

    def with_values(self, **values: tuple[int, ...]) -> "Space":
        """This space with other values for some of the numbers."""
        return replace(self, values={**self.values, **values})


def solve(variant: V, budget: Budget) -> V:
    """The legal variant closest to the budget's target, whether or not within its tolerance.

    Only the solved number changes. Cost grows with it, so the best value is next to the one where
    the cost crosses the target; of two equally close values the smaller is taken. For InternImage's
    (64, 16, 4) at 30M this gives L3 = 18, the paper's origin model, so "closest to the budget" is
    assumed to be the paper's rule.

    Raises:
        Unsolvable: the cost does not grow with the solved number.
        BuildFault: the smallest network cannot be built or run.
    """
    return _solve(variant, budget)[0]


def _solve(variant: V, budget: Budget) -> tuple[V, str]:
    """As `solve`, and why the next larger number is not possible, if it is not."""
    sizes = Sizes(variant, budget.axis)
    above = sizes.first_above(budget.target)
    size, limit = sizes(above), sizes.refusal(above)
    if above > variant.min_solved() and budget.target - sizes(above - 1) <= size - budget.target:
        above -= 1
    return variant.with_solved(above), limit


def plan(space: Space, budget: Budget, invalid: Invalid = "repair") -> tuple[Cell, ...]:
    """One cell per coordinate of the space, in order, each with its fate.

    ``invalid`` says what to do with coordinates that break a rule: ``repair`` takes the closest
    legal numbers (`Family.repaired`) and solves again; ``skip`` makes them infeasible; ``error``
    raises if any cell is not exact. A cell that no value of the solved number brings within the
    budget's tolerance is infeasible in any case.

    Raises:
        ValueError: ``invalid`` is unknown; or it is ``error`` and a cell is not exact, in which
            case the message lists every such cell.
    """
    if invalid not in get_args(Invalid):
        raise ValueError(f"invalid must be one of {', '.join(get_args(Invalid))}, got {invalid!r}")
    cells = [_cell(values, space.like, budget, invalid) for values in space.coordinates()]
    if invalid == "error" and (bad := [cell for cell in cells if cell.fate != "exact"]):
        lines = "\n".join(f"  {_coordinates(cell, space.like)}: {cell.reason}" for cell in bad)
        raise ValueError(f"{len(bad)} of {len(cells)} cells are not exact:\n{lines}")
    return with_duplicates_noted(cells, space.like)


def _cell(values: Mapping[str, int], like: Family, budget: Budget, invalid: Invalid) -> Cell:
    smallest, repair = legal_variant(like, values, invalid)
    if smallest is None:
        return _infeasible(values, repair)
    try:
        variant, limit = _solve(smallest, budget)
        cost = cost_of(variant)
    except (Unsolvable, BuildFault) as error:
        return _infeasible(values, repair, str(error))
    if refusal := budget.refusal(cost):
        return _infeasible(values, repair, f"{_closest(variant)}: {refusal}", limit)
    fate: Fate = "repaired" if repair else "exact"
    return Cell(values, fate, variant, cost, repair, variant.published())


def _infeasible(values: Mapping[str, int], *reasons: str) -> Cell:
    return Cell(values, "infeasible", None, None, "; ".join(filter(None, reasons)))


def legal_variant(
    like: Family, values: Mapping[str, int], invalid: Invalid
) -> tuple[Family | None, str]:
    """The variant with these numbers and the smallest solved number, repaired if it must be.

    Also a text of what was repaired, empty for nothing; or None and the broken rules.
    """
    variant = smallest_variant(like, values)
    if not (broken := "; ".join(variant.problems())):
        return variant, ""
    repaired = variant.repaired() if invalid == "repair" else None
    if repaired is None:
        return None, broken
    return repaired[0], f"{broken}; {repaired[1]}"


def smallest_variant(like: Family, values: Mapping[str, int]) -> Family:
    """The variant with these numbers and the smallest solved number, legal or not."""
    start = like.unchecked(**values)
    return start.unchecked(**{like.solved: start.min_solved()})


def _closest(variant: Family) -> str:
    """Describe the model that comes closest to a budget that it does not meet."""
    kind = "smallest legal" if variant.solved_value == variant.min_solved() else "closest"
    names = variant.axes or [n for n in variant.number_names() if n != variant.solved]
    widths = [f" with {variant.label_of(n)} = {variant.by_name[n]}" for n in names[-1:]]
    solved = f"{variant.label_of(variant.solved)} = {variant.solved_value}"
    return f"the {kind} model{''.join(widths)} has {solved}"


def with_duplicates_noted(cells: Sequence[Cell], like: Family) -> tuple[Cell, ...]:
    """The cells; the reason of a repaired one names the cells with the same network."""
    return tuple(_with_duplicates_noted(cell, cells, like) for cell in cells)


def _with_duplicates_noted(cell: Cell, cells: Sequence[Cell], like: Family) -> Cell:
    """A repaired cell whose reason names the cells with the same variant; they share trials."""
    if cell.fate != "repaired":
        return cell
    same = [_coordinates(c, like) for c in cells if c.variant == cell.variant and c is not cell]
    if not same:
        return cell
    return replace(cell, reason=f"{cell.reason}; the same network as {', '.join(same)}")


def _coordinates(cell: Cell, like: Family) -> str:
    return ", ".join(f"{like.label_of(name)} = {value}" for name, value in cell.requested.items())


def plan_rows(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Cells as plain rows for JSON and tables; an infeasible cell has None for its costs.

    Columns: the variant's numbers (the requested ones for an infeasible cell), ``params, macs,
    status, reason``, then the requested coordinates as ``requested_...`` and the paper's figures as
    ``paper_...``. Cells that were scaled also have ``growth`` (`Cell.growth`).
    """
    listed = list(cells)
    grows = any(cell.growth for cell in listed)
    requested = dict.fromkeys(name for cell in listed for name in cell.requested)
    paper = dict.fromkeys(name for cell in listed for name in cell.paper)
    variants = [cell.variant for cell in listed if cell.variant is not None]
    numbers = dict.fromkeys(name for variant in variants for name in variant.number_names())
    return [
        {
            **_numbers(cell, numbers or requested),
            "params": cell.cost and cell.cost.params,
            "macs": cell.cost and cell.cost.macs,
            **({"growth": cell.growth} if grows else {}),
            "status": cell.fate,
            "reason": cell.reason,
            **{f"requested_{name}": cell.requested.get(name) for name in requested},
            **{f"paper_{name}": cell.paper.get(name) for name in paper},
        }
        for cell in listed
    ]


def _numbers(cell: Cell, names: Iterable[str]) -> dict[str, Any]:
    numbers = {} if cell.variant is None else cell.variant.by_name
    return {name: (numbers or cell.requested).get(name) for name in names}


def summary(cells: Iterable[Cell], axis: Axis = "params") -> str:
    """One line with the number of cells per fate and the range of their sizes."""
    listed = list(cells)
    fates = [cell.fate for cell in listed]
    fate_counts = ", ".join(
        f"{fates.count(f)} {f}" for f in ("exact", "repaired", "infeasible") if f in fates
    )
    sizes = [getattr(cell.cost, axis) for cell in listed if cell.cost]
    spread = [readable(size, axis) for size in (min(sizes), max(sizes))] if sizes else []
    count = f"{len(listed)} cell{'' if len(listed) == 1 else 's'}"
    return "; ".join(filter(None, (f"{count}: {fate_counts}", " to ".join(spread))))
