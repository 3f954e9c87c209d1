"""Compound scaling: the exponent, the roundings, the ladder and Table C."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsearch.core.budget import Budget
from archsearch.families.compound_scaling import ROUNDINGS, equal_size_budget, scale
from archsearch.families.internimage import ORIGIN, PUBLISHED, SCALED_ORIGIN, Variant
from archsearch.families.internimage_cost import count
from archsearch.paper.table_c import ROWS, Row, table_c
from archsearch.space.scaling import check_factors, growth_note, ladder, scaled_cell

BEST = (1.09, 1.36)


def test_doubling_the_depth_gives_191_times_the_parameters() -> None:
    deep = replace(ORIGIN, l1=8, l3=36)
    ratio = count(deep.config()).params / count(ORIGIN.config()).params
    assert round(ratio, 2) == 1.91


@pytest.mark.parametrize("row", ROWS)
def test_every_printed_pair_doubles(row: Row) -> None:
    assert SCALED_ORIGIN.growth_factor(row.alpha, row.beta)[0] == pytest.approx(2, rel=0.01)
    assert growth_note(row.alpha, row.beta, SCALED_ORIGIN) == ""


def test_a_step_far_from_doubling_gets_a_note() -> None:
    assert growth_note(1.5, 1.0, SCALED_ORIGIN) == (
        "alpha * beta^1.976 = 1.50, not ~2: one step of phi multiplies the params by that"
    )
    assert "macs" in growth_note(1.09, 2.0, SCALED_ORIGIN, "macs")
    cell = scaled_cell(SCALED_ORIGIN, 1.5, 1.0, 1, "nearest")
    assert (cell.fate, cell.variant and cell.variant.name) == ("exact", "64-16-4-33")
    assert "not ~2" in cell.reason


@pytest.mark.parametrize(
    ("alpha", "beta", "reported"),
    [
        (0.5, 1.0, ["alpha"]),
        (1.0, 0.99, ["beta"]),
        (0.5, float("nan"), ["alpha", "beta"]),
        (float("inf"), None, ["alpha", "beta is missing"]),
    ],
)
def test_every_wrong_factor_is_reported(
    alpha: float, beta: float | None, reported: list[str]
) -> None:
    with pytest.raises(ValueError, match="must be a number >= 1") as error:
        check_factors(alpha, beta)
    assert len(str(error.value).split("; ")) == len(reported)
    assert all(name in str(error.value) for name in reported)


@pytest.mark.parametrize(
    ("rounding", "phi", "name"),
    [
        ("nearest", 0, "64-16-4-18"),
        ("nearest", 1, "80-16-4-21"),
        ("nearest", 2, "112-16-4-24"),
        ("floor", 1, "80-16-4-20"),
        ("floor", 2, "112-16-4-23"),
        ("budget", 1, "80-16-4-29"),
    ],
)
def test_roundings_from_t_with_the_best_pair(rounding: str, phi: int, name: str) -> None:
    assert scale(SCALED_ORIGIN, *BEST, phi, rounding).name == name


def test_floor_never_goes_up() -> None:
    """C1' = 125.4, D' = 31.8 (first row of Table C): 128 is nearer."""
    assert scale(SCALED_ORIGIN, 1.03, 1.40, 2, "floor").name == "112-16-4-19"


def test_rounding_by_budget_keeps_the_size_before_rounding() -> None:
    for row in ROWS:
        factor, _ = SCALED_ORIGIN.growth_factor(row.alpha, row.beta)
        target = count(SCALED_ORIGIN.config()).params * factor**2
        size = count(scale(SCALED_ORIGIN, row.alpha, row.beta, 2, "budget").config()).params
        assert size == pytest.approx(target, rel=0.02)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(1, 2), st.floats(1, 2), st.integers(0, 3), st.sampled_from(sorted(ROUNDINGS)),
    st.sampled_from((SCALED_ORIGIN, ORIGIN, Variant(24, 8, 1, 2), Variant(10, 5, 2, 2))),
)  # fmt: skip
def test_scaled_models_are_legal_and_keep_block_and_groups(
    alpha: float, beta: float, phi: int, rounding: str, origin: Variant
) -> None:
    scaled = scale(origin, alpha, beta, phi, rounding)
    assert scaled.group_channels == origin.group_channels
    assert scaled.l1 == origin.l1
    assert scaled.with_numbers(*origin.numbers) == origin
    step = 10 if origin.group_channels == 5 else origin.group_channels
    assert abs(scaled.c1 - beta**phi * origin.c1) <= (step if rounding == "floor" else step / 2)
    if rounding != "budget":
        assert abs(scaled.depth - alpha**phi * origin.depth) <= 1


def test_whole_products_are_exact_despite_floating_point() -> None:
    """1.1 * 30 is 33.00000000000000355 in floating point, 1.1^2 * 100 is 121.00000000000001."""
    for rounding in ("nearest", "floor"):
        cell = scaled_cell(Variant(64, 16, 4, 18), 1.1, 1.25, 1, rounding)
        assert (cell.fate, cell.variant and cell.variant.name) == ("exact", "80-16-4-21")
    cell = scaled_cell(Variant(64, 16, 10, 70), 1.1, 1.0, 2, "floor")
    assert (cell.fate, cell.variant and cell.variant.depth) == ("exact", 121)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.09, 1.36, -1), "phi must be a whole number >= 0, got -1"),
        ((1.09, 1.36, 1, "up"), "one of nearest, floor, budget, equal-size, got 'up'"),
        ((0.9, 1.36, 1), "alpha must be a number >= 1"),
    ],
)
def test_wrong_scaling_arguments_are_rejected(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scale(SCALED_ORIGIN, *arguments)


def test_the_ladder_of_the_best_pair() -> None:
    cells = ladder(SCALED_ORIGIN)
    assert [cell.requested for cell in cells] == [
        {"alpha": 1.09, "beta": 1.36, "phi": phi} for phi in (0, 1, 2)
    ]
    assert [cell.variant and cell.variant.name for cell in cells] == [
        "64-16-4-18", "80-16-4-21", "112-16-4-24",
    ]  # fmt: skip
    assert [cell.fate for cell in cells] == ["exact", "repaired", "repaired"]
    assert cells[0].variant == SCALED_ORIGIN  # the block of S from the first rung on
    assert cells[1].paper == {"model": "S", "accuracy": 84.2}
    assert cells[1].reason == ("C1 87.0 -> 80, D 32.7 -> 33 (rounding 'nearest', L1 stays 4)")


def test_the_ladder_ends_with_its_budget_and_tolerance() -> None:
    assert len(ladder(SCALED_ORIGIN, up_to=Budget.parse("104M", tolerance=0.006))) == 3
    assert len(ladder(SCALED_ORIGIN, up_to=Budget.parse("104M", tolerance=0.005))) == 2
    assert len(ladder(SCALED_ORIGIN, up_to=Budget.parse("16G"))) == 2
    assert len(ladder(SCALED_ORIGIN, up_to=Budget.parse("1B"))) > 4


def test_an_origin_over_the_budget_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"has 29\.9M params, over the budget of 20M"):
        ladder(SCALED_ORIGIN, up_to=Budget.parse("20M"))


@pytest.mark.parametrize("factors", [(1.0, 1.0), (1.0001, 1.0)])
def test_a_ladder_of_too_many_steps_is_rejected(factors: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="more than 64 steps to 100M params"):
        ladder(SCALED_ORIGIN, *factors)


def test_recovered_configurations_have_the_printed_parameters() -> None:
    cells = table_c()
    assert [(c.requested["alpha"], c.requested["beta"], c.requested["phi"]) for c in cells] == [
        (1.03, 1.40, 2), (1.06, 1.38, 2), (1.09, 1.36, 2), (1.12, 1.34, 2), (1.15, 1.32, 2),
    ]  # fmt: skip
    printed = ["118M", "95M", "97M", "105M", "95M"]
    assert [cell.paper["params"] for cell in cells] == printed
    assert [cell.cost and f"{cell.cost.params / 1e6:.0f}M" for cell in cells] == printed
    assert [cell.paper["accuracy"] for cell in cells] == [84.5, 83.8, 84.9, 83.1, 81.8]
    assert all(cell.reason.startswith("recovered: not printed") for cell in cells)
    assert {cell.fate for cell in cells} == {"repaired"}
    assert cells[2].variant == PUBLISHED["B"]
    assert cells[2].paper["model"] == "B"


def test_table_c_by_a_rounding_keeps_the_papers_figures() -> None:
    cells = table_c(rounding="nearest")
    assert [cell.variant and cell.variant.name for cell in cells] == [
        "128-16-4-20", "128-16-4-22", "112-16-4-24", "112-16-4-26", "112-16-4-28",
    ]  # fmt: skip
    assert cells[4].paper == {"params": "95M", "accuracy": 81.8}
    assert "recovered" not in cells[4].reason


def test_table_c_is_recovered_from_the_papers_origin_only() -> None:
    small = Variant(16, 4, 2, 6)
    with pytest.raises(ValueError, match="from 16-4-2-6 at phi = 2 take a rounding"):
        table_c(small)
    assert [c.variant and c.variant.c1 for c in table_c(small, "nearest")] == [32, 32, 28, 28, 28]
    with pytest.raises(ValueError, match=r"recovered or one of nearest, .* got 'up'"):
        table_c(small, "up")


def test_no_rounding_gives_all_five_sizes() -> None:
    printed = [row.params for row in ROWS]
    for rounding in ROUNDINGS:
        sizes = [c.cost and round(c.cost.params / 1e6) for c in table_c(rounding=rounding)]
        assert sizes != printed


def test_95m_at_width_112_needs_fewer_blocks_for_every_split_of_the_depth() -> None:
    """Rows 2 and 3 of Table C contradict each other: 95M at width 112 needs fewer than row 3's 33
    blocks, unless L1 is below T's."""
    for l1 in range(4, 8):
        for l3 in range(l1, 40):
            variant = SCALED_ORIGIN.with_numbers(112, 16, l1, l3)
            if round(count(variant.config()).params / 1e6) == 95:
                assert variant.depth < 33


def plain_equal_size(origin: Variant, alpha: float, beta: float, phi: int) -> set[str]:
    """The networks of the step's size with the best ratio D/C1, by trying every one."""
    target = origin.cost().params * 2**phi
    wanted = math.log(alpha**phi * origin.depth / (beta**phi * origin.c1))
    distances: dict[str, float] = {}
    for c1 in range(origin.group_channels, 60, origin.group_channels):
        for l1 in range(max(1, origin.l1 - 2), origin.l1 + 3):
            for l3 in range(l1, 40):
                variant = origin.with_numbers(c1, origin.group_channels, l1, l3)
                if abs(variant.cost().params - target) <= 0.01 * target:
                    ratio = math.log((3 * l1 + l3) / c1)
                    distances[variant.name] = abs(ratio - wanted)
    return {name for name, d in distances.items() if d == min(distances.values())}


def test_equal_size_is_the_closest_shape_of_all_networks_of_that_size() -> None:
    origin = SCALED_ORIGIN.with_numbers(8, 2, 2, 6)
    for row in (ROWS[0], ROWS[4]):
        chosen = scale(origin, row.alpha, row.beta, 2, "equal-size").name
        assert chosen in plain_equal_size(origin, row.alpha, row.beta, 2)


@pytest.mark.parametrize(
    ("origin", "phi", "networks"),
    [((64, 16, 4, 18), 2, 3), ((12, 4, 2, 8), 2, 3), ((8, 2, 2, 6), 3, 5)],
)
def test_table_c_at_equal_size(origin: tuple[int, ...], phi: int, networks: int) -> None:
    """All pairs are within 1% of one size; pairs that collapse to one network say so."""
    start = SCALED_ORIGIN.with_numbers(*origin)
    cells = table_c(start, "equal-size", phi)
    sizes = [cell.cost.params for cell in cells if cell.cost]
    target = start.cost().params * 2**phi
    assert max(abs(size / target - 1) for size in sizes) <= 0.01
    assert max(sizes) / min(sizes) < 1.02
    variants = [cell.variant for cell in cells]
    assert len(set(variants)) == networks
    shared = ["the same network as" in cell.reason for cell in cells]
    assert shared == [variants.count(variant) > 1 for variant in variants]
    shapes = [v.depth / v.c1 for v in variants if isinstance(v, Variant)]
    assert shapes == sorted(shapes)  # from wide to deep, as alpha grows
    growths = [cell.growth for cell in cells]
    assert growths == pytest.approx([(s / start.cost().params) ** (1 / phi) for s in sizes])
    assert growths == pytest.approx([2.0] * 5, rel=0.006)


def test_a_ladder_of_equal_size_doubles_at_every_step() -> None:
    cells = ladder(SCALED_ORIGIN, up_to=Budget.parse("130M"), rounding="equal-size")
    for phi, cell in enumerate(cells):
        assert cell.cost is not None
        assert equal_size_budget(SCALED_ORIGIN, phi).refusal(cell.cost) is None
    assert len(cells) == 3
    assert cells[0].growth is None
    assert cells[0].variant == SCALED_ORIGIN


def test_the_growth_after_rounding_is_stated() -> None:
    growths = [cell.growth for cell in table_c(Variant(12, 4, 2, 8), "nearest")]
    assert growths == pytest.approx([1.95, 1.99, 2.04, 1.75, 1.79], abs=0.006)


def test_a_size_without_a_network_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"a multiple of 64 .* within 1% of .* at phi = 1"):
        scale(Variant(128, 64, 1, 1), 1.0, 2.0, 1, "equal-size")


@pytest.mark.parametrize("phi", [0, 65])
def test_table_c_needs_a_step(phi: int) -> None:
    with pytest.raises(ValueError, match=f"got 'up'; phi must be .* 1 to 64, got {phi}"):
        table_c(SCALED_ORIGIN, "up", phi)
