"""Networks of one step time: the sizes that are measured, and the cells that they make."""

import pytest

from archsearch.families.convnext import ConvNeXt
from archsearch.families.internimage import ORIGIN
from archsearch.space.grid import Space
from archsearch.space.step_budget import StepBudget, next_sizes, time_text, timed_cells

CONVNEXT = Space(ConvNeXt.template(), {"c1": (16, 32), "l1": (1, 2)})


def seconds_of(variant):
    """A time that is a line in L3, steeper for wider networks."""
    return 1e-3 + variant.c1 * 1e-5 * variant.l3


def measured(space, budget, times_of=seconds_of, rounds=9):
    """The times after all rounds, and how many rounds there were."""
    times = {}
    for number in range(rounds):
        networks = next_sizes(space, "repair", budget, times)
        if not networks:
            return times, number
        assert not times.keys() & set(networks)
        times |= {network: times_of(network) for network in networks}
    return times, rounds


@pytest.mark.parametrize("target", [1.5e-3, 4e-3, 20e-3])
def test_a_line_needs_two_sizes_and_the_nearest_is_found(target):
    budget = StepBudget(target, 0.2)
    times, rounds = measured(CONVNEXT, budget)
    assert rounds <= 6
    for cell in timed_cells(CONVNEXT, "repair", budget, times):
        assert cell.fate == "exact"
        sizes = range(cell.requested["l1"], 3000)
        variant = cell.variant
        best = min(sizes, key=lambda n: abs(seconds_of(variant.with_solved(n)) - target))
        assert variant == ConvNeXt(cell.requested["c1"], cell.requested["l1"], best)
        assert cell.cost == variant.cost()


def test_a_time_that_is_no_line_is_found_too():
    def curved(variant):
        return 1e-3 + 1e-5 * variant.l3**1.5

    budget = StepBudget(5e-3, 0.05)
    times, rounds = measured(CONVNEXT, budget, curved)
    assert rounds <= 8
    cells = timed_cells(CONVNEXT, "repair", budget, times)
    assert {cell.variant.l3 for cell in cells} == {54}  # 400^(2/3)


def test_the_smallest_network_may_be_too_slow():
    budget = StepBudget(1e-3, 0.01)
    times, rounds = measured(CONVNEXT, budget)
    assert rounds == 1
    for cell in timed_cells(CONVNEXT, "repair", budget, times):
        assert (cell.fate, cell.variant, cell.cost) == ("infeasible", None, None)
    assert "16-1-1 is the closest that was measured: 1.16ms is 16.0% over the budget of 1ms" in (
        timed_cells(CONVNEXT, "repair", budget, times)[0].reason
    )


def test_noise_that_does_not_rise_is_extrapolated_in_steps():
    times, rounds = measured(CONVNEXT, StepBudget(1.0, 0.1), lambda _: 1e-3, rounds=3)
    assert rounds == 3
    assert max(variant.l3 for variant in times) == 24  # 2 and 6, then twice the largest


def test_rules_are_repaired_or_skipped_as_in_a_grid():
    space = Space(ORIGIN, {"c1": (24,), "group_channels": (16,), "l1": (1,)})
    budget = StepBudget(3e-3, 0.1)
    times, _ = measured(space, budget)
    (cell,) = timed_cells(space, "repair", budget, times)
    assert (cell.fate, cell.variant.c1) == ("repaired", 32)
    assert "C1 24 -> 32" in cell.reason
    assert next_sizes(space, "skip", budget, {}) == []
    assert timed_cells(space, "skip", budget, {})[0].fate == "infeasible"


def test_times_are_parsed_and_printed():
    for text, printed in {"2ms": "2ms", "0.5 ms": "500us", "1500us": "1.5ms", "2s": "2s"}.items():
        assert str(StepBudget.parse(text, 0.1)) == printed
    assert time_text(1.2345e-3) == "1.23ms"
    for wrong in ("2", "2M", "0ms", "-1ms", "9999999s", "1e3ms"):
        with pytest.raises(ValueError, match="such as 2ms"):
            StepBudget.parse(wrong, 0.1)
    with pytest.raises(ValueError, match="tolerance must be"):
        StepBudget.parse("2ms", 0)
