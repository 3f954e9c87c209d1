"""Cells of one latency: what is measured for the model, what is doubtful, and what is solved."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from archsearch.core.cell import Cell
from archsearch.core.family import Family
from archsearch.families.internimage import Variant
from archsearch.latency.design import MAX_MEASURED
from archsearch.latency.known import Latencies
from archsearch.latency.model import features
from archsearch.latency.sizes import Solver
from archsearch.space.grid import Space
from archsearch.space.step_budget import StepBudget, timed_cells

SPACE = Space(
    Variant(16, 8, 1, 1), {"c1": (8, 16, 24, 40), "group_channels": (8,), "l1": (1, 2, 3)}
)


def seconds_of(variant: Family) -> float:
    """A latency with a constant and a term of c1, which no feature has."""
    numbers = variant.by_name
    blocks = 3 * numbers["l1"] + numbers["l3"]
    return 1e-4 + blocks * (1e-5 + 4e-7 * numbers["c1"] ** 1.5)


def noisy(variant: Family) -> float:
    numbers = np.random.default_rng(list(variant.numbers))
    return seconds_of(variant) * math.exp(0.15 * numbers.standard_normal())


def measured(
    budget: StepBudget, times_of: Callable[[Family], float] = seconds_of, rounds: int = 8
) -> tuple[Solver, int]:
    """The solver after all rounds, and the number of doubtful networks."""
    solver, num_doubtful = Solver(SPACE, "repair", budget, Latencies(32, 10)), 0
    for _ in range(rounds):
        known, networks = solver.known, solver.for_model()
        fitted = (*known.fitted, *networks)
        if not networks:
            networks = solver.doubtful()
            num_doubtful += len(networks)
        if not networks:
            break
        assert not known.measured.keys() & set(networks)
        times = {**known.measured, **{v: times_of(v) for v in networks}}
        solver = replace(solver, known=Latencies(32, 10, times, fitted))
    return solver, num_doubtful


def smallest(cell: Cell) -> Family:
    values = {name: int(value) for name, value in cell.requested.items()}
    return SPACE.like.unchecked(**values, l3=values["l1"])


@pytest.mark.parametrize("tolerance", [0.05, 0.3])
def test_every_cell_has_the_size_of_the_latency(tolerance: float) -> None:
    budget = StepBudget(2.5e-3, tolerance)
    solver, num_doubtful = measured(budget)
    known = solver.known
    assert len(known.fitted) == MAX_MEASURED
    assert len(known.measured) == MAX_MEASURED + num_doubtful
    for cell in timed_cells(SPACE, "repair", budget, solver.times()):
        assert cell.fate == "exact", cell.reason
        assert budget.refusal(seconds_of(cell.variant)) is None


def of_layers(variant: Family) -> float:
    """A latency that the model can learn."""
    row = features(variant, 32, 10)
    return 1e-10 * row[0] + 3e-10 * row[1] + 1e-5 * row[3]


def test_predictions_decide_where_they_are_sure() -> None:
    budget = StepBudget(2.5e-3, 0.2)
    solver, few = measured(budget, of_layers)
    assert few < measured(budget, noisy)[1]
    predicted = solver.times().keys() - solver.known.measured.keys()
    assert predicted
    for network in predicted:
        assert solver.times()[network] == pytest.approx(of_layers(network), rel=0.02)


def test_noise_makes_all_networks_doubtful() -> None:
    solver, _ = measured(StepBudget(2.5e-3, 0.05), noisy)
    assert solver.times() == solver.known.measured


def test_a_cell_that_is_too_slow_is_infeasible() -> None:
    budget = StepBudget(4e-4, 0.1)
    solver, _ = measured(budget)
    times = solver.times()
    predicted = times.keys() - solver.known.measured.keys()
    cells = timed_cells(SPACE, "repair", budget, times, predicted)
    slow = [cell for cell in cells if seconds_of(smallest(cell)) > 5e-4]
    assert slow
    for cell in slow:
        assert cell.fate == "infeasible"
        assert "over the budget of 400us" in cell.reason
        assert ("is the closest by prediction" in cell.reason) or (
            "is the closest that was measured" in cell.reason
        )


def test_the_first_round_measures_the_smallest_networks() -> None:
    solver = Solver(SPACE, "repair", StepBudget(1e-3, 0.1), Latencies(32, 10))
    first = solver.for_model()
    assert len(first) == 4
    assert all(v.l3 == v.l1 for v in first)
    some = {v: seconds_of(v) for v in first[:2]}
    assert replace(solver, known=Latencies(32, 10, some, tuple(some))).for_model() == first[2:]
