"""A card of a report: it turns a run into a table, a figure, or both.

A new report is one file with one `Card`, and one line in `archsearch.reports.cards`. The list of
cards determines the content of the page, of the files and of numbers.json, which files of an
earlier report are removed, and what `verify` compares.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from matplotlib.figure import Figure

from archsearch.reports.context import Context, Contexts
from archsearch.reports.formats import WRITERS, Table
from archsearch.reports.style import FORMATS

Section = Literal["open", "folded", "appendix"]
"""Where the page shows a table: open, folded below the open ones, or folded at the end."""
Panels = Mapping[str, tuple[str, Figure]]
"""Parts of a heatmap for a page whose columns wrap, the legend last: id -> (title, figure)."""
SkipReason = Callable[[Context], str | None]
"""Returns the reason why a card does not apply to a run; None if it applies."""


def unless(condition: Callable[[Context], object], reason: str) -> SkipReason:
    """Return a function that gives ``reason`` for a run that does not meet the condition."""
    return lambda context: None if condition(context) else reason


@dataclass(frozen=True, kw_only=True)
class CardContent:
    """What a card shows. Its table gets the card's name, and its title if it has no title."""

    name: str
    title: str
    table: Table | None = None
    figure: Figure | None = None
    panels: Panels = field(default_factory=dict)
    how_to_read: str = ""
    section: Section = "open"
    has_files: bool = True

    def __post_init__(self) -> None:
        if self.table is not None:
            table = replace(self.table, name=self.name, title=self.table.title or self.title)
            object.__setattr__(self, "table", table)


@dataclass(frozen=True, kw_only=True)
class Card:
    """A table, a figure, or both, of one run.

    ``name`` is the stem of its files and its key in numbers.json. ``title`` is the caption of the
    figure, and of a table without a title. ``skip_reason`` decides whether the card applies; the
    other functions are called only if it does, within `style.styled`. A card with ``panels`` is a
    heatmap: the page shows it above all other figures, and the panels instead of the figure.
    ``section`` is where the page shows the table.
    """

    name: str
    title: str | Callable[[Context], str]
    skip_reason: SkipReason = lambda context: None  # noqa: ARG005
    table: Callable[[Context], Table] | None = None
    figure: Callable[[Context], Figure] | None = None
    panels: Callable[[Context], Panels] | None = None
    how_to_read: str | Callable[[Context], str] = ""
    section: Section | Callable[[Context], Section] = "open"

    def content(self, context: Context) -> CardContent:
        """Return what the card shows of a run that it applies to."""
        return CardContent(
            name=self.name,
            title=_value(self.title, context),
            table=self.table and self.table(context),
            figure=self.figure and self.figure(context),
            panels=self.panels(context) if self.panels else {},
            how_to_read=_value(self.how_to_read, context),
            section=_value(self.section, context),
        )

    def owns(self, file_name: str) -> bool:
        """Return whether a report may have written a file of that name for this card."""
        suffixes = (*(WRITERS if self.table else ()), *(FORMATS if self.figure else ()))
        return file_name in {f"{self.name}.{suffix}" for suffix in suffixes}


@dataclass(frozen=True, kw_only=True)
class CrossCard:
    """Tables and figures that compare several runs.

    Its contents are called ``name``, ``name-2`` and so on, one per group of comparable runs.
    Without files the tables are only on the page.
    """

    name: str
    contents: Callable[[Contexts], Sequence[CardContent]]
    has_files: bool = False

    def owns(self, file_name: str) -> bool:
        """Return whether a report may have written a file of that name for this card."""
        suffixes = "|".join((*WRITERS, *FORMATS))
        pattern = rf"{re.escape(self.name)}(-\d+)?\.({suffixes})"
        return self.has_files and re.fullmatch(pattern, file_name) is not None


def table_content(name: str, title: str, table: Table) -> list[CardContent]:
    """Return the contents of a `CrossCard` with one table; none if the table has no rows."""
    return [CardContent(name=name, title=title, table=table)] if table.body else []


Cards = Sequence[Card | CrossCard]


def _value(value: Any, context: Context) -> Any:
    return value(context) if callable(value) else value
