"""The contract of a report: a card turns a run into a table, a figure, or both.

A new report is one file with one `Card`, and one line in `archsearch.reports.cards`. The list of
cards decides what is on the page, in the files and in numbers.json, what a new report clears away,
and what a verification compares.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from matplotlib.figure import Figure

from archsearch.reports.context import Context, Contexts
from archsearch.reports.formats import WRITERS, Table
from archsearch.reports.style import FORMATS

Section = Literal["open", "folded", "appendix"]
"""Where the page has a table: open, folded below the open ones, or folded at the end."""
Panels = Mapping[str, tuple[str, Figure]]
"""Parts of a map for a page whose columns wrap, the legend last: id -> (title, figure)."""
Reason = Callable[[Context], str | None]
"""Why a run has nothing to show, in words; None where it has."""


def needs(condition: Callable[[Context], object], reason: str) -> Reason:
    """The reason where the condition is not met."""
    return lambda context: None if condition(context) else reason


@dataclass(frozen=True, kw_only=True)
class CardContent:
    """What a card shows. The table takes its name, and its title if it has none of its own."""

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
            object.__setattr__(self, "table", self.table.named(self.name, self.title))


@dataclass(frozen=True, kw_only=True)
class Card:
    """One question to a run. Its functions are called where it applies, within `style.styled`.

    ``name`` is the stem of its files and its key in numbers.json, ``title`` the caption of the
    figure, and of a table without one. A card with ``panels`` is a map: it stands above all other
    figures, and the page has the panels instead of the figure. ``section`` is the table's.
    """

    name: str
    title: str | Callable[[Context], str]
    applies: Reason = lambda context: None  # noqa: ARG005
    table: Callable[[Context], Table] | None = None
    figure: Callable[[Context], Figure] | None = None
    panels: Callable[[Context], Panels] | None = None
    how_to_read: str | Callable[[Context], str] = ""
    section: Section | Callable[[Context], Section] = "open"

    def content(self, context: Context) -> CardContent:
        """What the card shows of a run that it applies to."""
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
        """Whether a report may have written a file of that name for this card."""
        suffixes = (*(WRITERS if self.table else ()), *(FORMATS if self.figure else ()))
        return file_name in {f"{self.name}.{suffix}" for suffix in suffixes}


@dataclass(frozen=True, kw_only=True)
class CrossCard:
    """One question to several runs.

    Its contents are called ``name``, ``name-2`` and so on, one per group of runs that compare;
    without files their tables are on the page alone.
    """

    name: str
    contents: Callable[[Contexts], Sequence[CardContent]]
    has_files: bool = False

    def owns(self, file_name: str) -> bool:
        """As `Card.owns`."""
        suffixes = "|".join((*WRITERS, *FORMATS))
        pattern = rf"{re.escape(self.name)}(-\d+)?\.({suffixes})"
        return self.has_files and re.fullmatch(pattern, file_name) is not None


Cards = Sequence[Card | CrossCard]


def _value(value: Any, context: Context) -> Any:
    return value(context) if callable(value) else value
