"""Tables in four formats: CSV for programs, Markdown, LaTeX and HTML for people.

The content of a cell is always shown as text: each format escapes its markup.
"""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsearch.storage.files import write_bytes

MISSING = "–"
"""What a table prints for a missing number."""

LONG = 60
"""Cells with more characters are set in small type, as running text."""


def number(value: float | None, spec: str, scale: float = 1, unit: str = "") -> str:
    """Return ``value / scale`` by a format such as ``.1f``, with the unit; a dash for None."""
    return MISSING if value is None else f"{value / scale:{spec}}{unit}"


@dataclass(frozen=True, kw_only=True)
class Table:
    """``header`` and ``body`` are printed; ``rows`` hold the same and more at full precision.

    ``numeric`` says which columns are aligned to the right, ``marks`` gives a row a class (best,
    tied, missing), ``note`` is printed under the table. ``name`` is the stem of its files.
    """

    header: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    rows: tuple[Mapping[str, Any], ...]
    numeric: tuple[bool, ...]
    marks: tuple[str, ...] = ()
    note: str = ""
    title: str = ""
    name: str = ""

    @classmethod
    def of(
        cls,
        columns: Mapping[str, Sequence[str]],
        rows: Iterable[Mapping[str, Any]],
        marks: Iterable[str] = (),
        note: str = "",
        *,
        title: str = "",
        name: str = "",
    ) -> "Table":
        """Return a table from its printed columns. A column of mostly numbers is numeric."""
        return cls(
            header=tuple(columns),
            body=tuple(zip(*columns.values(), strict=True)),
            rows=tuple(rows),
            numeric=tuple(map(_numeric, columns.values())),
            marks=tuple(marks),
            note=note,
            title=title,
            name=name,
        )


def _numeric(values: Sequence[str]) -> bool:
    texts = [v for v in values if v not in ("", MISSING)]
    numbers = [v for v in texts if re.match(r"^[−-]?[\d.,]+( ?[%MGBKsh×]| ±|$)", v)]
    return 2 * len(numbers) > len(texts)


def as_csv(table: Table) -> str:
    """Return one column per field. Text that a spreadsheet would evaluate gets an apostrophe."""
    import pandas as pd

    safe = [{k: _as_text(v) for k, v in row.items()} for row in table.rows]
    return str(pd.DataFrame(safe, dtype=object).to_csv(index=False, lineterminator="\n"))


def _as_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = re.sub(r"\r\n?", "\n", value)  # pandas leaves a lone \r unquoted, which breaks the row
    return f"'{text}" if re.match(r"\s*[=+\-@]|[\t\n]", text) else text


def as_markdown(table: Table) -> str:
    """Return the table in GitHub's dialect, with title and note."""
    rows = [tuple(map(_markdown, row)) for row in (table.header, *table.body)]
    rows.insert(1, tuple("---:" if n else ":---" for n in table.numeric))
    lines = ("| " + " | ".join(row) + " |" for row in rows)
    note = f"\n{_markdown(table.note)}\n" if table.note else ""
    return f"**{_markdown(table.title)}**\n\n" + "\n".join(lines) + "\n" + note


def _markdown(text: str) -> str:
    text = re.sub(r"([\\`*_{}\[\]#|$~])", r"\\\1", " ".join(text.split()))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_TEX = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "_": r"\_", "%": r"\%", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "±": r"$\pm$", "α": r"$\alpha$", "β": r"$\beta$", "φ": r"$\phi$", "₁": r"$_1$",
    "₂": r"$_2$", "₃": r"$_3$", "₄": r"$_4$", "′": r"$'$", "×": r"$\times$", "→": r"$\to$",
    "–": "--", "−": r"$-$", "≤": r"$\leq$", "≥": r"$\geq$", "²": r"$^2$", "·": r"$\cdot$",
})  # fmt: skip


def as_latex(table: Table) -> str:
    r"""Return a ``table`` with booktabs rules; it needs ``\usepackage{booktabs}``."""
    import pandas as pd

    frame = pd.DataFrame(
        [[_latex(c) for c in row] for row in table.body],
        columns=[_latex(h) for h in table.header],
    )
    caption = _latex(" ".join(filter(None, (f"{table.title}.", table.note))))
    return str(
        frame.style.hide(axis="index").to_latex(
            hrules=True,
            column_format="".join("r" if n else "l" for n in table.numeric),
            caption=caption,
            label=f"tab:{table.name}",
            position_float="centering",
        )
    )


def _latex(text: str) -> str:
    return " ".join(text.split()).translate(_TEX)


def as_html(table: Table) -> str:
    """Return a ``<table>`` for a page; numbers have the class ``n``."""
    head = _html_row("th", table.header, table.numeric)
    marks = table.marks or ("",) * len(table.body)
    body = "\n".join(
        f'<tr class="{html.escape(mark)}">{_html_row("td", row, table.numeric)}</tr>'
        for row, mark in zip(table.body, marks, strict=True)
    )
    title = f"<caption>{html.escape(table.title)}</caption>\n" if table.title else ""
    note = f'<p class="note">{html.escape(table.note)}</p>' if table.note else ""
    return (
        f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>{note}\n"
    )


def _html_row(tag: str, row: tuple[str, ...], numeric: tuple[bool, ...]) -> str:
    return "".join(_html_cell(tag, text, n) for text, n in zip(row, numeric, strict=True))


def _html_cell(tag: str, text: str, numeric: bool) -> str:
    long = tag == "td" and len(text) > LONG
    attribute = ' class="n"' if numeric else ' class="long"' if long else ""
    scope = ' scope="col"' if tag == "th" else ""
    return f"<{tag}{attribute}{scope}>{html.escape(text)}</{tag}>"


WRITERS = {"csv": as_csv, "md": as_markdown, "tex": as_latex, "html": as_html}


def write_table(table: Table, folder: Path) -> list[Path]:
    """Write the table in every format as ``folder/<name>.<format>``."""
    paths = {folder / f"{table.name}.{suffix}": writer for suffix, writer in WRITERS.items()}
    for path, writer in paths.items():
        write_bytes(path, writer(table).encode())
    return [*paths]
