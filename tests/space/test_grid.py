"""The grid of the paper: L3 by cell, and the fate of every cell."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsearch.core.budget import Axis, Budget
from archsearch.core.cell import Cell
from archsearch.families.compound_scaling import nearest_multiple
from archsearch.families.internimage import ORIGIN, SCALED_ORIGIN, Variant
from archsearch.families.internimage_cost import count
from archsearch.families.internimage_space import SPACES, named_space
from archsearch.space.grid import Space, plan, plan_rows, solve, summary

BUDGET = Budget.parse("30M")


def space(
    c1: tuple[int, ...],
    group_channels: tuple[int, ...],
    l1: tuple[int, ...],
    like: Variant = ORIGIN,
) -> Space:
    return Space(like, {"c1": c1, "group_channels": group_channels, "l1": l1})


def solve_l3(
    c1: int, group_channels: int, l1: int, budget: Budget, like: Variant = ORIGIN
) -> Variant:
    return solve(like.with_numbers(c1, group_channels, l1, l1), budget)


def cell_at(cells: tuple[Cell, ...], c1: int, group_channels: int, l1: int) -> Cell:
    coordinates = {"c1": c1, "group_channels": group_channels, "l1": l1}
    (cell,) = [cell for cell in cells if cell.requested == coordinates]
    return cell


@pytest.mark.parametrize(
    ("preset", "c1", "group_channels", "l3"),
    [
        ("main", 48, 16, [61, 56, 52, 48, 44]),
        ("main", 64, 16, [31, 27, 22, 18, 14]),
        ("main", 80, 16, [17, 13, 9, 4, None]),
        ("main", 64, 32, [34, 29, 25, 21, 17]),
        ("supplement", 16, 16, [596, 592, 587, 583, 579]),
        ("supplement", 32, 16, [145, 141, 137, 132, 128]),
        ("supplement", 32, 32, [157, 153, 148, 144, 140]),
        ("supplement", 64, 16, [31, 27, 22, 18, 14]),
    ],
)
def test_l3_at_thirty_million(
    preset: str, c1: int, group_channels: int, l3: list[int | None]
) -> None:
    cells = plan(SPACES[preset], BUDGET)
    column = [cell_at(cells, c1, group_channels, l1) for l1 in range(1, 6)]
    assert [cell.variant and cell.variant.l3 for cell in column] == l3
    assert {c.fate for c in column if c.variant} == {"exact"}


@pytest.mark.parametrize(
    ("preset", "exact", "repaired", "infeasible"), [("main", 19, 8, 3), ("supplement", 25, 5, 0)]
)
def test_thirty_cells_and_the_fate_of_each(
    preset: str, exact: int, repaired: int, infeasible: int
) -> None:
    cells = plan(SPACES[preset], BUDGET)
    fates = [cell.fate for cell in cells]
    assert len({tuple(cell.requested.values()) for cell in cells}) == len(cells) == 30
    assert [fates.count(f) for f in ("exact", "repaired", "infeasible")] == [
        exact, repaired, infeasible,
    ]  # fmt: skip
    for cell in cells:
        if cell.fate == "infeasible":
            assert cell.variant is None
            assert cell.cost is None
            assert cell.reason
        else:
            assert cell.variant is not None
            assert cell.cost == count(cell.variant.config())
            assert BUDGET.refusal(cell.cost) is None
            assert bool(cell.reason) == (cell.fate == "repaired")


def test_a_cell_that_cannot_be_small_enough_is_infeasible_with_a_reason() -> None:
    reason = cell_at(plan(SPACES["main"], BUDGET), 80, 16, 5).reason
    assert reason == (
        "the smallest legal model with C1 = 80 has L3 = 5: 36.0M params is 19.9% over the budget "
        "of 30M params (tolerance 5%)"
    )


def test_a_budget_between_two_depths_reports_the_closest_model() -> None:
    (cell,) = plan(space((64,), (16,), (1,)), Budget.parse("10M", tolerance=0.001))
    assert cell.fate == "infeasible"
    assert cell.reason == (
        "the closest model with C1 = 64 has L3 = 5: 9.92M params is 0.8% under the budget of 10M "
        "params (tolerance 0.1%)"
    )


def test_repair_rounds_to_the_nearest_multiple_and_gives_the_reason() -> None:
    cell = cell_at(plan(SPACES["main"], BUDGET), 80, 32, 1)
    assert cell.fate == "repaired"
    assert cell.variant is not None
    assert cell.variant.name == "96-32-1-11"
    assert cell.reason == (
        "rule 2: C1 = 80 is not a multiple of C' = 32; C1 80 -> 96 (nearest multiple of C', ties "
        "upwards)"
    )


def test_a_repair_that_duplicates_another_cell_names_it() -> None:
    cells = plan(SPACES["main"], BUDGET)
    repaired, exact = cell_at(cells, 48, 32, 3), cell_at(cells, 64, 32, 3)
    assert repaired.variant == exact.variant
    assert repaired.reason.endswith("the same network as C1 = 64, C' = 32, L1 = 3")
    assert exact.reason == ""


def test_a_repair_over_budget_gives_both_reasons() -> None:
    reason = cell_at(plan(SPACES["main"], BUDGET), 80, 32, 5).reason
    assert reason.startswith("rule 2: C1 = 80")
    assert "C1 80 -> 96" in reason
    assert "has L3 = 5: 48.2M params is 60.7% over" in reason


def test_skip_leaves_the_ten_illegal_cells_infeasible() -> None:
    cells = plan(SPACES["main"], BUDGET, "skip")
    broken = [cell for cell in cells if "rule 2" in cell.reason]
    assert len(cells) == 30
    assert len(broken) == 10
    assert {cell.fate for cell in broken} == {"infeasible"}
    assert {cell.fate for cell in cells} == {"exact", "infeasible"}


def test_error_lists_every_cell_that_is_not_exact() -> None:
    with pytest.raises(ValueError, match="11 of 30 cells are not exact") as error:
        plan(SPACES["main"], BUDGET, "error")
    assert str(error.value).count("\n") == 11
    assert "C1 = 48, C' = 32, L1 = 5: rule 2" in str(error.value)
    legal = space((64,), (16, 32), (1, 2))
    assert plan(legal, BUDGET, "error") == plan(legal, BUDGET)


def test_an_unknown_invalid_policy_is_rejected() -> None:
    with pytest.raises(ValueError, match="invalid must be one of repair, skip, error, got 'drop'"):
        plan(SPACES["main"], BUDGET, "drop")  # type: ignore[arg-type]


def test_the_block_of_the_template_is_kept() -> None:
    (cell,) = plan(space((64,), (16,), (4,), like=SCALED_ORIGIN), BUDGET)
    assert cell.variant == SCALED_ORIGIN


def test_a_budget_of_multiply_adds() -> None:
    variant = solve_l3(64, 16, 4, Budget.parse("5G"))
    assert variant.name == "64-16-4-19"
    gaps = {
        l3: abs(count(replace(variant, l3=l3).config()).macs - 5e9) for l3 in range(4, 40)
    }  # fmt: skip
    assert min(gaps, key=gaps.__getitem__) == 19


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.sampled_from((8, 16, 32)),
    st.integers(1, 5),
    st.integers(100_000, 60_000_000),
    st.sampled_from(("params", "macs")),
    st.sampled_from((ORIGIN, SCALED_ORIGIN, replace(ORIGIN, operator="dcnv3-unshared"))),
)
def test_no_other_l3_is_closer(
    width: int, group_channels: int, l1: int, target: int, axis: Axis, like: Variant
) -> None:
    """Compares with trying every L3 in a range; ties go to the shallower model."""
    budget = Budget(target * (150 if axis == "macs" else 1), axis)
    solved = solve_l3(width * group_channels, group_channels, l1, budget, like)

    def gap(l3: int) -> int:
        return abs(budget.value(count(replace(solved, l3=l3).config())) - budget.target)

    nearby = range(max(l1, solved.l3 - 30), solved.l3 + 30)
    assert min(nearby, key=lambda l3: (gap(l3), l3)) == solved.l3
    assert gap(l1) >= gap(solved.l3)


def test_of_two_equally_close_models_the_shallower_is_taken() -> None:
    near, far = (count(replace(ORIGIN, l3=l3).config()).macs for l3 in (18, 19))
    assert (near + far) % 2 == 0
    assert solve_l3(64, 16, 4, Budget((near + far) // 2, "macs")).l3 == 18
    assert solve_l3(64, 16, 4, Budget((near + far) // 2 + 1, "macs")).l3 == 19


@pytest.mark.parametrize(
    ("c1", "group_channels", "legal"),
    [
        (48, 32, 64),
        (80, 32, 96),
        (16, 32, 32),
        (5, 16, 16),
        (87.04, 16, 80),
        (10, 5, 10),
        (4, 3, 6),
    ],
)
def test_nearest_multiple_is_even_and_ties_go_up(
    c1: float, group_channels: int, legal: int
) -> None:
    step = ORIGIN.unchecked(group_channels=group_channels).width_step
    assert nearest_multiple(c1, step) == legal


def test_an_odd_group_width_is_repaired_to_an_even_width() -> None:
    (cell,) = plan(space((16,), (5,), (1,)), Budget.parse("1M"))
    assert cell.fate == "repaired"
    assert cell.variant is not None
    assert cell.variant.c1 == 20
    assert "nearest even multiple of C'" in cell.reason


def test_every_wrong_list_of_a_space_is_reported() -> None:
    with pytest.raises(ValueError, match="not a space") as error:
        space((), (16, 16), (0,))
    assert "C1 must be" in str(error.value)
    assert "C' must be different whole numbers >= 1, at most 1,000,000,000, got 16, 16" in str(
        error.value
    )
    assert "L1 must be" in str(error.value)


def test_an_unknown_space_name_lists_the_known_names() -> None:
    with pytest.raises(ValueError, match="one of main, supplement, got 'appendix'"):
        named_space("appendix")
    assert named_space("supplement") == space((16, 32, 64), (16, 32), (1, 2, 3, 4, 5))


def test_rows_for_scripts() -> None:
    rows = plan_rows(plan(SPACES["main"], BUDGET))
    assert len(rows) == 30
    assert len({tuple(row) for row in rows}) == 1  # every row has every column
    origin = next(r for r in rows if r["paper_model"] == "T")
    assert (origin["c1"], origin["group_channels"], origin["l1"], origin["l3"]) == (64, 16, 4, 18)
    assert (origin["params"], origin["status"], origin["reason"]) == (29_918_424, "exact", "")
    assert origin["macs"] == 4_885_100_544
    repaired = next(r for r in rows if r["status"] == "repaired")
    assert (repaired["requested_c1"], repaired["c1"]) == (48, 64)
    infeasible = next(r for r in rows if r["status"] == "infeasible")
    assert (infeasible["l3"], infeasible["params"], infeasible["macs"]) == (None, None, None)
    assert (infeasible["c1"], infeasible["group_channels"], infeasible["l1"]) == (80, 16, 5)


def test_summary_counts_fates_and_gives_the_range_of_sizes() -> None:
    text = summary(plan(SPACES["main"], BUDGET))
    assert text == "30 cells: 19 exact, 8 repaired, 3 infeasible; 29.6M params to 31.2M params"
    infeasible = plan(space((80,), (16,), (5,)), BUDGET)
    assert summary(infeasible) == "1 cell: 1 infeasible"
