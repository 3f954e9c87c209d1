"""The distribution of the error over a space (Radosavovic et al. 2019)."""

from matplotlib.figure import Figure

from archsearch.core.metrics import Metric
from archsearch.reports.card import Card, unless
from archsearch.reports.cell_order import reported_interval
from archsearch.reports.context import Context
from archsearch.reports.phrases import paragraph, plural
from archsearch.reports.style import axes_with_title, legend_inside, series
from archsearch.stats.intervals import edf

MIN_NETWORKS = 8
"""Fewer networks give no meaningful distribution."""


def edf_figure(context: Context) -> Figure:
    """Plot the share of networks below an error: of all, and by the study's panel coordinate.

    A curve further left is a better part of the space. A full grid is the complete space, so no
    band is drawn.
    """
    error = _error(context) or context.metric
    fig, ax = axes_with_title(error.axis, f"Share of networks with at most this {_kind(error)}")
    for i, (name, errors) in enumerate(_groups(context).items()):
        curve = edf(errors)
        x, y = [curve.error[0], *curve.error], [0.0, *curve.share]
        ax.step(x, y, where="post", **series(i), label=name)
    ax.set_ylim(0, 1.02)
    legend_inside(ax, "lower right")
    return fig


def _error(context: Context) -> Metric | None:
    return context.results.study.task.as_error(context.metric)


def _kind(metric: Metric) -> str:
    return "loss" if metric.name.endswith("_loss") else "error"


def _groups(context: Context) -> dict[str, list[float]]:
    """Return the errors of all networks, then those by the study's panel coordinate if any.

    A part of a single network has no curve of its own.
    """
    results, error = context.results, _error(context)
    if error is None:
        return {}
    comparison = results.compare(error.name)
    networks = {c.label: results.network(c.label) for c in results.cells}
    intervals = {label: reported_interval(c, comparison) for label, c in networks.items()}
    errors = {label: e.mean for label, e in intervals.items() if e is not None}
    groups = {f"all {len(errors)} networks": list(errors.values())}
    if results.study.axes:
        axis = results.study.axes[0]
        for value in sorted({str(c.cell.requested.get(axis)) for c in results.cells}):
            labels = (k for k, c in networks.items() if str(c.cell.requested.get(axis)) == value)
            part = [errors[label] for label in labels if label in errors]
            if len(part) > 1:
                groups[f"{context.symbol(axis)} = {value}"] = part
    return groups


def _how_to_read(context: Context) -> str:
    total = len({c.label for c in context.cells if c.cell.variant is not None})
    missing = total - max(map(len, _groups(context).values()))
    left_out = f"Left out: {plural(missing, 'network')} without a value." if missing else ""
    return paragraph("Share of networks at or below a value; further left is better.", left_out)


EDF = Card(
    name="edf",
    title=lambda context: f"{_kind(context.metric).capitalize()} distribution over the space",
    skip_reason=unless(
        lambda context: max(map(len, _groups(context).values()), default=0) >= MIN_NETWORKS,
        f"fewer than {MIN_NETWORKS} networks have an error or a loss",
    ),
    figure=edf_figure,
    how_to_read=_how_to_read,
)
