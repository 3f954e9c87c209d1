"""The power law of the error along a scaling ladder, tested on the ladder's largest size.

The largest trained size is predicted from the smaller sizes only and compared with the measurement.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from archsearch.core.metrics import fixed, rounded
from archsearch.reports import style
from archsearch.reports.card import Card, CrossCard, table_content, unless
from archsearch.reports.columns import interval_fields
from archsearch.reports.comparable_runs import comparable_groups, differences, runs_by_name
from archsearch.reports.context import Contexts
from archsearch.reports.formats import MISSING, Table, number
from archsearch.reports.ladders import Ladder, ladders, left_out, pair_text, rungs_of
from archsearch.reports.phrases import listed, sentence, setting
from archsearch.stats.floor import MIN_SIZES, FloorLaw
from archsearch.stats.intervals import Interval
from archsearch.stats.law import MAX_EXTRAPOLATION

TITLE = "Scaling law"


def law_table(contexts: Contexts) -> Table:
    """Return a row per law: exponent, test on the held-out size, and predictions of the next."""
    laws, several = ladders(contexts), len(contexts) > 1
    columns = {"Runs": [", ".join(x.runs) for x in laws]} if several else {}
    columns |= {
        "α": [f"{x.rule[0]:.2f}" for x in laws],
        "β": [f"{x.rule[1]:.2f}" for x in laws],
        "Sizes (M)": [", ".join(f"{s / 1e6:.1f}" for s in x.law.sizes) for x in laws],
        "Exponent": [_interval_text(x.law.exponent, 3) for x in laws],
        **_floor_columns(laws),
        "Held-out size, predicted (%)": [
            _interval_text(x.test.prediction.error, 2) if x.test else MISSING for x in laws
        ],
        "Held-out size, measured (%)": [
            number(x.test.outcome if x.test else None, ".2f") for x in laws
        ],
        "Within interval": [setting(x.test.within_interval if x.test else None) for x in laws],
        "Next size, predicted (%)": [_next_sizes_text(x) for x in laws],
    }
    rows = [({"runs": ", ".join(x.runs)} if several else {}) | _row(x) for x in laws]
    return Table.of(columns, rows, note=_note(contexts, laws))


def _floor_columns(laws: Sequence[Ladder]) -> dict[str, list[str]]:
    """Return the columns of the laws with a floor; none if the data identify no floor."""
    floors = [x.floor for x in laws]
    if not any(floors):
        return {}
    return {
        "Floor (%)": [_interval_text(f.floor, 1) if f else MISSING for f in floors],
        "Exponent above the floor": [
            _interval_text(f.exponent, 2) if f else MISSING for f in floors
        ],
    }


def _note(contexts: Contexts, laws: Sequence[Ladder]) -> str:
    notes = [
        *sorted({note for x in laws for note in x.law.notes}),
        _floor_note(laws),
        _too_far_note(laws),
        _left_out_note(contexts),
        _zero_errors_note(laws),
        _contradictions_note(laws),
        _not_pooled_note(contexts),
        _not_fitted_note(contexts, laws),
    ]
    intro = (
        "Validation error = exp(a) · parameters^−exponent. The held-out size is the largest, "
        "predicted from the smaller sizes only. Intervals: 95%. "
    )
    return intro + " ".join(sentence(note) for note in notes if note)


def _floor_note(laws: Sequence[Ladder]) -> str:
    """Return what laws of five sizes or more say about a floor."""
    long = [x for x in laws if len(x.law.sizes) >= MIN_SIZES]
    hidden = "; ".join(x.name for x in long if x.floor is None)
    general = f"predictions from {MIN_SIZES} sizes or more include laws with a floor"
    reason = (
        f"no floor is shown for {hidden}, since the 95% interval of the floor includes zero or the "
        "exponent above it has no upper bound"
    )
    return "; ".join([general] * bool(long) + [reason] * bool(hidden))


def _too_far_note(laws: Sequence[Ladder]) -> str:
    texts = [f"{x.name} at {_sizes_text(x.too_far)}" for x in laws if x.too_far]
    limit = f"more than {MAX_EXTRAPOLATION:g} times the largest trained size"
    return f"not predicted, being {limit}: {'; '.join(texts)}" if texts else ""


def _left_out_note(contexts: Contexts) -> str:
    texts = "; ".join(left_out(contexts))
    return f"left out of the law: {texts}" if texts else ""


def _zero_errors_note(laws: Sequence[Ladder]) -> str:
    sizes = {x.name: [s for s in sorted(x.points) if min(x.points[s]) == 0] for x in laws}
    texts = [f"{name} at {_sizes_text(some)}" for name, some in sizes.items() if some]
    zero = "some seeds have an error of zero, which is in the mean and below the figure's log scale"
    return f"{zero}: {'; '.join(texts)}" if texts else ""


def _sizes_text(sizes: Iterable[float]) -> str:
    return ", ".join(f"{size / 1e6:.1f}M" for size in sizes)


def _contradictions_note(laws: Sequence[Ladder]) -> str:
    """Return which laws of one pair were fitted separately although recipe and data agree."""
    names = [x.name for x in laws if x.is_one_of_several]
    reason = "different networks at one phi (another origin or rounding)"
    return f"not pooled, since they have {reason}: {'; '.join(names)}" if names else ""


def _not_pooled_note(contexts: Contexts) -> str:
    """Return which runs with scaling factors were fitted separately, and why."""
    scaling = {name: run for name, run in runs_by_name(contexts).items() if any(rungs_of(run))}
    names = [listed([*group]) for group in comparable_groups(scaling)]
    reason = f"not pooled, since they differ in {listed(differences(scaling.values()))}"
    return f"{reason}: {'; '.join(names)}" if len(names) > 1 else ""


def _not_fitted_note(contexts: Contexts, laws: Sequence[Ladder]) -> str:
    """Return which runs, and which pairs of the other runs, have no part in any law, and why."""
    fitted = {name for ladder in laws for name in ladder.runs}
    reasons = {True: "no pair with results at two sizes", False: "no scaling factors"}
    runs = runs_by_name(contexts)
    unfitted = [
        f"{name} ({reasons[any(rungs_of(run))]})"
        for name, run in runs.items()
        if name not in fitted
    ]
    pairs = {rule for name in fitted for rule, _ in rungs_of(runs[name])}
    others = sorted(pairs - {x.rule for x in laws})
    unfitted += [f"{pair_text(pair)} (no results at two sizes)" for pair in others]
    return f"in no law: {', '.join(unfitted)}" if unfitted else ""


def _interval_text(interval: Interval, digits: int) -> str:
    if interval.low is None or interval.high is None:
        return fixed(interval.mean, digits)
    low, high = fixed(interval.low, digits), fixed(interval.high, digits)
    return f"{fixed(interval.mean, digits)} ({low} to {high})"


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
        **(_floor_fields(ladder.floor) if ladder.floor else {}),
        **interval_fields("predicted", test.prediction.error if test else None),
        "measured": rounded(test.outcome if test else None),
        "within_interval": test.within_interval if test else None,
        **({"left_out": "; ".join(ladder.left_out)} if ladder.left_out else {}),
    }


def _floor_fields(law: FloorLaw) -> dict[str, float | None]:
    return interval_fields("floor", law.floor) | interval_fields("floor_exponent", law.exponent)


def law_figure(contexts: Contexts) -> Figure:
    """Plot the error against the size on log scales: a line per ladder, bars over all seeds."""
    fig, ax = style.axes_with_title("Parameters (M), log scale", "Validation error (%), log scale")
    ax.set(xscale="log", yscale="log")
    for i, ladder in enumerate(ladders(contexts)):
        _plot_ladder(ax, ladder, i)
    for axis in (ax.xaxis, ax.yaxis):
        style.plain_log_ticks(axis, (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
    ax.margins(0.08)
    style.legend_inside(ax, "best")
    return fig


def _plot_ladder(ax: Axes, ladder: Ladder, i: int) -> None:
    sizes, points, line = np.array(sorted(ladder.points)), ladder.points, style.series(i)
    ax.plot(sizes / 1e6, [np.mean(points[s]) for s in sizes], "o", color=line["color"], ms=4.5)
    for size in sizes:
        style.error_bar(ax, size / 1e6, min(points[size]), max(points[size]), line["color"])
    ends = np.array([sizes[0], max([sizes[-1], *(p.size for p in ladder.predictions)])])
    fitted = [float(np.exp(ladder.law.log_error(s))) for s in ends]
    ax.plot(ends / 1e6, fitted, **line, label=ladder.name)


LAW = Card(
    name="law",
    title=TITLE,
    skip_reason=unless(lambda c: ladders([c]), "no pair (alpha, beta) has results at two sizes"),
    table=lambda context: law_table([context]),
    figure=lambda context: law_figure([context]),
    how_to_read="Line: the fitted power law. Bars: range of the seeds of a size.",
)
LAW_OF_RUNS = CrossCard(
    name="law", contents=lambda runs: table_content("law", TITLE, law_table(runs))
)
