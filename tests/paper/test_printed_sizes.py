"""The printed sizes: every verdict follows from a count; other readings say what was tried."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import archsearch.paper.printed_sizes as module
from archsearch.families.internimage_cost import count
from archsearch.paper.claim import Claim, as_printed
from archsearch.paper.printed_sizes import claims
from archsearch.paper.weight_sharing import MODELS, extra_params
from archsearch.reports.claims import claims_table, tally
from internimage.config import PRESETS


def of(source: str, model: str, quantity: str) -> Claim:
    (claim,) = (c for c in claims() if (c.source, c.model, c.quantity) == (source, model, quantity))
    return claim


@pytest.mark.parametrize(
    ("value", "printed", "ours"),
    [
        (29_918_424, "30M", "30M"),
        (1_089_636_760, "1.08B", "1.09B"),
        (1_083_836_420, "1.08B", "1.08B"),
        (206.39e9, "206G", "206G"),
        (0.42012, "42.0%", "42.0%"),
        (1.9767, "1.99", "1.98"),
    ],
)
def test_ours_is_rounded_like_the_papers(value: float, printed: str, ours: str) -> None:
    assert as_printed(value, printed) == ours


def test_a_figure_of_another_form_is_rejected() -> None:
    with pytest.raises(ValueError, match="1478 G"):
        as_printed(1.0, "1478 G")


def test_every_size_is_recovered_except_those_that_contradict_each_other() -> None:
    verdicts = [c.verdict for c in claims()]
    assert len(verdicts) == 82
    assert verdicts.count("equal") == 74
    not_recovered = {(c.model, c.printed) for c in claims() if c.verdict == "not recovered"}
    assert not_recovered == {
        ("H", "188G"), ("H", "1478G"), ("B, DCNv2", "313G"), ("dino, InternImage-XL", "602M"),
    }  # fmt: skip
    assert not any(c.broken for c in claims())


def test_h_has_its_printed_size_only_as_the_paper_describes_it() -> None:
    claim = of("Tables 1, 2, A", "H", "parameters")
    assert claim.verdict == "equal"
    assert replace(claim, computed=PRESETS["H"].params).verdict == "not recovered"


def test_every_figure_of_tables_3_and_5_is_equal_and_counted_by_its_convention() -> None:
    """12 FLOPs of InternImage, and 10 of ConvNeXt, on which the convention was not found."""
    rows = [c for c in claims() if c.source in ("Table 3", "Table 5")]
    flops = [c for c in rows if c.printed.endswith("G")]
    assert (len(rows), len(flops)) == (44, 22)
    assert sum("ConvNeXt" in c.model for c in flops) == 10
    assert {c.verdict for c in rows} == {"equal"}
    in_macs = [c for c in flops if f"alone are {c.printed[:-1]}." in c.convention]
    assert 0 < len(in_macs) < len(flops)


def test_the_composite_of_h_has_its_printed_size_and_that_of_xl_does_not() -> None:
    h, xl = (of("Table 4", f"dino, InternImage-{name}", "parameters") for name in ("H", "XL"))
    assert (h.ours, h.verdict) == ("2.18B", "equal")
    assert (xl.ours, xl.printed) == ("683M", "602M")
    assert "one backbone 351.8M; a composite of L 461.7M" in xl.tried


def layers_sum(model: str, per_layer: Callable[[int, int], int]) -> int:
    """The sum over all layers of ``per_layer(C, G)``."""
    config = MODELS[model]
    stages = zip(config.channels, config.groups, config.depths, strict=True)
    return sum(depth * per_layer(c, g) for c, g, depth in stages)


def test_one_other_reading_gives_both_ratios_of_unshared_weights() -> None:
    for model in ("T", "H"):
        extra = layers_sum(model, lambda c, g: 8 * c * c + 9 * (c + 1) * g)
        assert extra_params(model, second_modulation=True) == extra
    more = of("Section 4.4 (Table 6)", "T", "more parameters, unshared")
    saved = of("Section 4.4 (Fig. 4)", "H", "parameters saved by sharing")
    t, h = (extra_params(m, second_modulation=True) for m in ("T", "H"))
    assert more.found == pytest.approx(t / PRESETS["T"].params)
    assert saved.found == pytest.approx(h / (h + count(MODELS["H"]).params))
    assert [c.verdict for c in claims() if c.source.startswith("Section 4.4")] == [
        "by another reading", "by another reading",
    ]  # fmt: skip


def test_the_other_reading_may_be_chance_and_says_so() -> None:
    for claim in claims():
        if claim.source.startswith("Section 4.4"):
            assert "9 (C + 1) G more per layer give 66.13% for T and 42.01% for H" in claim.tried
            assert claim.tried.endswith(
                "One reading that the paper does not state gives both; it was found by trying "
                "1,620, so it may be chance"
            )


def test_the_plain_reading_is_the_layer_that_is_built() -> None:
    """Its extra parameters are those of `dcnv3-unshared`, 8 C^2 per layer."""
    for model in ("T", "H"):
        config = MODELS[model]
        extra = count(replace(config, operator="dcnv3-unshared")).params - count(config).params
        assert extra == extra_params(model) == layers_sum(model, lambda c, _: 8 * c * c)
    plain = extra_params("T") / count(MODELS["T"]).params
    assert of("Section 4.4 (Table 6)", "T", "more parameters, unshared").computed == plain


def test_the_table_has_the_papers_figures_in_a_separate_column() -> None:
    table = claims_table(claims())
    paper, ours = table.header.index("Paper"), table.header.index("Ours")
    h = next(row for row in table.body if row[3] == "1478G")
    assert (h[paper], h[ours]) == ("1478G", "1483G")
    assert tally(claims()).startswith("82 printed figures: 74 equal")


def test_verify_prints_json_and_fails_only_for_claims_that_must_be_equal(
    run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run_cli("verify", "--format", "json")
    assert (code, len(json.loads(out))) == (0, 82)
    wrong = replace(of("Table F", "B", "FLOPs at 800"), computed=205.4e9)
    monkeypatch.setattr(module, "claims", lambda: (wrong,))
    code, out, err = run_cli("verify")
    assert code == 1
    assert "205G" in out
    assert "1 size(s) should equal the printed ones and do not: Table F, B, FLOPs at 800" in err
