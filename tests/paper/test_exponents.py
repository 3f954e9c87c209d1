"""The measured exponent beside the printed 1.99, from the closed form and from the command."""

import json
import subprocess
import sys

import pytest

from archsearch.cli.count import COMMANDS, exponent
from archsearch.cli.options import Format
from archsearch.families.internimage import ORIGIN, PUBLISHED
from archsearch.paper import printed_sizes
from archsearch.paper.exponents import COUNTED, PAPER, exponents
from archsearch.paper.table_c import ROWS


def test_the_exponents_of_t_by_all_that_may_be_counted() -> None:
    told = {one.counted: round(one.exponent, 3) for one in exponents()}
    assert told == {
        "params": 1.977,
        "params without the classifier": 1.995,
        "macs": 1.981,
        "macs without the classifier": 1.981,
        "macs without the operator's samples": 1.995,
        "as printed": 1.99,
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_agree_with_the_other_count(name: str) -> None:
    """`archsearch.paper.printed_sizes` counts part by part."""
    found = {one.counted: one.exponent for one in exponents(PUBLISHED[name])}
    variant = PUBLISHED[name]
    assert found["params"] == printed_sizes.exponent(variant)
    without = printed_sizes.exponent(variant, without=("classifier",))
    assert found["params without the classifier"] == without


def test_the_steps_are_those_of_the_printed_pairs() -> None:
    for one in exponents():
        assert list(one.steps) == [(row.alpha, row.beta) for row in ROWS]
        assert all(step == pytest.approx(2, rel=0.01) for step in one.steps.values())
    printed = exponents()[-1]
    assert printed.steps[1.09, 1.36] == pytest.approx(1.09 * 1.36**PAPER)
    assert round(printed.steps[1.09, 1.36], 3) == 2.010


def test_the_command_prints_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    exponent(ORIGIN.name, Format.json)
    found = json.loads(capsys.readouterr().out)
    assert found["origin"] == "64-16-4-18"
    assert [row["counted"] for row in found["exponents"]] == [*COUNTED, "as printed"]
    assert found["exponents"][0]["exponent"] == 1.976686
    assert found["exponents"][0]["steps"][2] == {"alpha": 1.09, "beta": 1.36, "step": 2.001663}
    exponent("xl", Format.table)
    table = capsys.readouterr().out
    assert table.startswith("192-16-5-24: ")
    assert "1.993" in table
    assert "α 1.09 β 1.36" in table


def test_what_is_no_variant_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="H is no variant"):
        exponent("H", Format.table)


def test_it_is_a_command_and_loads_nothing_heavy() -> None:
    assert exponent in COMMANDS
    script = (
        "import sys\nsys.argv = ['archsearch', 'exponent', 'S', '--format', 'json']\n"
        "from archsearch.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'numpy', 'scipy', 'pandas', 'matplotlib', 'optuna', 'ray', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert json.loads(done.stdout)["origin"] == "80-16-4-21"
