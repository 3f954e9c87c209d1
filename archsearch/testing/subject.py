"""What the checks of a contract share: a family, a small network of it, and its runs on digits."""

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

from archsearch.core.budget import Budget
from archsearch.core.cost import Cost
from archsearch.core.family import Family
from archsearch.core.numbers import quoted
from archsearch.families import as_stored, family_of
from archsearch.space.grid import Space, plan, smallest_variant

NUM_CLASSES = 10
"""Classes of the digits, which the networks are built for."""

STARTS = (16, 8, 32, 4, 64, 12, 24, 48, 2, 3, 1)
"""Values that every number is tried with, until the rules allow all of them together."""

LARGE = 100_000
"""A network of more parameters gets smaller numbers, so that training it takes seconds."""


class Subject:
    """A family, and what its contract is checked on; everything is made on first use.

    ``numbers`` name the network, as in ``32-5``; by default it is a small one. ``budget`` replaces
    its solved number by the one that meets this size.

    Raises:
        ValueError: it is no family, or the numbers or the budget are wrong.
    """

    def __init__(
        self,
        family: str | type[Family],
        numbers: str | Family | None = None,
        budget: str | None = None,
        image_size: int = 32,
    ) -> None:
        self.family = family_of(family)
        self.image_size = image_size
        self._numbers = None if numbers is None else self._network(numbers)
        self._budget = None if budget is None else Budget.parse(budget)
        if type(image_size) is not int or image_size < 1:
            raise ValueError(f"image_size must be a side in pixels, got {quoted(image_size)}")

    def _network(self, numbers: str | Family) -> Family:
        variant = self.family.parse(numbers) if isinstance(numbers, str) else as_stored(numbers)
        if not isinstance(variant, self.family):
            given = type(variant).__name__
            raise ValueError(f"numbers must be of {self.family.__name__}, got a {given}")
        return variant

    @cached_property
    def variant(self) -> Family:
        """The network that is built and trained.

        Raises:
            ValueError: no small network is legal, or none meets the budget.
        """
        variant = self._numbers or small_variant(self.family, self.image_size)
        if self._budget is None:
            return variant
        (cell,) = plan(Space(variant, self.values(variant)), self._budget)
        if cell.variant is None:
            raise ValueError(f"{variant.name} has no network of {self._budget}: {cell.reason}")
        return cell.variant

    @cached_property
    def budget(self) -> Budget:
        """The size of the network, which is solved for and trained at."""
        return self._budget or Budget(self.variant.cost().params)

    @property
    def variants(self) -> list[Family]:
        """The network, two deeper in the solved number, and one with each other number doubled."""
        variant = self.variant
        deeper = [variant.unchecked(**{variant.solved: variant.solved_value + n}) for n in (1, 2)]
        wider = [
            smallest_variant(variant, {**variant.by_name, name: 2 * values[0]})
            for name, values in self.values(variant).items()
        ]
        return [variant, *(legal(v) for v in (*deeper, *wider) if not v.problems())]

    def values(self, variant: Family) -> dict[str, tuple[int, ...]]:
        """The numbers of the network that are not solved, as the values of a grid of one cell."""
        return {n: (value,) for n, value in variant.by_name.items() if n != variant.solved}

    @property
    def options(self) -> dict[str, Any]:
        """The options of `archsearch.grid` that train the network with two seeds on digits."""
        template = self.family.template()
        switches = {k: v for k, v in self.variant.switches.items() if v != getattr(template, k)}
        short = {"data_fraction": 0.2, "batch_size": 32, "image_size": self.image_size}
        return {
            "family": self.family,
            "values": self.values(self.variant),
            "switches": switches or None,
            "budget": str(self.budget),
            "seeds": 2,
            "epochs": 2,
            "set": short,
        }

    @cached_property
    def folder(self) -> Path:
        """A temporary folder, which is deleted with this object."""
        path = tempfile.mkdtemp(prefix="archsearch-contract-")
        weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)
        return Path(path)


def small_variant(family: type[Family], image_size: int) -> Family:
    """A small legal network: all numbers 16, or others in `STARTS`, then halved while it is large.

    The number whose half changes the parameters least is halved first: a depth before a width.

    Raises:
        ValueError: no numbers in `STARTS` are legal.
    """
    variant = next((v for v in _starts(family) if not v.problems()), None)
    if variant is None:
        raise ValueError(
            f"no network of {family.__name__} with numbers of {', '.join(map(str, STARTS))} is "
            "legal: give the numbers of a small one"
        )
    params = partial(num_params, image_size=image_size)
    while (size := params(variant)) > LARGE:
        smaller = [half for half in _halved(variant) if params(half) < size]
        if not smaller:
            break
        variant = max(smaller, key=params)
    return legal(variant)


def num_params(variant: Family, image_size: int) -> int:
    """The parameters of a network for digits of this size.

    Raises:
        AssertionError: its cost is no `Cost`.
    """
    cost = variant.cost(image_size, image_size, NUM_CLASSES)
    require(isinstance(cost, Cost), f"cost() of {variant.name} must return a Cost, got {cost!r}")
    return cost.params


def _starts(family: type[Family]) -> Iterator[Family]:
    names = [name for name in family.number_names() if name != family.solved]
    for values in product(STARTS, repeat=len(names)):
        yield smallest_variant(family.template(), dict(zip(names, values, strict=True)))


def _halved(variant: Family) -> list[Family]:
    """The legal networks with one number halved and the smallest solved number."""
    numbers = {n: v for n, v in variant.by_name.items() if n != variant.solved and v > 1}
    halves = (smallest_variant(variant, {name: v // 2}) for name, v in numbers.items())
    return [half for half in halves if not half.problems()]


def legal(variant: Family) -> Family:
    """The variant as its class makes it, for one that was made without a check."""
    return variant.with_numbers(*variant.numbers)


def require(holds: bool, text: str) -> None:
    """Check one thing of the contract.

    Raises:
        AssertionError: it does not hold; ``text`` says what was wanted and what came.
    """
    if not holds:
        raise AssertionError(text)
