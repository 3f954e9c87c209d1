"""What a search may propose: numbers to choose, and the solved numbers that meet the budget."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product

from archsearch.core.budget import Budget
from archsearch.core.family import Family
from archsearch.space.grid import Space, first_above

Choice = Mapping[str, int]


@dataclass(frozen=True)
class Domain:
    """What is searched: ``choices`` for every number but the solved one, and the budget.

    ``shallowest`` gives the variant of a choice with the least solved number, or None where the
    choice breaks a rule.
    """

    choices: Mapping[str, tuple[int, ...]]
    shallowest: Callable[[Choice], Family | None]
    budget: Budget

    @property
    def num_choices(self) -> int:
        return math.prod(map(len, self.choices.values()))

    def meeting(self, choice: Choice) -> tuple[Family, ...]:
        """The variants of this choice that meet the budget, by the solved number; may be empty."""
        start = self.shallowest(choice)
        if start is None:
            return ()

        @cache
        def value(solved: int) -> int:
            return self.budget.value(start.with_solved(solved).cost())

        target, slack = self.budget.target, self.budget.tolerance * self.budget.target
        first = first_above(value, start.least(), target - slack)
        end = first_above(value, first, math.nextafter(target + slack, math.inf))
        return tuple(start.with_solved(solved) for solved in range(first, end))

    def variants(self) -> Iterator[Family]:
        """Every variant of the domain, in order."""
        for values in product(*self.choices.values()):
            yield from self.meeting(dict(zip(self.choices, values, strict=True)))


def domain_of(space: Space, budget: Budget) -> Domain:
    """The numbers of the space and every solved number within the budget, under the rules."""

    def shallowest(choice: Choice) -> Family | None:
        start = space.like.unchecked(**choice)
        start = start.unchecked(**{start.solved: start.least()})
        return None if start.problems() else start

    return Domain({n: tuple(sorted(space.values[n])) for n in space.names}, shallowest, budget)
