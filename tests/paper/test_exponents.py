"""The measured exponent beside the printed 1.99, from the closed form and from the command."""

import json
from math import log2

import pytest

from archsearch.cli.count import exponent
from archsearch.cli.options import Format
from archsearch.families.internimage import ORIGIN, PUBLISHED
from archsearch.families.internimage_cost import count_parts
from archsearch.paper.exponents import COUNTED, PRINTED, exponents
from archsearch.paper.table_c import ROWS


def test_the_exponents_of_t_for_all_ways_to_count() -> None:
    values = {one.counted: round(one.exponent, 3) for one in exponents()}
    assert values == {
        "params": 1.977,
        "params without the classifier": 1.995,
        "macs": 1.981,
        "macs without the classifier": 1.981,
        "macs without the operator's samples": 1.995,
        "as printed": 1.99,
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_exponents_of_the_parameters_equal_a_count_by_parts(name: str) -> None:
    values = {one.counted: one.exponent for one in exponents(PUBLISHED[name])}
    variant = PUBLISHED[name]
    wide = variant.with_numbers(2 * variant.c1, *variant.numbers[1:])

    def exponent_without(*left_out: str) -> float:
        small, large = (
            sum(t.params for part, t in count_parts(v.config()).items() if part not in left_out)
            for v in (variant, wide)
        )
        return log2(large / small)

    assert values["params"] == exponent_without()
    assert values["params without the classifier"] == exponent_without("classifier")


def test_the_steps_belong_to_the_printed_pairs() -> None:
    for one in exponents():
        assert list(one.steps) == [(row.alpha, row.beta) for row in ROWS]
        assert all(step == pytest.approx(2, rel=0.01) for step in one.steps.values())
    printed = exponents()[-1]
    assert printed.steps[1.09, 1.36] == pytest.approx(1.09 * 1.36**PRINTED)
    assert round(printed.steps[1.09, 1.36], 3) == 2.010


def test_the_command_prints_json_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    exponent(ORIGIN.name, Format.json)
    printed = json.loads(capsys.readouterr().out)
    assert printed["origin"] == "64-16-4-18"
    assert [row["counted"] for row in printed["exponents"]] == [*COUNTED, "as printed"]
    assert printed["exponents"][0]["exponent"] == 1.976686
    assert printed["exponents"][0]["steps"][2] == {"alpha": 1.09, "beta": 1.36, "step": 2.001663}
    exponent("xl", Format.table)
    table = capsys.readouterr().out
    assert table.startswith("192-16-5-24: ")
    assert "1.993" in table
    assert "α 1.09 β 1.36" in table


def test_a_network_that_is_not_a_variant_is_rejected() -> None:
    with pytest.raises(ValueError, match="H is not a variant"):
        exponent("H", Format.table)
