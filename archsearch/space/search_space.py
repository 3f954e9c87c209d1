"""What a search may propose: numbers to choose, and the depths of stage 3 that meet the budget."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

from archsearch.core.budget import Budget
from archsearch.families.internimage import (
    ORIGIN,
    AnyVariant,
    FreeVariant,
    Variant,
    rule_violations,
)
from archsearch.families.internimage_cost import count
from archsearch.space.grid import Space

Choice = Mapping[str, int]

SEARCH_SPACE = Space(c1=tuple(range(32, 129, 16)), group_channels=(16, 32), l1=tuple(range(1, 9)))
"""Wider than the grid, which has three widths and five L1."""


@dataclass(frozen=True)
class Domain:
    """What is searched: ``choices`` for every number but L3, and the budget that bounds L3.

    ``shallowest`` gives the variant of a choice with its least L3, or None where it breaks a rule.
    """

    choices: Mapping[str, tuple[int, ...]]
    shallowest: Callable[[Choice], AnyVariant | None]
    budget: Budget

    @property
    def num_choices(self) -> int:
        return math.prod(map(len, self.choices.values()))

    def meeting(self, choice: Choice) -> tuple[AnyVariant, ...]:
        """The variants of this choice that meet the budget, by L3; may be empty.

        All blocks of stage 3 cost the same, so two counts give them all.
        """
        start = self.shallowest(choice)
        if start is None:
            return ()
        base = self.budget.value(count(start.config()))
        step = self.budget.value(count(deeper(start, 1).config())) - base
        target, slack = self.budget.target, self.budget.tolerance
        first = max(0, math.ceil((target * (1 - slack) - base) / step))
        last = math.floor((target * (1 + slack) - base) / step)
        return tuple(deeper(start, more) for more in range(first, last + 1))

    def variants(self) -> Iterator[AnyVariant]:
        """Every variant of the domain, in order."""
        for values in product(*self.choices.values()):
            yield from self.meeting(dict(zip(self.choices, values, strict=True)))


def deeper(variant: AnyVariant, more: int) -> AnyVariant:
    """The same variant with more blocks in stage 3."""
    if isinstance(variant, Variant):
        return replace(variant, l3=variant.l3 + more)
    l1, l2, l3, l4 = variant.depths
    return replace(variant, depths=(l1, l2, l3 + more, l4))


def l3_of(variant: AnyVariant) -> int:
    return variant.l3 if isinstance(variant, Variant) else variant.depths[2]


def four_numbers(budget: Budget, space: Space = SEARCH_SPACE) -> Domain:
    """C1, C', L1 of the space and every L3 within the budget: the paper's rules hold."""

    def shallowest(choice: Choice) -> Variant | None:
        c1, group_channels, l1 = (choice[name] for name in ("c1", "group_channels", "l1"))
        if rule_violations(c1, group_channels, l1, l1):
            return None
        return space.like.with_numbers(c1, group_channels, l1, l1)

    choices = {"c1": space.c1, "group_channels": space.group_channels, "l1": space.l1}
    return Domain({k: tuple(sorted(v)) for k, v in choices.items()}, shallowest, budget)


def twelve_numbers(
    budget: Budget,
    origin: Variant = ORIGIN,
    group_channels: tuple[int, ...] = (16, 32),
    max_depth: int = 8,
) -> Domain:
    """All of C_i, G_i and L_i free: what the stacking rules give away.

    Each C_i runs in quarters from half to one and a half times the origin's, rounded to multiples
    of the widest group; G_i is chosen as channels per group, so that it divides C_i; L1, L2 and
    L4 go up to ``max_depth``; L3 is any that meets the budget.
    """
    widest = max(group_channels)
    choices: dict[str, tuple[int, ...]] = {}
    for i in range(1, 5):
        c = origin.c1 * 2 ** (i - 1)
        widths = {max(1, round(c * part / 4 / widest)) * widest for part in range(2, 7)}
        choices[f"c{i}"] = tuple(sorted(widths))
        choices[f"group_channels_{i}"] = tuple(sorted(group_channels))
    choices |= {name: tuple(range(1, max_depth + 1)) for name in ("l1", "l2", "l4")}

    def shallowest(choice: Choice) -> FreeVariant:
        c1, c2, c3, c4 = (choice[f"c{i}"] for i in range(1, 5))
        w1, w2, w3, w4 = (choice[f"group_channels_{i}"] for i in range(1, 5))
        return FreeVariant(
            channels=(c1, c2, c3, c4),
            groups=(c1 // w1, c2 // w2, c3 // w3, c4 // w4),
            depths=(choice["l1"], choice["l2"], 1, choice["l4"]),
            kernel_size=origin.kernel_size,
            norm=origin.norm,
            layer_scale=origin.layer_scale,
            offset_scale=origin.offset_scale,
            operator=origin.operator,
        )

    return Domain(choices, shallowest, budget)
