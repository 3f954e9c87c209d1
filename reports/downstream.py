"""Classification against the task that its networks were fine-tuned for: ranks, tau, the winner."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from archsearch.core.metrics import rounded
from archsearch.reports.card import Card, unless
from archsearch.reports.cell_order import rank_label, ranked_cells, reported_interval
from archsearch.reports.columns import interval_fields, result_text, row_mark, size_columns
from archsearch.reports.context import Context
from archsearch.reports.formats import Table
from archsearch.reports.labels import name_points
from archsearch.reports.phrases import are, listed, paragraph, plural
from archsearch.reports.style import LINES, MUTED, axes_with_title, error_bar, thin_out_x_ticks
from archsearch.results.transfer import Transfer, transfer_of
from archsearch.stats.intervals import Interval

MAX_NAMED = 3
"""A sentence names so many tied networks; the figure names twice as many points."""


def transfer(context: Context) -> Transfer | None:
    """Return the comparison with classification; None for a run that was not fine-tuned."""
    return transfer_of(context.results, context.metric)


def transfer_text(context: Context) -> str:
    """Return one sentence on the winner of classification, and one on the agreement of the orders.

    The text is empty for a run that was not fine-tuned.
    """
    compared = transfer(context)
    if compared is None:
        return ""
    return paragraph(_verdict_text(compared), _tau_text(compared))


def _verdict_text(compared: Transfer) -> str:
    first, second = compared.first.ranking, compared.second.ranking
    if compared.verdict == "is":
        return (
            f"The classification winner, {first.best}, is the downstream winner "
            "(90% confidence for both rankings together)."
        )
    if compared.verdict == "is not":
        return (
            f"The classification winner is not the downstream winner: {_candidates(compared, 0)} "
            f"{are(len(first.tied))} significantly worse there than {second.best} "
            "(90% confidence for both rankings together)."
        )
    cannot = "The classification winner cannot be shown to be the downstream winner, nor not to be"
    for ranking, where in ((first, "by classification"), (second, "downstream")):
        if not ranking.can_rank:
            return f"{cannot}: {where}, {_lower(ranking.reason)}."
    return (
        f"{cannot}: by classification {_candidates(compared, 0)} may be the best, downstream "
        f"{_candidates(compared, 1)}."
    )


def _lower(reason: str) -> str:
    return reason[:1].lower() + reason[1:].removesuffix(".")


def _candidates(compared: Transfer, which: int) -> str:
    """Return the networks that may be the best of one ranking: ``A, B, C or 4 others``."""
    tied = (compared.first, compared.second)[which].ranking.tied
    names, left = list(tied[:MAX_NAMED]), len(tied) - MAX_NAMED
    if left > 0:
        names.append(plural(left, "other"))
    return listed(names)


def _tau_text(compared: Transfer) -> str:
    tau, agreed = compared.tau, compared.agreement
    if tau is None:
        return ""
    text = f"Kendall's tau between the two orders is {_tau_interval(tau)} over {tau.n} networks"
    if agreed is None:
        return f"{text}."
    corrected = "not measurable" if agreed.tau is None else f"{agreed.tau:.2f}"
    return (
        f"{text}; without the noise of seeds it is {corrected} (p = {agreed.p_value:.2g} for no "
        "agreement)."
    )


def _tau_interval(tau: Interval) -> str:
    ends = "" if tau.low is None or tau.high is None else f" ({tau.low:.2f} to {tau.high:.2f})"
    return f"{tau.mean:.2f}{ends}"


def downstream_table(context: Context) -> Table:
    """Return a row per cell, the best of the new task first: both results with their ranks."""
    compared = transfer(context)
    assert compared is not None, "skip_reason refuses other runs"
    cells, first = ranked_cells(context), compared.first
    classified = [compared.cells[c.index] for c in cells]
    columns = {
        "Network": [c.label for c in cells],
        **size_columns(cells),
        first.metric.axis: [result_text(c, first) for c in classified],
        "Rank, classification": [rank_label(c, first) for c in classified],
        context.metric.axis: [result_text(c, context.comparison) for c in cells],
        "Rank, downstream": [rank_label(c, context.comparison) for c in cells],
    }
    rows = [_row(context, compared, c.index) for c in cells]
    marks = [row_mark(c, context.comparison) for c in cells]
    return Table.of(columns, rows, marks, _note(compared))


def _row(context: Context, compared: Transfer, index: int) -> dict[str, Any]:
    cell, comparison, agreed = compared.cells[index], compared.first, compared.agreement
    return {
        **context.rows[index],
        **interval_fields("classification", reported_interval(cell, comparison)),
        "classification_rank": rank_label(cell, comparison),
        "downstream_rank": rank_label(context.cells[index], context.comparison),
        "verdict": compared.verdict,
        **interval_fields("tau", compared.tau),
        "tau_without_noise": rounded(agreed.tau if agreed else None),
    }


def _note(compared: Transfer) -> str:
    shared, others = compared.num_shared, compared.num_others
    return paragraph(
        _verdict_text(compared),
        _tau_text(compared),
        "Tau's interval is over networks; few of them make it wide. A ranking is of multiple "
        "comparisons with the best at 95%, among the fine-tuned networks only.",
        f"{plural(others, 'network')} of the classification run {are(others)} not fine-tuned: the "
        "range of the others is narrower, which lowers tau."
        if others
        else "",
        f"In {plural(shared, 'cell')} several seeds start from the same weights, so the intervals "
        "miss a part of the noise of classification."
        if shared
        else "",
    )


def downstream_figure(context: Context) -> Figure:
    """Plot the new result against that of classification, with both intervals."""
    compared = transfer(context)
    assert compared is not None, "skip_reason refuses other runs"
    fig, ax = axes_with_title(f"{compared.first.metric.axis}, classification", context.metric.axis)
    points: dict[str, tuple[float, float]] = {}
    for label in compared.labels:
        x, y = _intervals(compared, label)
        _plot(ax, x, y, compared, label)
        points[label] = x.mean, y.mean
    ax.margins(0.1)
    thin_out_x_ticks(ax)
    may_win = [*compared.second.ranking.tied, *compared.first.ranking.tied]
    named = [label for label in dict.fromkeys(may_win) if label in points][: 2 * MAX_NAMED]
    name_points(ax, {label: points[label] for label in named}, LINES[1])
    return fig


def _intervals(compared: Transfer, label: str) -> tuple[Interval, Interval]:
    index = next(c.index for c in compared.fine_tuned if c.label == label)
    pairs = ((compared.cells, compared.first), (compared.fine_tuned, compared.second))
    x, y = (reported_interval(cells[index], comparison) for cells, comparison in pairs)
    assert x is not None, "a network with a mean has a value"
    assert y is not None, "a network with a mean has a value"
    return x, y


def _plot(ax: Axes, x: Interval, y: Interval, compared: Transfer, label: str) -> None:
    wins = label in compared.second.ranking.tied_set
    marker, size, color = ("D", 5, LINES[1]) if wins else ("o", 4, MUTED)
    fill = color if label in compared.first.ranking.tied_set else "none"
    error_bar(ax, x.mean, y.low, y.high, color)
    if x.low is not None and x.high is not None:
        ax.plot([x.low, x.high], [y.mean, y.mean], color=color, linewidth=0.8, alpha=0.6)
    ax.plot([x.mean], [y.mean], marker, color=color, mfc=fill, markersize=size, zorder=3)


def _with_both(context: Context) -> Sequence[str]:
    compared = transfer(context)
    return () if compared is None else compared.labels


DOWNSTREAM = Card(
    name="downstream",
    title="Classification against the fine-tuned task",
    skip_reason=unless(_with_both, "no network has both a result of classification and another"),
    table=downstream_table,
    figure=downstream_figure,
    how_to_read=(
        "Bars: 95% intervals over seeds. Diamonds: statistically tied with the best downstream. "
        "Filled: statistically tied with the best by classification."
    ),
)
