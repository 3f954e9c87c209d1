"""The printed sizes: every verdict follows from a count, an open ratio from all its readings."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

import archsearch.paper.printed_sizes as module
from archsearch import cli
from archsearch.families.internimage import PUBLISHED
from archsearch.paper.printed_sizes import Claim, as_printed, claims, exponent
from archsearch.paper.unshared_weights import DESCRIBED_H, POINTS, SIDES, WEIGHTS, T, readings
from archsearch.reports.claims import claims_table, tally
from internimage.config import PRESETS


def of(source: str, model: str, quantity: str) -> Claim:
    (found,) = (c for c in claims() if (c.source, c.model, c.quantity) == (source, model, quantity))
    return found


@pytest.mark.parametrize(
    ("value", "printed", "told"),
    [
        (29_918_424, "30M", "30M"),
        (1_089_636_760, "1.08B", "1.09B"),
        (1_083_836_420, "1.08B", "1.08B"),
        (206.39e9, "206G", "206G"),
        (0.42012, "42.0%", "42.0%"),
        (1.9767, "1.99", "1.98"),
    ],
)
def test_ours_is_rounded_as_the_paper_rounds(value: float, printed: str, told: str) -> None:
    assert as_printed(value, printed) == told


def test_a_figure_without_form_is_refused() -> None:
    with pytest.raises(ValueError, match="1478 G"):
        as_printed(1.0, "1478 G")


def test_every_size_of_the_tables_comes_out_but_those_that_contradict_themselves() -> None:
    verdicts = [c.verdict for c in claims()]
    assert len(verdicts) == 36
    assert verdicts.count("equal") == 29
    open_ones = {(c.model, c.printed) for c in claims() if c.verdict == "not recovered"}
    assert open_ones == {("H", "188G"), ("H", "1478G"), ("B, DCNv2", "313G")}
    assert not any(c.broken for c in claims())


def test_h_has_its_printed_size_only_as_described() -> None:
    claim = of("Tables 1, 2, A", "H", "parameters")
    assert claim.verdict == "equal"
    assert replace(claim, computed=PRESETS["H"].params).verdict == "not recovered"


def test_one_reading_gives_both_ratios_of_unshared_weights() -> None:
    every = list(readings())
    assert len({r.text for r in every}) == len(every) == 1620
    both = [r for r in every if r.gives_t and r.gives_h]
    assert {r.text.split("; of")[0] for r in both} == {
        "w_k in place of the output projection (8 C^2); a second modulation Linear (9 C G)"
    }
    blocks = zip(T.channels, T.groups, T.depths, strict=True)
    more = sum(d * (8 * c * c + 9 * (c + 1) * g) for c, g, d in blocks)  # written out
    assert both[0].more_at_t == pytest.approx(100 * more / PRESETS["T"].params)
    assert [c.verdict for c in claims() if c.source.startswith("Section 4.4")] == [
        "by another reading", "by another reading",
    ]  # fmt: skip


def test_a_figure_found_by_trying_says_how_many_would_fit_by_chance() -> None:
    every = list(readings())
    near = {r.more_at_t for r in every if 65.1 < r.more_at_t < 67.1}
    tried = of("Section 4.4 (Table 6)", "T", "more parameters, unshared").tried
    assert "1,620 readings: 3 give T's figure, 9 give H's, 2 give both" in tried
    assert f"may be chance, for {len(near)} readings of T lie within a point" in tried


def test_the_plain_reading_is_the_layer_that_is_built() -> None:
    """Its extra parameters are `dcnv3-unshared`'s, which `archsearch.paper.cost_check` holds."""
    from archsearch.families.internimage_cost import count

    plain = next(readings())
    for config, ratio in ((T, plain.more_at_t), (DESCRIBED_H, None)):
        extra = count(replace(config, operator="dcnv3-unshared")).params - count(config).params
        per_layer = WEIGHTS["w_k in place of the output projection (8 C^2)"]
        blocks = zip(config.channels, config.groups, config.depths, strict=True)
        assert extra == sum(d * per_layer(c, g) for c, g, d in blocks)
        if ratio is not None:
            assert ratio == pytest.approx(100 * extra / count(config).params)
    assert SIDES["one group"](64, 4) == -3 * POINTS * 65 * 3


def test_the_exponent_is_that_of_larger_models() -> None:
    assert round(exponent(PUBLISHED["T"]), 3) == 1.977
    assert round(exponent(PUBLISHED["T"], without=("classifier",)), 3) == 1.995
    assert as_printed(exponent(PUBLISHED["B"]), "1.99") == "1.99"


def test_the_table_keeps_the_papers_figures_in_a_column_of_their_own() -> None:
    table = claims_table(claims())
    paper, ours = table.header.index("Paper"), table.header.index("Ours")
    h = next(row for row in table.body if row[3] == "1478G")
    assert (h[paper], h[ours]) == ("1478G", "1483G")
    assert tally(claims()).startswith("36 printed figures: 29 equal")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["archsearch", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)  # type: ignore[arg-type]


def test_verify_prints_json_and_fails_only_for_what_should_come_out(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "verify", "--format", "json") == 0
    assert len(json.loads(capfd.readouterr().out)) == 36
    wrong = replace(of("Table F", "B", "FLOPs at 800"), computed=205.4e9)
    monkeypatch.setattr(module, "claims", lambda: (wrong,))
    assert run(monkeypatch, "verify") == 1
    captured = capfd.readouterr()
    assert "205G" in captured.out
    assert "1 should have come out and did not: Table F, B, FLOPs at 800" in captured.err


def test_recounting_planning_and_predicting_load_nothing_heavy() -> None:
    heavy = ("torch", "ray", "optuna", "pandas", "numpy", "matplotlib", "scipy", "kornia", "rich")
    for arguments in (["verify"], ["weight-sharing"], ["study", "ablation", "--plan"]):
        script = (
            "import sys\n"
            f"sys.argv = ['archsearch', *{arguments!r}, '--format', 'json']\n"
            "from archsearch.cli import main\n"
            "try:\n    main()\nexcept SystemExit:\n    pass\n"
            f"sys.stderr.write('loaded: ' + ' '.join(m for m in {heavy!r} if m in sys.modules))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        assert done.stderr.rstrip().endswith("loaded:"), arguments
