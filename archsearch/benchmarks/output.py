"""Printing what a benchmark measures, as it is measured."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

Row = TypeVar("Row", bound=Mapping[str, object])


def print_measured(rows: Iterable[Row], line: Callable[[Row], str], as_json: bool) -> None:
    """Print a line per row as soon as it is measured, or a JSON list of all rows at the end."""
    measured = []
    for row in rows:
        measured.append(row)
        if not as_json:
            print(line(row), flush=True)
    if as_json:
        print(json.dumps(measured, indent=1))
