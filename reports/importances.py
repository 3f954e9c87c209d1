"""Which of the space's numbers goes with the result: Optuna's fANOVA over the run's trainings."""

from matplotlib.figure import Figure

from archsearch.results import Results
from archsearch.searching.optuna_study import importances
from reports.style import INK, LINES, axes_with_title, symbol

MIN_TRAININGS = 10
"""Below, a random forest over a handful of trainings says nothing."""


def shares(results: Results, metric: str | None = None) -> dict[str, float]:
    """Number -> share of the variance, largest first.

    Empty where it would say nothing: few trainings, or seeds that tell no two networks apart.
    """
    compared = results.compare(metric)
    by, ranking = compared.metric, compared.ranking
    noise_alone = ranking.can_rank and len(ranking.tied) == len(ranking.means)
    if (
        by.counted
        or noise_alone
        or sum(t.value(by) is not None for t in results.trials) < MIN_TRAININGS
    ):
        return {}
    found = importances(results, by.name)
    return dict(sorted(((k, round(v, 3)) for k, v in found.items()), key=lambda kv: -kv[1]))


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
