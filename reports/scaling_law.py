"""How the error falls along a scaling ladder, and whether that foretells its next rung.

The largest trained size is predicted from the smaller ones alone and then set beside what came.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter, NullLocator

from archsearch.metrics import METRICS
from archsearch.recipe import Recipe
from archsearch.results import UNFINISHED, Results
from archsearch.statistics.law import Law, Prediction, Score, fit, predict, recommend, score
from archsearch.statistics.stats import Interval
from reports.formats import Table, table
from reports.style import DASHES, LINES, axes_with_title, legend_inside

Rule = tuple[float, float]
ERROR = METRICS["val_error"]


@dataclass(frozen=True)
class Ladder:
    """One (alpha, beta): its law, the test of it, and what it foretells for sizes not trained.

    ``points`` are parameters (counted as the paper counts) -> validation error in percent of every
    seed. ``tested`` is None below three sizes: a line through one or two points tests nothing.
    """

    rule: Rule
    points: Mapping[float, Sequence[float]]
    law: Law
    tested: Score | None
    ahead: tuple[Prediction, ...]

    @property
    def name(self) -> str:
        return f"α {self.rule[0]:g}, β {self.rule[1]:g}"


def ladders(results: Sequence[Results]) -> list[Ladder]:
    """A law per (alpha, beta) that has finished trainings at two sizes or more.

    Several runs are pooled only if they share recipe and data. Sizes with an error of zero are
    left out: a power law has no zero.
    """
    trained: dict[Rule, dict[float, dict[str, float]]] = {}
    waiting: dict[Rule, set[float]] = {}
    alike = [r for r in results if _setting(r) == _setting(results[0])]
    for cell in (c for run in alike for c in run.cells):
        asked, cost = cell.cell.asked, cell.cell.cost
        if cost is None or not {"alpha", "beta"} <= set(asked):
            continue
        rule, size = (float(asked["alpha"]), float(asked["beta"])), float(cost.params)
        errors = {t.trial.id: v for t in cell.trials if (v := t.value(ERROR)) is not None}
        if errors and min(errors.values()) > 0:
            trained.setdefault(rule, {}).setdefault(size, {}).update(errors)
        elif cell.state in UNFINISHED:
            waiting.setdefault(rule, set()).add(size)
    return [
        _ladder(rule, {s: [*e.values()] for s, e in points.items()}, waiting.get(rule, set()))
        for rule, points in sorted(trained.items())
        if len(points) > 1
    ]


def _setting(results: Results) -> tuple[Recipe, str]:
    return replace(results.study.recipe, name="_"), results.data.fingerprint


def _ladder(rule: Rule, points: Mapping[float, Sequence[float]], waiting: set[float]) -> Ladder:
    law = fit(points)
    foretold = tuple(predict(law, size) for size in sorted(waiting) if size > max(points))
    return Ladder(rule, points, law, _tested(points), foretold)


def _tested(points: Mapping[float, Sequence[float]]) -> Score | None:
    largest = max(points)
    smaller = {size: errors for size, errors in points.items() if size != largest}
    return score(predict(fit(smaller), largest), points[largest]) if len(smaller) > 1 else None


def law_table(results: Sequence[Results]) -> Table | None:
    """Exponent, the test on the largest size, and what is foretold; None without a ladder."""
    found = ladders(results)
    if not found:
        return None
    columns = {
        "α": [f"{x.rule[0]:.2f}" for x in found],
        "β": [f"{x.rule[1]:.2f}" for x in found],
        "Sizes (M)": [", ".join(f"{s / 1e6:.1f}" for s in x.law.sizes) for x in found],
        "Exponent": [_interval(x.law.exponent, 3) for x in found],
        "Largest, foretold (%)": [_foretold(x) for x in found],
        "Largest, measured (%)": [f"{x.tested.outcome:.2f}" if x.tested else "–" for x in found],
        "Inside": [_inside(x.tested) for x in found],
        "Next size, foretold (%)": [_ahead(x) for x in found],
    }
    notes = sorted({note for x in found for note in x.law.notes})
    note = (
        "Validation error = exp(a) · parameters^−exponent. The largest size is foretold from the "
        "smaller ones alone. Intervals: 95%. "
    )
    return table(
        "law", "Scaling law", columns, [_row(x) for x in found], note=note + _sentences(notes)
    )


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
        "exponent": _six(exponent.mean),
        "exponent_low": _six(exponent.low),
        "exponent_high": _six(exponent.high),
        "foretold": _six(foretold.mean if foretold else None),
        "foretold_low": _six(foretold.low if foretold else None),
        "foretold_high": _six(foretold.high if foretold else None),
        "measured": _six(tested.outcome if tested else None),
        "inside": tested.inside if tested else None,
    }


def _six(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def recommendation(results: Sequence[Results]) -> str:
    """Which (alpha, beta) promises most at the largest size trained, and how sure that is."""
    found = ladders(results)
    if len(found) < 2:
        return ""
    size = max(max(x.points) for x in found)
    told = recommend({x.name: x.points for x in found}, size)
    words = f"At {size / 1e6:.0f}M parameters {told.best} promises the least error"
    promise = f"{_interval(told.errors[told.best], 2)}%"
    if told.sure:
        return f"{words}, {promise}; every other pair is shown to promise more."
    rivals = f" Not told apart from it: {'; '.join(told.tied[1:])}." if told.tied[1:] else ""
    return f"{words}, {promise}, but that is not sure: {told.reason}.{rivals}"


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
