"""Results on stdout: no number is cut at any width."""

import sys
from typing import Any

import pytest

from archsearch.cli import output
from archsearch.cli.output import print_blocks, print_rows

COLUMNS = ("network", "params", "macs", "activations", "seconds")


def rows(num: int) -> list[dict[str, Any]]:
    return [
        {name: 10_000_000 + 10 * i + k for k, name in enumerate(COLUMNS)} | {"reason": "so " * 30}
        for i in range(num)
    ]


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "PIPE_WIDTH", 40)
    assert not sys.stdout.isatty()


@pytest.mark.parametrize("num", [1, 3, output.MAX_BLOCKS + 1])
def test_a_narrow_terminal_cuts_no_number(num: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(rows(num), "Sizes")
    out = capsys.readouterr().out
    assert out.startswith("Sizes\n")
    assert out.count("so ") + out.count("so\n") == 30 * num
    for row in rows(num):
        for name in COLUMNS:
            assert f"{row[name]:,}" in out
    blocks = num <= output.MAX_BLOCKS
    assert (out.count("activations") == num) if blocks else (out.count("activations") == 1)


@pytest.mark.parametrize("width", range(20, 80, 3))
def test_headings_of_several_words_cut_no_number(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "PIPE_WIDTH", width)
    row = {"model": "T", "more than shared (%)": 61.8, "peak of unshared (GB)": 223.3}
    print_rows([row] * (output.MAX_BLOCKS + 1), "Sharing")
    out = capsys.readouterr().out
    assert out.count("61.8") == out.count("223.3") == output.MAX_BLOCKS + 1
    assert "more than shared (%)  peak of unshared (GB)" in out


def test_rows_that_fit_are_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"model": "T", "params": 29_918_424, "note": None}, {"model": "S", "params": 3}])
    assert capsys.readouterr().out == "model      params\nT      29,918,424\nS               3\n"


def test_blocks_leave_out_missing_values(capsys: pytest.CaptureFixture[str]) -> None:
    print_blocks([{"a": 1, "bc": None}, {"a": 2, "bc": "x"}])
    assert capsys.readouterr().out == "a   1\n\na   2\nbc  x\n"
