"""One self-contained page: the summary first, then figures, tables and every record.

No script, nothing loaded from anywhere; whatever a study or an error says is escaped.
"""

import re
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from archsearch.reports import run_details
from archsearch.reports.context import Context
from archsearch.reports.formats import Table, as_csv, as_html
from archsearch.reports.report import Report
from archsearch.reports.results_table import results_table
from archsearch.reports.style import inline_svg

FOLDER = Path(__file__).parent


def page(report: Report) -> str:
    """The page of a report as HTML."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = unbroken, html, svg, csv, run_details.record, run_details.command, run_details.origin
    environment.filters |= {function.__name__: function for function in filters}
    return environment.get_template("page.html").render(
        title=" · ".join(run.context.results.name for run in report.runs),
        css=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
        report=report,
    )


def unbroken(text: str) -> str:
    """Keeps (64, 16, 4, 18) and numbers with their units on one line."""
    text = re.sub(r"\(\d+(, \d+)+\)", lambda m: m[0].replace(" ", "\u00a0"), text)
    return re.sub(r"(?<=\d) (?=±|[GM] )|(?<=±) (?=\d)", "\u00a0", text)


def html(table: Table, title: str | None = None) -> Markup:
    """The table, with another title if one is given."""
    return Markup(as_html(table if title is None else replace(table, title=title)))


def svg(figure: Figure, prefix: str, title: str) -> Markup:
    """The figure inside the page; ``prefix`` makes its ids unique there."""
    return Markup(inline_svg(figure, prefix, title))


def csv(context: Context) -> str:
    """The results of a run."""
    return as_csv(results_table(context))
