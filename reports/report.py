"""A report before it is written: what every card shows of every run, computed once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from archsearch.reports.card import Card, CardContent, Cards, CrossCard
from archsearch.reports.cards import CARDS
from archsearch.reports.context import Context, Contexts, MapAxes
from archsearch.reports.heatmap import HEATMAP
from archsearch.reports.recommended import Advice, advise, recommendation
from archsearch.reports.style import styled
from archsearch.reports.summary import Summary, summarize
from archsearch.results import Results


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """One run of a report. ``left_out`` says by name why a card is not among the contents."""

    context: Context
    summary: Summary
    contents: tuple[CardContent, ...]
    left_out: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Report:
    """One run, or several side by side; ``cross`` compares them.

    ``metric``, ``axes`` and ``target`` are as requested, None for the defaults. ``recommendation``
    is the advice in words. ``files`` are name -> path, the page first, once it is written.
    """

    metric: str | None
    axes: MapAxes | None
    target: int | None
    runs: tuple[RunReport, ...]
    cross: tuple[CardContent, ...]
    advice: tuple[Advice, ...]
    recommendation: str
    files: Mapping[str, Path] = field(default_factory=dict)


@styled()
def compute_report(
    results: Sequence[Results],
    metric: str | None = None,
    axes: Sequence[str] | None = None,
    target: int | None = None,
    cards: Cards = CARDS,
) -> Report:
    """Everything that `archsearch.reports.render.render_all` writes.

    Raises:
        ValueError: for an unknown metric, axes by which no run has a map, or two cards of one name.
    """
    names = ["report", *(card.name for card in cards if isinstance(card, Card))]
    if shared := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"cards want names of their own, got twice: {', '.join(sorted(shared))}")
    map_axes = None if axes is None else _check_axes(results, axes)
    contexts = [Context.of(r, metric, map_axes, target) for r in results]
    advice = tuple(advise(contexts))
    return Report(
        metric=metric,
        axes=map_axes,
        target=target,
        runs=tuple(_run_report(context, cards) for context in contexts),
        cross=_cross_contents(contexts, cards),
        advice=advice,
        recommendation=recommendation(advice, target),
    )


def _run_report(context: Context, cards: Cards) -> RunReport:
    reasons = {card: card.applies(context) for card in cards if isinstance(card, Card)}
    return RunReport(
        context=context,
        summary=summarize(context),
        contents=tuple(card.content(context) for card, why in reasons.items() if why is None),
        left_out={card.name: why for card, why in reasons.items() if why is not None},
    )


def _cross_contents(contexts: Contexts, cards: Cards) -> tuple[CardContent, ...]:
    """None for a single run."""
    return tuple(
        replace(content, has_files=card.has_files)
        for card in cards
        if isinstance(card, CrossCard) and len(contexts) > 1
        for content in card.contents(contexts)
    )


def _check_axes(results: Sequence[Results], axes: Sequence[str]) -> MapAxes:
    """The axes, if at least one run has a map by them; a page says why another has none."""
    names = dict.fromkeys(name for r in results for c in r.cells for name in c.cell.requested)
    if len(axes) != 3 or not set(axes) <= set(names):
        raise ValueError(
            "axes want three coordinates of the plan, panel,y,x, out of "
            f"{', '.join(names) or 'none yet'}; got {', '.join(axes)}"
        )
    map_axes = axes[0], axes[1], axes[2]
    reasons = [HEATMAP.applies(Context.of(r, axes=map_axes)) for r in results]
    if None not in reasons:
        raise ValueError("; ".join(dict.fromkeys(filter(None, reasons))))
    return map_axes
