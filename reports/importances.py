"""Association of the space's numbers with the result: Optuna's fANOVA over the run's trainings."""

from collections.abc import Mapping
from functools import lru_cache

from matplotlib.figure import Figure

from archsearch.optuna_export import MAX_IN_FOREST, importances
from archsearch.reports.card import Card, unless
from archsearch.reports.context import Context
from archsearch.reports.phrases import paragraph, plural
from archsearch.reports.style import INK, LINES, axes_with_title
from archsearch.results import LEVEL
from archsearch.stats.association import association_p_value

MIN_TRAININGS = 10
"""A random forest over fewer trainings is not meaningful."""


@lru_cache(maxsize=8)
def shares(context: Context) -> Mapping[str, float]:
    """Return number -> share of the variance, largest first.

    Empty if that is not meaningful: few trainings, several families, whose numbers are not the
    same, all networks statistically tied, or no significant association of a number with the
    networks' results.
    """
    metric = context.metric
    few = sum(t.value(metric) is not None for t in context.results.trials) < MIN_TRAININGS
    if metric.known_before_training or few or context.num_families > 1 or _is_only_noise(context):
        return {}
    shares = importances(context.results, metric.name)
    return {k: round(v, 3) for k, v in sorted(shares.items(), key=lambda kv: -round(kv[1], 3))}


def _is_only_noise(context: Context) -> bool:
    """Return whether the results show no significant effect of any number."""
    ranking = context.ranking
    if ranking.can_rank and len(ranking.tied) == len(ranking.means):
        return True
    variants = [context.results.network(label).cell.variant for label in ranking.means]
    rows = [v.params() for v in variants if v is not None]
    columns = {name: [row.get(name) for row in rows] for name in rows[0]} if rows else {}
    return association_p_value(columns, list(ranking.means.values())) > 1 - LEVEL


def importance_figure(context: Context) -> Figure:
    """Draw a bar per number, the largest on top."""
    percents = {name: 100 * share for name, share in shares(context).items()}
    fig, ax = axes_with_title("", "Share of the variance (%)")
    ax.barh([*map(context.symbol, percents)], [*percents.values()], color=LINES[0], height=0.55)
    ax.invert_yaxis()
    for i, percent in enumerate(percents.values()):
        ax.text(percent + 1, i, f"{percent:.0f}", va="center", size=8, color=INK)
    ax.grid(visible=False)
    ax.set_xlim(0, max(percents.values()) * 1.12)
    ax.tick_params(axis="x", labelbottom=False, length=0)
    ax.spines["bottom"].set_visible(False)
    return fig


def _how_to_read(context: Context) -> str:
    trials, metric = context.results.trials, context.metric
    missing = sum(t.record is not None and t.value(metric) is None for t in trials)
    number = sum(t.value(metric) is not None for t in trials)
    part = f"{MAX_IN_FOREST:,} of {number:,} trainings, picked at random"
    return paragraph(
        "fANOVA. Under a budget L₃ follows from the other numbers, so a share shows association, "
        "not cause. Drawn only if an association is significant.",
        f"Computed from {part}." if number > MAX_IN_FOREST else "",
        f"Left out: {plural(missing, 'training')} without a result." if missing else "",
    )


IMPORTANCES = Card(
    name="importances",
    title="Association with the result",
    skip_reason=unless(
        lambda c: len(shares(c)) > 1, "no two numbers have a significant association"
    ),
    figure=importance_figure,
    how_to_read=_how_to_read,
)
