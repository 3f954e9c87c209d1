"""How the error falls along a scaling ladder, and whether that foretells its next rung.

The largest trained size is predicted from the smaller ones alone and then set beside what came.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter, NullLocator

from archsearch.core.metrics import rounded
from archsearch.reports.comparable_runs import Runs, differences, groups, named
from archsearch.reports.formats import Table, table
from archsearch.reports.ladders import Ladder, ladders, rungs_of
from archsearch.reports.phrases import listed
from archsearch.reports.style import DASHES, LINES, axes_with_title, legend_inside
from archsearch.results import Results
from archsearch.stats.intervals import Interval
from archsearch.stats.law import Score


def law_table(results: Sequence[Results]) -> Table | None:
    """Exponent, the test on the largest size, and what is foretold; None without a ladder."""
    found = ladders(results)
    if not found:
        return None
    columns = {"Runs": [", ".join(x.runs) for x in found]} if len(results) > 1 else {}
    columns |= {
        "α": [f"{x.rule[0]:.2f}" for x in found],
        "β": [f"{x.rule[1]:.2f}" for x in found],
        "Sizes (M)": [", ".join(f"{s / 1e6:.1f}" for s in x.law.sizes) for x in found],
        "Exponent": [_interval(x.law.exponent, 3) for x in found],
        "Largest, foretold (%)": [_foretold(x) for x in found],
        "Largest, measured (%)": [f"{x.tested.outcome:.2f}" if x.tested else "–" for x in found],
        "Inside": [_inside(x.tested) for x in found],
        "Next size, foretold (%)": [_ahead(x) for x in found],
    }
    note = (
        "Validation error = exp(a) · parameters^−exponent. The largest size is foretold from the "
        "smaller ones alone. Intervals: 95%. "
    )
    notes = sorted({note for x in found for note in x.law.notes})
    notes += [
        *_without_zero(found),
        *_contradicting(found),
        *_not_pooled(named(results)),
        *_no_part(results, found),
    ]
    rows = [({"runs": ", ".join(x.runs)} if len(results) > 1 else {}) | _row(x) for x in found]
    return table("law", "Scaling law", columns, rows, note=note + _sentences(notes))


def _without_zero(found: Sequence[Ladder]) -> list[str]:
    left_out = [
        f"{x.name} at {', '.join(f'{s / 1e6:.1f}M' for s in x.perfect)}" for x in found if x.perfect
    ]
    told = "left out for an error of zero, which no power law has"
    return [f"{told}: {'; '.join(left_out)}"] if left_out else []


def _contradicting(found: Sequence[Ladder]) -> list[str]:
    """Which laws of one pair were fitted apart although recipe and data agree."""
    names = [x.name for x in found if x.of_several]
    told = "not pooled, since they have other networks at one phi (another origin or rounding)"
    return [f"{told}: {'; '.join(names)}"] if names else []


def _not_pooled(runs: Runs) -> list[str]:
    """Which runs with scaling factors were fitted apart, and why."""
    scaling = {name: run for name, run in runs.items() if any(rungs_of(run))}
    apart = groups(scaling)
    if len(apart) < 2:
        return []
    told = "; ".join(listed([*group]) for group in apart)
    return [f"not pooled, since they differ in {listed(differences(scaling.values()))}: {told}"]


def _no_part(results: Sequence[Results], found: Sequence[Ladder]) -> list[str]:
    """Which runs no law has a point of, and why."""
    fitted = {name for ladder in found for name in ladder.runs}
    short, other = "no pair with results at two sizes", "no scaling factors"
    out = [
        f"{name} ({short if any(rungs_of(run)) else other})"
        for name, run in named(results).items()
        if name not in fitted
    ]
    return [f"no part in a law: {', '.join(out)}"] if out else []


def _sentences(notes: Sequence[str]) -> str:
    return " ".join(f"{n[:1].upper()}{n[1:]}{'' if n.endswith('.') else '.'}" for n in notes)


def _interval(found: Interval, digits: int) -> str:
    if found.low is None or found.high is None:
        return f"{found.mean:.{digits}f}"
    return f"{found.mean:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def _foretold(ladder: Ladder) -> str:
    return _interval(ladder.tested.prediction.error, 2) if ladder.tested else "–"


def _inside(tested: Score | None) -> str:
    if tested is None or tested.inside is None:
        return "–"
    return "yes" if tested.inside else "no"


def _ahead(ladder: Ladder) -> str:
    told = (f"{p.size / 1e6:.1f}M: {_interval(p.error, 2)}" for p in ladder.ahead)
    return "; ".join(told) or "–"


def _row(ladder: Ladder) -> dict[str, Any]:
    exponent, tested = ladder.law.exponent, ladder.tested
    foretold = tested.prediction.error if tested else None
    return {
        "alpha": ladder.rule[0],
        "beta": ladder.rule[1],
        "sizes": " ".join(f"{s:.0f}" for s in ladder.law.sizes),
        "exponent": rounded(exponent.mean),
        "exponent_low": rounded(exponent.low),
        "exponent_high": rounded(exponent.high),
        "foretold": rounded(foretold.mean if foretold else None),
        "foretold_low": rounded(foretold.low if foretold else None),
        "foretold_high": rounded(foretold.high if foretold else None),
        "measured": rounded(tested.outcome if tested else None),
        "inside": tested.inside if tested else None,
    }


def law_figure(results: Sequence[Results]) -> Figure | None:
    """Error against size on log scales, one line a ladder, bars over seeds' range."""
    found = ladders(results)[: len(LINES)]
    if not found:
        return None
    fig, ax = axes_with_title("Parameters (M), log scale", "Validation error (%), log scale")
    ax.set_xscale("log")
    ax.set_yscale("log")
    for i, ladder in enumerate(found):
        sizes = np.array(sorted(ladder.points))
        ax.plot(
            sizes / 1e6, [np.mean(ladder.points[s]) for s in sizes], "o", color=LINES[i], ms=4.5
        )
        for size in sizes:
            span = min(ladder.points[size]), max(ladder.points[size])
            ax.plot([size / 1e6] * 2, span, color=LINES[i], linewidth=0.8, alpha=0.6)
        ends = np.array([sizes[0], max([sizes[-1], *(p.size for p in ladder.ahead)])])
        fitted = [float(np.exp(ladder.law.log_error(s))) for s in ends]
        ax.plot(ends / 1e6, fitted, color=LINES[i], linestyle=DASHES[i % 4], label=ladder.name)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    ax.margins(0.08)
    legend_inside(ax, "", "best")
    return fig
