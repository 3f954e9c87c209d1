"""The self-contained page of a report: summary, figures, tables, and the details of every cell.

It has no script and loads nothing. Texts of studies and errors are escaped.
"""

import re
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from archsearch.reports.context import Context
from archsearch.reports.formats import Table, as_csv, as_html
from archsearch.reports.report import Report
from archsearch.reports.results_table import results_table
from archsearch.reports.run_details import cell_details, command, training_setup
from archsearch.reports.style import inline_svg

FOLDER = Path(__file__).parent


def page(report: Report) -> str:
    """Return the page of a report as HTML."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = unbroken, html, svg, csv, cell_details, command, training_setup
    environment.filters |= {function.__name__: function for function in filters}
    return environment.get_template("page.html").render(
        title=" · ".join(run.context.results.name for run in report.runs),
        css=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
        report=report,
    )


def unbroken(text: str) -> str:
    """Keep (64, 16, 4, 18), and numbers with their units, on one line."""
    text = re.sub(r"\(\d+(, \d+)+\)", lambda m: m[0].replace(" ", "\u00a0"), text)
    return re.sub(r"(?<=\d) (?=±|[GM] )|(?<=±) (?=\d)", "\u00a0", text)


def html(table: Table, title: str | None = None) -> Markup:
    """Return the table as HTML, with another title if one is given."""
    return Markup(as_html(table if title is None else replace(table, title=title)))


def svg(figure: Figure, prefix: str, title: str) -> Markup:
    """Return the figure as an SVG inside the page; ``prefix`` makes its ids unique."""
    return Markup(inline_svg(figure, prefix, title))


def csv(context: Context) -> str:
    """Return the results of a run as CSV."""
    return as_csv(results_table(context))
