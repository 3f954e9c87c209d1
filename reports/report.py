"""The content of a report before it is written: every card of every run, computed once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from archsearch.reports.card import Card, CardContent, Cards, CrossCard
from archsearch.reports.cards import CARDS
from archsearch.reports.context import Context, Contexts, HeatmapAxes
from archsearch.reports.heatmap import HEATMAP
from archsearch.reports.recommendation import (
    GroupRecommendation,
    recommendation_text,
    recommendations,
)
from archsearch.reports.style import styled
from archsearch.reports.summary import Summary, summarize
from archsearch.results import Results


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """One run of a report. ``skipped`` maps the names of cards without content to the reason."""

    context: Context
    summary: Summary
    contents: tuple[CardContent, ...]
    skipped: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Report:
    """One run, or several side by side; ``cross`` compares them.

    ``metric``, ``axes`` and ``target`` are as requested, None for the defaults. ``recommendation``
    is the text of ``recommendations``. ``files`` maps name -> path, the page first, when written.
    """

    metric: str | None
    axes: HeatmapAxes | None
    target: int | None
    runs: tuple[RunReport, ...]
    cross: tuple[CardContent, ...]
    recommendations: tuple[GroupRecommendation, ...]
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
    """Compute everything that `archsearch.reports.render.render_all` writes.

    Raises:
        ValueError: for an unknown metric, axes that give no run a heatmap, or equal names of cards.
    """
    names = ["report", *(card.name for card in cards if isinstance(card, Card))]
    if shared := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"cards must have different names, got twice: {', '.join(sorted(shared))}")
    heatmap_axes = None if axes is None else _check_axes(results, axes)
    contexts = [Context.of(r, metric, heatmap_axes, target) for r in results]
    groups = tuple(recommendations(contexts))
    return Report(
        metric=metric,
        axes=heatmap_axes,
        target=target,
        runs=tuple(_run_report(context, cards) for context in contexts),
        cross=_cross_contents(contexts, cards),
        recommendations=groups,
        recommendation=recommendation_text(groups, target),
    )


def _run_report(context: Context, cards: Cards) -> RunReport:
    reasons = {card: card.skip_reason(context) for card in cards if isinstance(card, Card)}
    return RunReport(
        context=context,
        summary=summarize(context),
        contents=tuple(card.content(context) for card, reason in reasons.items() if reason is None),
        skipped={card.name: reason for card, reason in reasons.items() if reason is not None},
    )


def _cross_contents(contexts: Contexts, cards: Cards) -> tuple[CardContent, ...]:
    """Return the contents that compare runs; none for a single run."""
    return tuple(
        replace(content, has_files=card.has_files)
        for card in cards
        if isinstance(card, CrossCard) and len(contexts) > 1
        for content in card.contents(contexts)
    )


def _check_axes(results: Sequence[Results], axes: Sequence[str]) -> HeatmapAxes:
    """Return the axes if they give a run a heatmap; the page says why other runs have none."""
    names = dict.fromkeys(name for r in results for c in r.cells for name in c.cell.requested)
    if not axes or not set(axes) <= set(names):
        raise ValueError(
            "axes must be coordinates of the plan, x or y,x or panel,y,x, from "
            f"{', '.join(names) or 'none yet'}; got {', '.join(axes)}"
        )
    heatmap_axes = tuple(axes)
    reasons = [HEATMAP.skip_reason(Context.of(r, axes=heatmap_axes)) for r in results]
    if None not in reasons:
        raise ValueError("; ".join(dict.fromkeys(filter(None, reasons))))
    return heatmap_axes
