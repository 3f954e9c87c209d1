"""The space of the paper's stacking study, and what becomes of every cell of it.

Section 3.2 and supplement C.1: discretise C1, C' and L1, and let L3 bring each model to the budget.
Neither printed discretisation is legal cell by cell (48 and 80 are no multiples of 32, 16 is none
of 32) and the paper does not say what was done. Here every cell has a fate, stated with its reason:
``exact``, ``repaired`` or ``infeasible``; none disappears.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import lcm
from typing import Any, Literal, get_args

from archsearch.core.budget import Axis, Budget, readable
from archsearch.core.study import Cell, Fate
from archsearch.families.internimage import ORIGIN, Variant, paper_figures, rule_violations
from archsearch.families.internimage_cost import Cost, count

Invalid = Literal["repair", "skip", "error"]


@dataclass(frozen=True)
class Space:
    """Values of C1, C' and L1, and the switches, taken from ``like``, that all variants share.

    Raises:
        ValueError: naming every list that is empty, repeats a value or holds one below 1.
    """

    c1: tuple[int, ...] = (48, 64, 80)
    group_channels: tuple[int, ...] = (16, 32)
    l1: tuple[int, ...] = (1, 2, 3, 4, 5)
    like: Variant = ORIGIN

    def __post_init__(self) -> None:
        lists = {"C1": self.c1, "C'": self.group_channels, "L1": self.l1}
        wrong = [
            f"{name} wants different whole numbers >= 1, got {', '.join(map(str, values)) or '-'}"
            for name, values in lists.items()
            if not values or len(set(values)) < len(values) or min(values) < 1
        ]
        if wrong:
            raise ValueError(f"not a space: {'; '.join(wrong)}")

    def coordinates(self) -> Iterator[tuple[int, int, int]]:
        """(C1, C', L1) of every cell: C' slowest, then L1, then C1, as Fig. A is read."""
        for group_channels, l1, c1 in product(self.group_channels, self.l1, self.c1):
            yield c1, group_channels, l1


SPACES = {"main": Space(), "supplement": Space(c1=(16, 32, 64))}
"""The two printed discretisations: Section 3.2 and supplement C.1."""


def named_space(name: str, like: Variant = ORIGIN) -> Space:
    """One of `SPACES` with the switches of ``like``.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in SPACES:
        raise ValueError(f"space wants one of {', '.join(SPACES)}, got {name!r}")
    return replace(SPACES[name], like=like)


def solve_l3(
    c1: int, group_channels: int, l1: int, budget: Budget, like: Variant = ORIGIN
) -> Variant:
    """The legal variant closest to the budget's target, whether or not within its tolerance.

    Every block of stage 3 costs the same, so the cost is a line in L3 and the best L3 is next to
    where it crosses the target; of two equally close the shallower. For (64, 16, 4) at 30M that is
    L3 = 18, the paper's origin model: hence closest to the budget is taken for its rule.

    Raises:
        ValueError: when C1, C' and L1 break a rule, whatever L3.
    """
    shallowest = like.with_numbers(c1, group_channels, l1, l1)
    least, missing = _value(shallowest, budget), 0
    if least < budget.target:
        step = _value(replace(shallowest, l3=l1 + 1), budget) - least
        missing = -((2 * (least - budget.target) + step) // (2 * step))
    return replace(shallowest, l3=l1 + missing)


def _value(variant: Variant, budget: Budget) -> int:
    return budget.value(count(variant.config()))


def plan(space: Space, budget: Budget, invalid: Invalid = "repair") -> tuple[Cell, ...]:
    """One cell per coordinate of the space, in its order, each with its fate.

    ``invalid`` says what to do with coordinates that break a rule: ``repair`` moves C1 to the
    nearest multiple of C', ties upwards, and solves L3 again (supplement C.2: "the model width C1
    needs to be divisible by C'. Therefore some adjustment is required"); ``skip`` makes them
    infeasible; ``error`` refuses the space when any cell is not exact. A cell that no L3 brings
    within the budget's tolerance is infeasible in any case.

    Raises:
        ValueError: for an unknown ``invalid``; with ``error``, listing every cell not exact.
    """
    if invalid not in get_args(Invalid):
        raise ValueError(f"invalid wants one of {', '.join(get_args(Invalid))}, got {invalid!r}")
    cells = [_cell(*where, space.like, budget, invalid) for where in space.coordinates()]
    if invalid == "error" and (bad := [cell for cell in cells if cell.fate != "exact"]):
        lines = "\n".join(f"  {_place(cell)}: {cell.reason}" for cell in bad)
        raise ValueError(f"{len(bad)} of {len(cells)} cells are not exact:\n{lines}")
    return tuple(_told_of_twin(cell, cells) for cell in cells)


def _cell(
    c1: int, group_channels: int, l1: int, like: Variant, budget: Budget, invalid: Invalid
) -> Cell:
    asked = {"c1": c1, "group_channels": group_channels, "l1": l1}
    broken = "; ".join(rule_violations(c1, group_channels, l1, l3=l1))
    if broken and invalid != "repair":
        return Cell(asked, "infeasible", None, None, broken)
    used = nearest_multiple(c1, group_channels) if broken else c1
    repair = f"{broken}; C1 {c1} -> {used} ({_repair_rule(group_channels)})" if broken else ""
    variant = solve_l3(used, group_channels, l1, budget, like)
    cost = count(variant.config())
    if refusal := budget.refusal(cost):
        kind = "smallest legal" if variant.l3 == l1 else "closest"
        reason = f"the {kind} model with C1 = {used} has L3 = {variant.l3}: {refusal}"
        return Cell(asked, "infeasible", None, None, "; ".join(filter(None, (repair, reason))))
    fate: Fate = "repaired" if broken else "exact"
    return Cell(asked, fate, variant, cost, repair, paper_figures(variant))


def nearest_multiple(c1: float, group_channels: int) -> int:
    """The legal width closest to ``c1``: a multiple of C', even, at least one; ties upwards."""
    step = lcm(2, group_channels)
    return max(1, int(c1 / step + 0.5)) * step


def _repair_rule(group_channels: int) -> str:
    even = "" if group_channels % 2 == 0 else "even "
    return f"nearest {even}multiple of C', ties upwards"


def _told_of_twin(cell: Cell, cells: list[Cell]) -> Cell:
    """A repaired cell that lands on another's network says so: they share their trials."""
    if cell.fate != "repaired":
        return cell
    twins = [_place(c) for c in cells if c.variant == cell.variant and c is not cell]
    if not twins:
        return cell
    return replace(cell, reason=f"{cell.reason}; the same network as {', '.join(twins)}")


def _place(cell: Cell) -> str:
    return "C1 = {c1}, C' = {group_channels}, L1 = {l1}".format(**cell.asked)


def variants(space: Space, l3: Iterable[int]) -> Iterator[tuple[Variant, Cost]]:
    """Every legal variant of the space at the given depths of stage 3, with its cost at 224.

    Coordinates that break a rule are left out: this enumerates, `plan` accounts. Costs are lines in
    L3, so a network is written out twice per coordinate, not once per variant (100,000 variants
    take well under a second).
    """
    depths = tuple(l3)
    for c1, group_channels, l1 in space.coordinates():
        if rule_violations(c1, group_channels, l1, l3=l1):
            continue
        shallowest = space.like.with_numbers(c1, group_channels, l1, l1)
        base, step = _line(shallowest)
        switches = _switch_values(space.like)
        for depth in depths:
            if depth >= l1:
                more = depth - l1
                yield (
                    Variant(c1, group_channels, l1, depth, *switches),
                    Cost(
                        base.params + more * step.params,
                        base.macs + more * step.macs,
                        base.activations + more * step.activations,
                        base.image_size,
                    ),
                )


def _line(shallowest: Variant) -> tuple[Cost, Cost]:
    """Cost of a variant, and of one more block in its third stage."""
    base = count(shallowest.config())
    deeper = count(replace(shallowest, l3=shallowest.l3 + 1).config())
    step = Cost(
        deeper.params - base.params,
        deeper.macs - base.macs,
        deeper.activations - base.activations,
        base.image_size,
    )
    return base, step


def _switch_values(variant: Variant) -> tuple[Any, ...]:
    v = variant
    return v.kernel_size, v.norm, v.layer_scale, v.offset_scale, v.operator


def plan_rows(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Cells as plain rows for JSON and tables; what an infeasible cell lacks is None.

    Columns: the variant's ``c1, group_channels, l1, l3`` (an infeasible cell shows those asked
    for), ``params, macs, status, reason``, then the coordinates asked for as ``asked_...`` and the
    paper's figures as ``paper_...``.
    """
    listed = list(cells)
    asked = dict.fromkeys(name for cell in listed for name in cell.asked)
    paper = dict.fromkeys(name for cell in listed for name in cell.paper)
    return [
        {
            **_numbers(cell),
            "params": cell.cost and cell.cost.params,
            "macs": cell.cost and cell.cost.macs,
            "status": cell.fate,
            "reason": cell.reason,
            **{f"asked_{name}": cell.asked.get(name) for name in asked},
            **{f"paper_{name}": cell.paper.get(name) for name in paper},
        }
        for cell in listed
    ]


def _numbers(cell: Cell) -> dict[str, Any]:
    names = ("c1", "group_channels", "l1", "l3")
    if isinstance(cell.variant, Variant):
        return dict(zip(names, cell.variant.numbers, strict=True))
    return {name: cell.asked.get(name) for name in names}


def summary(cells: Iterable[Cell], axis: Axis = "params") -> str:
    """One sentence: how many cells of which fate, and the spread of their sizes."""
    listed = list(cells)
    fates = [cell.fate for cell in listed]
    fate_counts = ", ".join(
        f"{fates.count(f)} {f}" for f in ("exact", "repaired", "infeasible") if f in fates
    )
    sizes = [getattr(cell.cost, axis) for cell in listed if cell.cost]
    spread = [readable(size, axis) for size in (min(sizes), max(sizes))] if sizes else []
    return "; ".join(
        filter(
            None,
            (
                f"{len(listed)} cell{'' if len(listed) == 1 else 's'}: {fate_counts}",
                " to ".join(spread),
            ),
        )
    )
