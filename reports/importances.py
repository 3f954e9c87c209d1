"""Which of the space's numbers goes with the result: Optuna's fANOVA over the run's trainings."""

from matplotlib.figure import Figure

from archsearch.optuna_export import importances, params_of
from archsearch.reports.style import INK, LINES, axes_with_title, symbol
from archsearch.results import LEVEL, Results
from archsearch.stats.association import chance_of_no_association

MIN_TRAININGS = 10
"""Below, a random forest over a handful of trainings says nothing."""


def shares(results: Results, metric: str | None = None) -> dict[str, float]:
    """Number -> share of the variance, largest first.

    Empty where it would say nothing: few trainings, seeds that tell no two networks apart, or no
    number that goes with the networks' results more than chance would have it.
    """
    by = results.compare(metric).metric
    few = sum(t.value(by) is not None for t in results.trials) < MIN_TRAININGS
    if by.counted or few or _noise_alone(results, metric):
        return {}
    found = importances(results, by.name)
    return dict(sorted(((k, round(v, 3)) for k, v in found.items()), key=lambda kv: -kv[1]))


def _noise_alone(results: Results, metric: str | None) -> bool:
    ranking = results.compare(metric).ranking
    if ranking.can_rank and len(ranking.tied) == len(ranking.means):
        return True
    variants = [results.network(label).cell.variant for label in ranking.means]
    rows = [params_of(v) for v in variants if v is not None]
    columns = {name: [row.get(name) for row in rows] for name in rows[0]} if rows else {}
    return chance_of_no_association(columns, list(ranking.means.values())) > 1 - LEVEL


def importance_figure(results: Results, metric: str | None = None) -> Figure | None:
    """Bars, largest on top. Call within `style.styled`."""
    found = shares(results, metric)
    if len(found) < 2:
        return None
    fig, ax = axes_with_title("", "Share of the variance (%)")
    names = [symbol(n) for n in found]
    values = [100 * v for v in found.values()]
    ax.barh(names, values, color=LINES[0], height=0.55)
    ax.invert_yaxis()
    for i, value in enumerate(values):
        ax.text(value + 1, i, f"{value:.0f}", va="center", size=8, color=INK)
    ax.grid(visible=False)
    ax.set_xlim(0, max(values) * 1.12)
    ax.tick_params(axis="x", labelbottom=False, length=0)
    ax.spines["bottom"].set_visible(False)
    return fig
