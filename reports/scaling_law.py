"""How the error falls along a scaling ladder, and whether that predicts its next rung.

The largest trained size is predicted from the smaller ones alone and then compared with what came.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from archsearch.core.metrics import rounded
from archsearch.reports import style
from archsearch.reports.card import Card, CardContent, CrossCard, needs
from archsearch.reports.columns import interval_fields
from archsearch.reports.comparable_runs import comparable_groups, differences, named
from archsearch.reports.context import Contexts
from archsearch.reports.formats import MISSING, Table
from archsearch.reports.ladders import Ladder, ladders, rungs_of
from archsearch.reports.phrases import listed, sentence, setting
from archsearch.stats.intervals import Interval

TITLE = "Scaling law"


def law_table(contexts: Contexts) -> Table:
    """Exponent, the test on the largest size, and the prediction of the next, a row per law."""
    laws, several = ladders(contexts), len(contexts) > 1
    columns = {"Runs": [", ".join(x.runs) for x in laws]} if several else {}
    columns |= {
        "α": [f"{x.rule[0]:.2f}" for x in laws],
        "β": [f"{x.rule[1]:.2f}" for x in laws],
        "Sizes (M)": [", ".join(f"{s / 1e6:.1f}" for s in x.law.sizes) for x in laws],
        "Exponent": [_interval_text(x.law.exponent, 3) for x in laws],
        "Largest, foretold (%)": [
            _interval_text(x.test.prediction.error, 2) if x.test else MISSING for x in laws
        ],
        "Largest, measured (%)": [f"{x.test.outcome:.2f}" if x.test else MISSING for x in laws],
        "Inside": [setting(x.test.inside if x.test else None) for x in laws],
        "Next size, foretold (%)": [_next_sizes_text(x) for x in laws],
    }
    rows = [({"runs": ", ".join(x.runs)} if several else {}) | _row(x) for x in laws]
    return Table.of(columns, rows, note=_note(contexts, laws))


def _note(contexts: Contexts, laws: Sequence[Ladder]) -> str:
    notes = [
        *sorted({note for x in laws for note in x.law.notes}),
        _zero_errors_note(laws),
        _contradictions_note(laws),
        _not_pooled_note(contexts),
        _not_fitted_note(contexts, laws),
    ]
    intro = (
        "Validation error = exp(a) · parameters^−exponent. The largest size is foretold from the "
        "smaller ones alone. Intervals: 95%. "
    )
    return intro + " ".join(sentence(note) for note in notes if note)


def _zero_errors_note(laws: Sequence[Ladder]) -> str:
    left_out = [(x.name, [f"{s / 1e6:.1f}M" for s in x.zero_errors]) for x in laws]
    texts = "; ".join(f"{name} at {', '.join(sizes)}" for name, sizes in left_out if sizes)
    return f"left out for an error of zero, which no power law has: {texts}" if texts else ""


def _contradictions_note(laws: Sequence[Ladder]) -> str:
    """Which laws of one pair were fitted apart although recipe and data agree."""
    names = [x.name for x in laws if x.of_several]
    reason = "not pooled, since they have other networks at one phi (another origin or rounding)"
    return f"{reason}: {'; '.join(names)}" if names else ""


def _not_pooled_note(contexts: Contexts) -> str:
    """Which runs with scaling factors were fitted apart, and why."""
    scaling = {name: run for name, run in named(contexts).items() if any(rungs_of(run))}
    names = [listed([*group]) for group in comparable_groups(scaling)]
    reason = f"not pooled, since they differ in {listed(differences(scaling.values()))}"
    return f"{reason}: {'; '.join(names)}" if len(names) > 1 else ""


def _not_fitted_note(contexts: Contexts, laws: Sequence[Ladder]) -> str:
    """Which runs no law has a point of, and why."""
    fitted = {name for ladder in laws for name in ladder.runs}
    short, other = "no pair with results at two sizes", "no scaling factors"
    unfitted = [
        f"{name} ({short if any(rungs_of(run)) else other})"
        for name, run in named(contexts).items()
        if name not in fitted
    ]
    return f"no part in a law: {', '.join(unfitted)}" if unfitted else ""


def _interval_text(interval: Interval, digits: int) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.{digits}f}"
    return f"{interval.mean:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def _next_sizes_text(ladder: Ladder) -> str:
    sizes = (f"{p.size / 1e6:.1f}M: {_interval_text(p.error, 2)}" for p in ladder.predictions)
    return "; ".join(sizes) or MISSING


def _row(ladder: Ladder) -> dict[str, Any]:
    test = ladder.test
    return {
        "alpha": ladder.rule[0],
        "beta": ladder.rule[1],
        "sizes": " ".join(f"{s:.0f}" for s in ladder.law.sizes),
        **interval_fields("exponent", ladder.law.exponent),
        **interval_fields("foretold", test.prediction.error if test else None),
        "measured": rounded(test.outcome if test else None),
        "inside": test.inside if test else None,
    }


def law_figure(contexts: Contexts) -> Figure:
    """Error against size on log scales, one line a ladder, bars over seeds' range."""
    fig, ax = style.axes_with_title("Parameters (M), log scale", "Validation error (%), log scale")
    ax.set(xscale="log", yscale="log")
    for i, ladder in enumerate(ladders(contexts)[: len(style.LINES)]):
        _plot_ladder(ax, ladder, i)
    for axis in (ax.xaxis, ax.yaxis):
        style.plain_log_ticks(axis, (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
    ax.margins(0.08)
    style.legend_inside(ax, "", "best")
    return fig


def _plot_ladder(ax: Axes, ladder: Ladder, i: int) -> None:
    sizes, points, color = np.array(sorted(ladder.points)), ladder.points, style.LINES[i]
    ax.plot(sizes / 1e6, [np.mean(points[s]) for s in sizes], "o", color=color, ms=4.5)
    for size in sizes:
        style.error_bar(ax, size / 1e6, min(points[size]), max(points[size]), color)
    ends = np.array([sizes[0], max([sizes[-1], *(p.size for p in ladder.predictions)])])
    fitted = [float(np.exp(ladder.law.log_error(s))) for s in ends]
    ax.plot(ends / 1e6, fitted, color=color, linestyle=style.DASHES[i % 4], label=ladder.name)


def _of_several_runs(contexts: Contexts) -> list[CardContent]:
    content = CardContent(name="law", title=TITLE, table=law_table(contexts))
    return [content] if ladders(contexts) else []


LAW = Card(
    name="law",
    title=TITLE,
    applies=needs(lambda c: ladders([c]), "no pair (alpha, beta) has results at two sizes"),
    table=lambda context: law_table([context]),
    figure=lambda context: law_figure([context]),
    how_to_read="Line: the fitted power law. Bars: all seeds of a size.",
)
LAW_OF_RUNS = CrossCard(name="law", contents=_of_several_runs)
