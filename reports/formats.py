"""One table, four formats: CSV for programs, Markdown, LaTeX and HTML for people.

Whatever stands in a cell is shown as text: each format escapes what would be markup there.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONG = 60
"""Signs from which a cell is set small, as running text."""


@dataclass(frozen=True)
class Table:
    """``header`` and ``body`` are printed; ``rows`` hold the same and more at full precision.

    ``numeric`` says which columns are set flush right, ``marks`` gives a row a class (best, tied,
    missing), ``note`` stands under the table.
    """

    name: str
    title: str
    header: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    rows: tuple[Mapping[str, Any], ...]
    numeric: tuple[bool, ...]
    marks: tuple[str, ...] = ()
    note: str = ""


def table(
    name: str,
    title: str,
    columns: Mapping[str, list[str]],
    rows: list[dict[str, Any]],
    marks: list[str] | None = None,
    note: str = "",
) -> Table:
    """A table from printed columns; a column is numeric when most of what it prints are numbers."""
    body = tuple(zip(*columns.values(), strict=True))
    numeric = tuple(_numeric(values) for values in columns.values())
    return Table(name, title, tuple(columns), body, tuple(rows), numeric, tuple(marks or ()), note)


def _numeric(values: list[str]) -> bool:
    told = [v for v in values if v not in ("", "–")]
    numbers = [v for v in told if re.match(r"^[−-]?[\d.,]+( ?[%MGBKsh×]| ±|$)", v)]
    return bool(told) and 2 * len(numbers) > len(told)


def as_csv(content: Table) -> str:
    """One column per field; text that a spreadsheet would run gets an apostrophe."""
    import pandas as pd

    safe = [{k: _inert(v) for k, v in row.items()} for row in content.rows]
    return str(pd.DataFrame(safe, dtype=object).to_csv(index=False, lineterminator="\n"))


def _inert(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = re.sub(r"\r\n?", "\n", value)  # pandas leaves a lone \r unquoted, which breaks the row
    return f"'{text}" if re.match(r"\s*[=+\-@]|[\t\n]", text) else text


def as_markdown(content: Table) -> str:
    """GitHub's dialect, with title and note."""
    rows = [tuple(map(_markdown, row)) for row in (content.header, *content.body)]
    rows.insert(1, tuple("---:" if n else ":---" for n in content.numeric))
    lines = ("| " + " | ".join(row) + " |" for row in rows)
    note = f"\n{_markdown(content.note)}\n" if content.note else ""
    return f"**{_markdown(content.title)}**\n\n" + "\n".join(lines) + "\n" + note


def _markdown(text: str) -> str:
    text = re.sub(r"([\\`*_{}\[\]#|$~])", r"\\\1", " ".join(text.split()))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "_": r"\_", "%": r"\%", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "±": r"$\pm$", "α": r"$\alpha$", "β": r"$\beta$", "φ": r"$\phi$", "₁": r"$_1$",
    "₂": r"$_2$", "₃": r"$_3$", "₄": r"$_4$", "′": r"$'$", "×": r"$\times$", "→": r"$\to$",
    "–": "--", "−": r"$-$", "≤": r"$\leq$", "≥": r"$\geq$", "²": r"$^2$", "·": r"$\cdot$",
}  # fmt: skip


def as_latex(content: Table) -> str:
    r"""A ``table`` with booktabs rules; needs ``\usepackage{booktabs}``."""
    import pandas as pd

    frame = pd.DataFrame(
        [[_latex(c) for c in row] for row in content.body],
        columns=[_latex(h) for h in content.header],
    )
    caption = _latex(" ".join(filter(None, (f"{content.title}.", content.note))))
    return str(
        frame.style.hide(axis="index").to_latex(
            hrules=True,
            column_format="".join("r" if n else "l" for n in content.numeric),
            caption=caption,
            label=f"tab:{content.name}",
            position_float="centering",
        )
    )


def _latex(text: str) -> str:
    return "".join(_TEX.get(sign, sign) for sign in " ".join(text.split()))


def as_html(content: Table) -> str:
    """A ``<table>`` alone, for pages; numbers carry the class ``n``."""
    titles = zip(content.header, content.numeric, strict=True)
    head = "".join(_html_cell("th", title, n) for title, n in titles)
    marks = content.marks or ("",) * len(content.body)
    body = "\n".join(
        f'<tr class="{html.escape(mark)}">' + _html_row(row, content.numeric) + "</tr>"
        for row, mark in zip(content.body, marks, strict=True)
    )
    title = f"<caption>{html.escape(content.title)}</caption>\n" if content.title else ""
    note = f'<p class="note">{html.escape(content.note)}</p>' if content.note else ""
    return (
        f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>{note}\n"
    )


def _html_row(row: tuple[str, ...], numeric: tuple[bool, ...]) -> str:
    return "".join(_html_cell("td", text, n) for text, n in zip(row, numeric, strict=True))


def _html_cell(tag: str, text: str, numeric: bool) -> str:
    long = tag == "td" and len(text) > LONG
    attribute = ' class="n"' if numeric else ' class="long"' if long else ""
    scope = ' scope="col"' if tag == "th" else ""
    return f"<{tag}{attribute}{scope}>{html.escape(text)}</{tag}>"


WRITERS = {"csv": as_csv, "md": as_markdown, "tex": as_latex, "html": as_html}


def write(content: Table, folder: Path) -> list[Path]:
    """Write the table in every format as ``folder/<name>.<format>``."""
    paths = []
    for suffix, writer in WRITERS.items():
        path = folder / f"{content.name}.{suffix}"
        path.write_text(writer(content), encoding="utf-8", newline="\n")
        paths.append(path)
    return paths
