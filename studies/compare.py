"""Which family of networks learns best at one budget, under one recipe and one tuning rule?

The learning rate is chosen for each family on the same number of pilot trainings; everything else
of the recipe is shared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from archsearch.core.budget import Budget
from archsearch.core.cell import Cell
from archsearch.core.family import Family
from archsearch.core.plans import PILOT_CELLS, PILOT_RATES, STEP_TIMES, Tune
from archsearch.core.recipe import Recipe
from archsearch.families.naming import family_name
from archsearch.space.grid import Invalid, Space, plan
from archsearch.space.step_budget import StepBudget, Times, next_sizes, timed_cells
from archsearch.study import About, Study

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Table 2, which compares published networks, each under its own recipe",
    command="archsearch compare --families internimage,convnext,vit --budget 30M --seeds 3",
    small="59 networks and 9 pilots, two epochs of the digits: hours on two cores",
    full="the same with 300 epochs of ImageNet-1K each (Table B)",
)

PILOT_SEED = 10_000
"""The seed of every pilot. No later training may have it, so that the noise by which a pilot was
chosen is not in the results."""

RATES = (5e-4, 1e-3, 2e-3)

REPEATS = tuple(range(5))
"""The seeds of timings: every network is timed this often, all networks in turn."""

Rates = Mapping[str, float]
"""Learning rates by family."""


@dataclass(frozen=True, kw_only=True)
class Families:
    """The spaces of several families at one budget, how they are tuned and how they are trained.

    ``num_cells`` cells of each family are trained; None trains all. ``times`` are what has been
    measured for a budget of time.
    """

    spaces: tuple[Space, ...]
    budget: Budget | StepBudget
    recipe: Recipe
    data: str = "digits"
    seeds: tuple[int, ...] = (0,)
    rates: tuple[float, ...] = RATES
    num_cells: int | None = None
    invalid: Invalid = "repair"
    times: Times = field(default_factory=dict)

    @cached_property
    def cells(self) -> dict[str, tuple[Cell, ...]]:
        """The planned cells by family; the family is one of their coordinates.

        Raises:
            ValueError: ``invalid`` is ``error`` and a cell is not exact.
        """
        return {
            (name := family_name(space.like)): tuple(
                replace(cell, requested={"family": name, **cell.requested})
                for cell in self._plan(space)
            )
            for space in self.spaces
        }

    def _plan(self, space: Space) -> tuple[Cell, ...]:
        if isinstance(self.budget, StepBudget):
            return timed_cells(space, self.invalid, self.budget, self.times)
        return plan(space, self.budget, self.invalid)

    def to_time(self) -> list[Family]:
        """The networks to time next, for a budget of time; empty if all sizes are found."""
        if not isinstance(self.budget, StepBudget):
            return []
        sizes = (next_sizes(s, self.invalid, self.budget, self.times) for s in self.spaces)
        return [network for several in sizes for network in several]

    def step_times(self) -> Study:
        """The networks that have been timed, and those to time next."""
        cells = tuple(
            Cell({"family": family_name(v), "network": v.name}, "exact", v, v.cost())
            for v in (*self.times, *self.to_time())
        )
        question = f"Which networks take {self.budget} per image and training step?"
        return self._study(STEP_TIMES, question, cells, REPEATS)

    @property
    def first_rates(self) -> Rates:
        """The first rate for every family: all that is needed to plan and to count."""
        return dict.fromkeys(self.cells, self.rates[0])

    def pilot_rates(self) -> Study | None:
        """One network of each family with every rate; None if there is only one rate."""
        if len(self.rates) == 1:
            return None
        cells = tuple(
            _pilot(name, median_cell(cells), rate)
            for name, cells in self.cells.items()
            for rate in self.rates
        )
        question = "Which learning rate is best for each family?"
        return self._study(PILOT_RATES, question, cells, (PILOT_SEED,))

    def pilot_cells(self, rates: Rates) -> Study | None:
        """Every cell once, with its family's rate; None if all cells are trained anyway."""
        if self.num_cells is None:
            return None
        question = "Which cells of each family are the best in one training?"
        return self._study(PILOT_CELLS, question, self._tuned(rates), (PILOT_SEED,))

    def final(self, rates: Rates, chosen: Mapping[str, list[Family]] | None = None) -> Study:
        """The cells with their families' rates: the ``chosen`` ones, or all."""
        cells = (
            cell
            for cell in self._tuned(rates)
            if chosen is None or cell.variant in chosen[str(cell.requested["family"])]
        )
        seconds = self.budget.seconds if isinstance(self.budget, StepBudget) else None
        tune = Tune(self.rates, self.num_cells, PILOT_SEED, seconds)
        study = self._study("compare", ABOUT.question, tuple(cells), self.seeds)
        return replace(study, plan=tune, reports=("families",))

    def first_study(self) -> Study:
        """What is trained or timed first, with all of the recipe and the data."""
        is_time = isinstance(self.budget, StepBudget)
        return self.step_times() if is_time else self.final(self.first_rates)

    def costliest(self) -> dict[str, list[Family]]:
        """As many networks of each family as are trained, those with the most multiply-adds."""
        return {
            name: [cell.variant for cell in _by_size(cells)[::-1][: self.num_cells] if cell.variant]
            for name, cells in self.cells.items()
        }

    def _tuned(self, rates: Rates) -> tuple[Cell, ...]:
        return tuple(
            replace(cell, settings={"lr": rates[name]})
            for name, cells in self.cells.items()
            for cell in cells
        )

    def _study(
        self, name: str, question: str, cells: tuple[Cell, ...], seeds: tuple[int, ...]
    ) -> Study:
        return Study(
            name=name,
            question=question,
            source=ABOUT.source,
            cells=cells,
            recipe=self.recipe,
            data=self.data,
            seeds=seeds,
            budget=self.budget if isinstance(self.budget, Budget) else None,
        )


def _by_size(cells: tuple[Cell, ...]) -> list[Cell]:
    """A cell per network, ordered by multiply-adds."""
    networks = {cell.variant: cell for cell in reversed(cells) if cell.cost is not None}
    costs = {cell.variant: cell.cost for cell in networks.values() if cell.cost is not None}
    return sorted(networks.values(), key=lambda cell: costs[cell.variant].macs)


def median_cell(cells: tuple[Cell, ...]) -> Cell:
    """The cell whose network has the median number of multiply-adds, the smaller of two."""
    ordered = _by_size(cells)
    return ordered[(len(ordered) - 1) // 2]


def _pilot(name: str, cell: Cell, rate: float) -> Cell:
    coordinates: dict[str, float | int | str] = {"family": name, "lr": rate}
    return replace(cell, requested=coordinates, settings={"lr": rate})
