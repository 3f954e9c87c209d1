"""Search domains: the numbers to choose, and the solved numbers that meet the budget."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import product

from archsearch.core.budget import Budget
from archsearch.core.family import Family
from archsearch.core.family_fault import BuildFault
from archsearch.space.crossing import Sizes, Unsolvable
from archsearch.space.grid import Space, smallest_variant

log = logging.getLogger("archsearch")

Choice = Mapping[str, int]


@dataclass(frozen=True)
class Domain:
    """The domain of a search: ``choices`` for every number but the solved one, and the budget.

    ``smallest`` returns the variant of a choice with the smallest solved number, or None if the
    choice breaks a rule.
    """

    choices: Mapping[str, tuple[int, ...]]
    smallest: Callable[[Choice], Family | None]
    budget: Budget
    _solved: dict[tuple[int, ...], tuple[Family, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def num_choices(self) -> int:
        return math.prod(map(len, self.choices.values()))

    def variants_of(self, choice: Choice) -> tuple[Family, ...]:
        """The variants of this choice that meet the budget, by solved number; may be empty.

        Each choice is solved once: a sampler of a small domain proposes it again and again.
        """
        values = tuple(choice[name] for name in self.choices)
        if values not in self._solved:
            self._solved[values] = self._solve(choice)
        return self._solved[values]

    def _solve(self, choice: Choice) -> tuple[Family, ...]:
        start = self.smallest(choice)
        if start is None:
            return ()

        target, slack = self.budget.target, self.budget.tolerance * self.budget.target
        sizes = Sizes(start, self.budget.axis)
        try:
            first = sizes.first_above(target - slack)
            end = sizes.first_above(math.nextafter(target + slack, math.inf))
        except (Unsolvable, BuildFault) as error:
            _say_once(f"the search leaves out {dict(choice)}: {error}")
            return ()
        return tuple(start.with_solved(solved) for solved in range(first, end))

    def variants(self) -> Iterator[Family]:
        """Every variant of the domain, in order."""
        for values in product(*self.choices.values()):
            yield from self.variants_of(dict(zip(self.choices, values, strict=True)))


@cache
def _say_once(text: str) -> None:
    log.warning("%s", text)


def domain_of(space: Space, budget: Budget) -> Domain:
    """The search domain of a space: its values, under the family's rules and the budget."""

    def smallest(choice: Choice) -> Family | None:
        variant = smallest_variant(space.like, choice)
        return None if variant.problems() else variant

    return Domain({n: tuple(sorted(space.values[n])) for n in space.names}, smallest, budget)
