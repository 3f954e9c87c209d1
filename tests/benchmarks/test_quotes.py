"""The table of quotes is that of the stored measurements."""

import json
from pathlib import Path
from typing import Any

import pytest

from archsearch.benchmarks.quotes import summary

RESULTS = Path(__file__).parents[2] / "studies/results"
TEXT = (RESULTS / "README.md").read_text()
ERRORS = ("error", "left_error_25%", "left_error_50%", "left_error_75%")


def content(name: str) -> Any:
    return json.loads((RESULTS / name).read_text())


def percent(value: float) -> str:
    return f"{value:+.0%}".replace("-", "−")


def row_of(idle: dict[str, Any], shared: dict[str, Any]) -> str:
    """A row of the table after the text of its study."""
    cells = [str(idle["trials"])]
    for row in (idle, shared):
        error, *left = (percent(row[name]) for name in ERRORS)
        cells += [f"{row['quoted_s']:.0f} s", f"{row['seconds']:.0f} s", error, ", ".join(left)]
    return f" | {' | '.join(cells)} |"


def test_the_table_has_the_rows_of_both_measurements() -> None:
    idle, shared = (content(name)["rows"] for name in ("quotes.json", "quotes-shared.json"))
    for one, other in zip(idle, shared, strict=True):
        assert one["shape"] == other["shape"]
        assert row_of(one, other) in TEXT


@pytest.mark.parametrize("name", ["quotes.json", "quotes-shared.json"])
def test_the_medians_are_those_of_the_rows(name: str) -> None:
    stored = content(name)
    medians = summary(stored["rows"])
    assert {key: stored["summary"][key] for key in ERRORS} == {key: medians[key] for key in ERRORS}
    quote, first, second, third = (round(100 * medians[key]) for key in ERRORS)
    text = f" is {quote}%, and that of the time left {first}, {second} and {third}%"
    assert text in " ".join(TEXT.split())
