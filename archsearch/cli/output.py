"""Results on stdout: JSON, or a table that fits the terminal and never cuts a number."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archsearch.cli.streams import holds_unicode
from archsearch.core.visible import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Rows = Sequence[Mapping[str, Any]]

PIPE_WIDTH = 200
"""Line length in characters if stdout is not a terminal."""

MAX_BLOCKS = 20
"""Up to this many rows that are too wide are printed as blocks; more are printed as long lines."""

TEXT_COLUMNS = ("reason", "question", "error")
"""Columns that may wrap over several lines."""


def print_json(value: object) -> None:
    """Print one strict JSON document; NaN raises ValueError, because it is our mistake.

    Characters that a terminal obeys, or that stdout lacks, are escaped: the same text in JSON.
    """
    escape = not holds_unicode(sys.stdout)
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=escape)
    print(re.sub(r"[^\n -~]", lambda match: _json_character(match[0]), text))


def _json_character(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def print_rows(rows: Rows, title: str = "") -> None:
    """Print rows as an aligned table without its empty columns.

    If the columns do not fit side by side, a few rows are printed as blocks, many as long lines.
    """
    from rich.measure import Measurement

    console, table = _console(), _table(rows, title)
    needed = Measurement.get(console, console.options.update(width=10_000), table).minimum
    if needed <= console.width:
        _print(console, table)
    elif len(rows) <= MAX_BLOCKS:
        print_blocks(rows, title)
    else:
        _print(_console(needed), table)


def print_blocks(rows: Rows, title: str = "") -> None:
    """Print each row as lines of name and value, with an empty line between rows."""
    from rich.table import Table
    from rich.text import Text

    console, names = _console(), _used_names(rows)
    if title:
        console.print(Text(visible(title), style="italic"))
    for i, row in enumerate(rows):
        if i:
            console.print()
        block = Table.grid(padding=(0, 2))
        block.add_column(style="bold", no_wrap=True, min_width=max(map(len, names)))
        block.add_column(overflow="fold")
        for name in (n for n in names if row.get(n) not in (None, "")):
            block.add_row(name, Text(cell_text(row[name])))
        _print(console, block)


def _console(width: int | None = None) -> "Console":
    from rich.console import Console

    if width is None and not sys.stdout.isatty():
        width = PIPE_WIDTH
    return Console(width=width)


def _table(rows: Rows, title: str) -> "Table":
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    names = _used_names(rows)
    table = Table(
        title=Text(visible(title)) if title else None,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for name in names:
        is_text = name in TEXT_COLUMNS
        left = is_text or any(isinstance(row.get(name), str) for row in rows)
        table.add_column(
            name,
            justify="left" if left else "right",
            overflow="fold",
            no_wrap=not is_text,
            # Otherwise rich allots the longest word of the heading, and crops the numbers.
            min_width=None if is_text else max(map(cell_len, _column(rows, name))),
        )
    for row in rows:
        table.add_row(*(Text(cell_text(row.get(name))) for name in names))
    return table


def _print(console: "Console", table: "Table") -> None:
    """Print a table; into a file or a pipe without trailing spaces."""
    if sys.stdout.isatty():
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _column(rows: Rows, name: str) -> list[str]:
    return [name, *(cell_text(row.get(name)) for row in rows)]


def _used_names(rows: Rows) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row)
    return [n for n in names if any(row.get(n) not in (None, "") for row in rows)]


def cell_text(value: object) -> str:
    """Return 29,918,424 or 4,4,18,4; a dash for a missing value."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ",".join(map(cell_text, value))
    return visible(str(value))
