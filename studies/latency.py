"""Which networks take a latency on a target? What a grid or a search measures before it trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from archsearch.core.cell import Cell
from archsearch.core.family import Family
from archsearch.core.plans import LATENCIES, Latency, Plan, Search
from archsearch.core.recipe import Recipe
from archsearch.latency.design import MAX_MEASURED, candidates_of, spread
from archsearch.latency.known import Latencies
from archsearch.latency.sizes import Solver
from archsearch.results.latencies import CHOSEN, DOUBTFUL, MODEL, MeasuredLatencies
from archsearch.searching.planned_networks import domain_of
from archsearch.space.grid import Invalid, Space
from archsearch.space.step_budget import StepBudget, timed_cells
from archsearch.studies import grid
from archsearch.study import Study

REPEATS = tuple(range(5))
"""The seeds of the measurements: every network is timed this often, all of a round in turn."""

Purposes = Mapping[Family, str]
"""Why a network is measured, by network."""


@dataclass(frozen=True, kw_only=True)
class LatencyGrid:
    """A grid whose cells are solved for a latency on ``target``."""

    space: Space
    budget: StepBudget
    target: str
    recipe: Recipe
    data: str = "digits"
    seeds: tuple[int, ...] = (0,)
    invalid: Invalid = "repair"
    plan: Plan | None = None

    @property
    def tolerance(self) -> float:
        """The largest spread of repeats, relative to their median."""
        return self.budget.tolerance

    @property
    def name(self) -> str:
        """The name of the run's folder, before its data: ``grid-5ms``."""
        return f"{self.study().name}-{self.budget}"

    def latency(self, device: str) -> Latency:
        return Latency(self.target, device, self.budget.seconds)

    def to_measure(self, known: Latencies) -> Purposes:
        """The networks to measure next; empty if all cells are solved."""
        solver = self._solver(known)
        if networks := solver.for_model():
            return dict.fromkeys(networks, MODEL)
        return dict.fromkeys(solver.doubtful(), DOUBTFUL)

    def study(self, measured: MeasuredLatencies | None = None) -> Study:
        """The grid of solved cells; without measurements, one that has none."""
        cells = () if measured is None else self._cells(measured.known)
        study = grid.of_cells(self.space, cells, self.recipe, self.data, self.seeds)
        return replace(study, plan=self.plan)

    def _cells(self, known: Latencies) -> tuple[Cell, ...]:
        times = self._solver(known).times()
        predicted = times.keys() - known.measured.keys()
        return timed_cells(self.space, self.invalid, self.budget, times, predicted)

    def _solver(self, known: Latencies) -> Solver:
        return Solver(self.space, self.invalid, self.budget, known)


@dataclass(frozen=True)
class LatencySearch:
    """A search with latency among its objectives; its proposals are predicted."""

    search: Study

    tolerance = 0.1
    """The largest spread of repeats, relative to their median."""

    @property
    def name(self) -> str:
        """The name of the run's folder, before its size and its data."""
        return self.search.name

    @property
    def plan(self) -> Search:
        plan = self.search.plan
        assert isinstance(plan, Search), "only a search has objectives"
        return plan

    def latency(self, device: str) -> Latency:
        assert self.plan.latency is not None, "the search has latency as an objective"
        return Latency(self.plan.latency.target, device)

    def to_measure(self, known: Latencies) -> Purposes:
        """The networks of the model; empty if it has all of them."""
        if known.fitted:
            return {}
        candidates = candidates_of(domain_of(self.search, self.plan))
        return dict.fromkeys(spread(candidates, MAX_MEASURED), MODEL)

    def study(self, measured: MeasuredLatencies | None = None) -> Study:
        """The search, with the predictions of the measured model if there is one."""
        if measured is None:
            return self.search
        return replace(self.search, plan=replace(self.plan, latency=measured.prediction))


def measurements(study: Study, latency: Latency, purposes: Purposes) -> Study:
    """The study of the measurements of networks, for the run of ``study``."""
    cells = tuple(
        Cell({"network": v.name, "purpose": purpose}, "exact", v, v.cost())
        for v, purpose in purposes.items()
    )
    return Study(
        name=LATENCIES,
        question=f"What is the latency of these networks on {latency.target}?",
        source="Measured on the target",
        cells=cells,
        recipe=study.recipe,
        data=study.data,
        seeds=REPEATS,
        plan=latency,
        task=study.task,
    )


def chosen(networks: Sequence[Family], measured: MeasuredLatencies) -> Purposes:
    """Those of the networks that trainings have chosen which are not measured."""
    return {variant: CHOSEN for variant in networks if variant not in measured.times}
