"""How data looks on stdout: JSON, or a table that fits the terminal."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def print_json(value: object) -> None:
    """One JSON document; strict, so NaN is our mistake."""
    print(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False))


def print_rows(rows: Sequence[Mapping[str, Any]], title: str = "") -> None:
    """Rows as an aligned table; columns that are empty throughout are left out."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names = [n for n in dict.fromkeys(k for row in rows for k in row) if _used(n, rows)]
    table = Table(
        title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold"
    )
    for name in names:
        words = name in ("reason", "question", "error")
        table.add_column(
            name,
            justify="left" if words or _texts(name, rows) else "right",
            overflow="fold",
            no_wrap=not words,
        )
    for row in rows:
        table.add_row(*(Text(cell_text(row.get(name))) for name in names))
    width = None if sys.stdout.isatty() else 200
    Console(width=width).print(table)


def _used(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    return any(row.get(name) not in (None, "") for row in rows)


def _texts(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    return any(isinstance(row.get(name), str) for row in rows)


def cell_text(value: object) -> str:
    """29,918,424 and 4,4,18,4 as a reader writes them; what is not there is a dash."""
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
    return str(value)
