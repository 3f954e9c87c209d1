"""Parsing a budget, and checking a cost against it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.core.budget import Budget, readable
from archsearch.core.cost import Cost


def cost(params: int = 0, macs: int = 0) -> Cost:
    return Cost(params, macs, 0, 224)


@pytest.mark.parametrize(
    ("text", "target", "axis"),
    [
        ("30M", 30_000_000, "params"),
        (" 30 m ", 30_000_000, "params"),
        ("1.08B", 1_080_000_000, "params"),
        ("250K", 250_000, "params"),
        ("5G", 5_000_000_000, "macs"),
        ("4.89GMACs", 4_890_000_000, "macs"),
        ("1.1G params", 1_100_000_000, "params"),
        ("600M macs", 600_000_000, "macs"),
        ("29918424 params", 29_918_424, "params"),
        ("3e7", 30_000_000, "params"),
        ("3E+7", 30_000_000, "params"),
        ("30_000_000", 30_000_000, "params"),
        ("30000000", 30_000_000, "params"),
        ("0.03e3M", 30_000_000, "params"),
        ("5e9 macs", 5_000_000_000, "macs"),
        ("0.1B", 100_000_000, "params"),
    ],
)
def test_parse(text: str, target: int, axis: str) -> None:
    assert Budget.parse(text) == Budget(target, axis, 0.05)


@pytest.mark.parametrize(
    "text",
    [
        "banana",
        "",
        "30",
        "M",
        "-30M",
        "30M bananas",
        "30T",
        "nan",
        "30__0M",
        "_30M",
        "1e-9999M",
        "30\u212a",
        "３０M",
        "30\N{CYRILLIC CAPITAL LETTER EM}",
        "1e2",
    ],
)
def test_an_invalid_text_raises_with_valid_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"like 30M \(parameters\), 5G \(multiply-adds\)") as error:
        Budget.parse(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("text", ["9" * 400 + "M", "9" * 5000, "1e999", "9e15", "1000001G"])
def test_a_budget_beyond_every_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"a budget is at most 1e\+15, got '"):
        Budget.parse(text)


def test_a_number_is_read_exactly() -> None:
    """Not as a float, which would round this number."""
    assert Budget.parse("999999999999999").target == 999_999_999_999_999
    assert str(Budget(999_999_999_999_999)) == "999999.999999999B params"


def test_flops_are_rejected_as_ambiguous() -> None:
    with pytest.raises(ValueError, match="FLOPs are multiply-adds: write macs"):
        Budget.parse("5 GFLOPs")


def test_all_wrong_fields_are_reported_together() -> None:
    with pytest.raises(ValueError, match="not a budget") as error:
        Budget(10**6000, "flops", 1.5)  # type: ignore[arg-type]
    for field in ("target", "axis", "tolerance"):
        assert field in str(error.value)


def test_tolerance_applies_on_both_sides_and_includes_its_end() -> None:
    budget = Budget.parse("100M", tolerance=0.1)
    assert budget.refusal(cost(params=110_000_000)) is None
    assert budget.refusal(cost(params=90_000_000)) is None
    assert "10.1% over the budget of 100M params (tolerance 10%)" in str(
        budget.refusal(cost(params=110_100_000))
    )
    assert "20.0% under" in str(budget.refusal(cost(params=80_000_000)))


def test_a_budget_limits_its_own_axis_only() -> None:
    assert Budget.parse("5G").refusal(cost(params=1, macs=5_000_000_000)) is None
    assert Budget.parse("5M").refusal(cost(params=5_000_000, macs=1)) is None


@pytest.mark.parametrize(
    ("value", "axis", "text"),
    [
        (29_918_424, "params", "29.9M params"),
        (36_000_000, "params", "36.0M params"),
        (999_999, "params", "1.00M params"),
        (1_089_636_760, "params", "1.09B params"),
        (4_885_100_544, "macs", "4.89G macs"),
        (412, "macs", "412 macs"),
    ],
)
def test_readable(value: int, axis: str, text: str) -> None:
    assert readable(value, axis) == text  # type: ignore[arg-type]


@given(st.integers(1, 10**15), st.sampled_from(("params", "macs")))
def test_a_budget_parses_from_its_own_text(target: int, axis: str) -> None:
    budget = Budget(target, axis)  # type: ignore[arg-type]
    assert Budget.parse(str(budget)) == budget
