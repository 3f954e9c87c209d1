"""The operator's part and the frame's: every operator compared with DCNv3 at equal size.

For studies that name this report, such as `archsearch.studies.operator_or_frame`.
"""

from collections.abc import Sequence
from functools import lru_cache

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from archsearch.core.metrics import GENERAL, Metric, rounded
from archsearch.reports import style
from archsearch.reports.card import Card, unless
from archsearch.reports.cell_order import reported_interval
from archsearch.reports.columns import (
    interval_fields,
    result_text,
    result_with_unit,
    row_mark,
)
from archsearch.reports.context import Context
from archsearch.reports.formats import MISSING, Table, number
from archsearch.reports.paper import step_ms
from archsearch.reports.phrases import (
    difference_text,
    listed,
    mean_note,
    p_equals,
    p_text,
    paragraph,
    percent,
    plural,
    sentence,
    unit_text,
)
from archsearch.reports.winner import metric_on_test
from archsearch.results import LEVEL, CellResult
from archsearch.results.comparison import ranked_values
from archsearch.stats.control import ControlComparison, Difference, compared_with_control
from archsearch.stats.intervals import Interval

CONTROL, PLAIN = "dcnv3", "depthwise"
NAMES = {
    CONTROL: "DCNv3", PLAIN: "plain convolution", "deformable-attention": "deformable attention",
}  # fmt: skip


def operator_cells(context: Context) -> list[CellResult]:
    """Return the cells of a study that names this report, if one has DCNv3; else none."""
    named = "operators" in context.results.study.reports and _of(context, CONTROL)
    return list(context.cells) if named else []


def _of(context: Context, operator: str) -> list[CellResult]:
    return [c for c in context.cells if c.cell.requested.get("operator") == operator]


@lru_cache(maxsize=8)
def control_comparison(context: Context, metric: Metric | None = None) -> ControlComparison[str]:
    """Return the differences of all networks to the one with DCNv3, by the report's metric."""
    metric, control = metric or context.metric, _of(context, CONTROL)[0].label
    if metric.known_before_training:
        return ControlComparison(control, LEVEL, "the metric is counted and has no noise")
    return compared_with_control(ranked_values(context.cells, metric), control, LEVEL)


def _differences(
    context: Context, cells: Sequence[CellResult], metric: Metric | None = None
) -> list[tuple[Interval | None, float | None]]:
    """Return interval and p-value of each difference; None for DCNv3 and without a result."""
    differences = (control_comparison(context, metric).differences.get(c.label) for c in cells)
    return [(d.interval, d.p_value) if d else (None, None) for d in differences]


def _on_test(context: Context, cells: Sequence[CellResult]) -> list[Interval | None]:
    """Return the differences on the test split; empty if it was not measured or is the metric."""
    metric = metric_on_test(context)
    changes = [change for change, _ in _differences(context, cells, metric)] if metric else []
    return changes if any(changes) else []


def operators_table(context: Context) -> Table:
    """Return a row per operator: cost, time, result, and its difference to DCNv3."""
    cells = operator_cells(context)
    differences, on_test = _differences(context, cells), _on_test(context, cells)
    steps = [number(step_ms(c), ".1f") for c in cells]
    columns = {
        "Operator": [_name(c) for c in cells],
        "K": [str(c.cell.requested["kernel_size"]) for c in cells],
        context.solved: [str(v.solved_value) if (v := c.cell.variant) else MISSING for c in cells],
        "Params (M)": [GENERAL["params"].text(c.cost_value(GENERAL["params"]), 3) for c in cells],
        "MACs (G)": [GENERAL["macs"].text(c.cost_value(GENERAL["macs"]), 3) for c in cells],
        **({} if {*steps} == {MISSING} else {"Step (ms)": steps}),
        context.metric.axis: [result_text(c, context.comparison) for c in cells],
        f"Difference to DCNv3{unit_text(context.metric)}": _texts(
            context.metric, [change for change, _ in differences]
        ),
        "p": [p_text(p) for _, p in differences],
        **_test_column(context, on_test),
    }
    rows = [
        context.rows[c.index]
        | {"step_ms": rounded(step_ms(c))}
        | interval_fields("difference", change)
        | {"difference_p_value": rounded(p)}
        | interval_fields("test_difference", test)
        for c, (change, p), test in zip(
            cells, differences, on_test or [None] * len(cells), strict=True
        )
    ]
    marks = [row_mark(c, context.comparison) for c in cells]
    return Table.of(columns, rows, marks, note=paragraph(answer(context), _note(context)))


def _texts(metric: Metric, changes: Sequence[Interval | None]) -> list[str]:
    return [difference_text(metric, change) if change else MISSING for change in changes]


def _test_column(context: Context, changes: Sequence[Interval | None]) -> dict[str, list[str]]:
    metric = metric_on_test(context)
    if metric is None or not changes:
        return {}
    return {f"On the test split{unit_text(metric)}": _texts(metric, changes)}


def _name(cell: CellResult) -> str:
    operator = str(cell.cell.requested["operator"])
    return NAMES.get(operator, operator)


def full_name(cell: CellResult) -> str:
    """Return ``7×7 plain convolution``; attention has as many points as a window of its K."""
    return "{0}×{0} {1}".format(cell.cell.requested["kernel_size"], _name(cell))


def answer(context: Context) -> str:
    """Return the operator's part and the frame's as sentences, with intervals."""
    comparison = control_comparison(context)
    if comparison.reason:
        return sentence(f"No differences: {comparison.reason}")
    cells = [c for c in operator_cells(context) if c.label in comparison.differences]
    plain = [c for c in cells if c.cell.requested["operator"] == PLAIN]
    others = [c for c in cells if c not in plain]
    label = context.metric.noun
    texts = {
        f"The operator's part: without DCNv3 the {label} changes by": _changes(context, plain),
        f"The frame's part: the {label} is": _of_frame(context, plain),
        f"With another operator the {label} changes by": _changes(context, others),
    }
    parts = (f"{head} {text}." for head, text in texts.items() if text)
    return paragraph(*parts, _test_sentence(context, cells))


def _test_sentence(context: Context, cells: Sequence[CellResult]) -> str:
    """Say what the differences are on the test split, by which nothing is chosen."""
    metric, changes = metric_on_test(context), _on_test(context, cells)
    if metric is None or not changes:
        return ""
    texts = [
        f"{difference_text(metric, change)} with {full_name(cell)}"
        for cell, change in zip(cells, changes, strict=True)
        if change
    ]
    unit = "points" if metric.unit == "%" else metric.unit
    return f"On the test split the differences{f' in {unit}' if unit else ''} are {listed(texts)}."


def _changes(context: Context, cells: Sequence[CellResult]) -> str:
    differences = control_comparison(context).differences
    return listed([_change(context, c, differences[c.label]) for c in cells])


def _change(context: Context, cell: CellResult, difference: Difference) -> str:
    """Return ``-1.20 ± 0.89 points with 3×3 plain convolution (significantly worse, p = 0.01)``."""
    metric, interval = context.metric, difference.interval
    unit = "points" if metric.unit == "%" else metric.unit
    change = f"{difference_text(metric, interval)} {unit}".rstrip()
    if difference.p_value > 1 - LEVEL:
        seeds = plural(len(control_comparison(context).seeds), "seed")
        verdict = f"not significant with {seeds}"
    else:
        verdict = f"significantly {'better' if metric.merit(interval.mean) > 0 else 'worse'}"
    return f"{change} with {full_name(cell)} ({verdict}, {p_equals(difference.p_value)})"


def _of_frame(context: Context, plain: Sequence[CellResult]) -> str:
    if not plain:
        return ""
    cells = (*plain, *_of(context, CONTROL))
    values = [f"{result_with_unit(c, context.comparison)} with {full_name(c)}" for c in cells]
    return f"{listed(values[:-1])}, beside {values[-1]}"


def _note(context: Context) -> str:
    comparison = control_comparison(context)
    intervals = (
        f"Differences have {percent(LEVEL)} intervals that hold together (Dunnett; seeds are "
        "blocks, and the variance of each network is combined with the average)."
    )
    looks = "They are not corrected for testing after every seed (--seeds auto)."
    return paragraph(
        "" if comparison.reason else intervals,
        looks if context.results.study.max_seeds and not comparison.reason else "",
        _sizes_note(context),
        _step_note(context),
        sentence("; ".join(comparison.notes)) if comparison.notes else "",
        mean_note(context),
    )


def _sizes_note(context: Context) -> str:
    params, macs = (_largest_deviation(context, GENERAL[name]) for name in ("params", "macs"))
    return (
        f"Parameters differ from DCNv3's by at most {params}, multiply-adds by at most {macs} "
        f"(1000 classes at 224²). A cheaper operator gets more blocks ({context.solved}), so a "
        "difference is that of operator and depth together at one budget."
    )


def _largest_deviation(context: Context, size: Metric) -> str:
    sizes = [v for c in operator_cells(context) if (v := c.cost_value(size)) is not None]
    control = _of(context, CONTROL)[0].cost_value(size)
    return f"{max(abs(v / control - 1) for v in sizes):.1%}" if control else MISSING


def _step_note(context: Context) -> str:
    recipe = context.results.study.recipe
    if not any(step_ms(c) for c in operator_cells(context)):
        return ""
    return (
        f"Step: {recipe.batch_size} images at {recipe.image_size}² during training, beside the "
        "other trainings of the run; with our kernels for DCNv3 and attention, and torch's for the "
        "plain convolution."
    )


def operators_figure(context: Context) -> Figure:
    """Plot every seed and the mean of each operator, and beside it the difference to DCNv3."""
    cells = operator_cells(context)
    plots = [_plot_result, _plot_difference][: 2 if control_comparison(context).differences else 1]
    fig = Figure(figsize=(style.WIDTH, 0.42 * len(cells) + 0.9))
    axes = fig.subplots(1, len(plots), sharey=True, squeeze=False)[0]
    for ax, plot in zip(axes, plots, strict=True):
        plot(ax, context, cells)
        ax.grid(axis="x", color=style.FAINT, linewidth=0.6)
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(cells)), [_tick(c) for c in cells])
    axes[0].set_ylim(len(cells) - 0.5, -0.5)
    fig.tight_layout()
    return fig


def _tick(cell: CellResult) -> str:
    return "{1}\n{0}×{0}".format(cell.cell.requested["kernel_size"], _name(cell))


def _plot_result(ax: Axes, context: Context, cells: Sequence[CellResult]) -> None:
    for i, cell in enumerate(cells):
        values = [v for v in cell.values(context.metric).values() if v is not None]
        ax.plot(values, [i + 0.2] * len(values), "|", color=_color(i), markersize=5, alpha=0.7)
        _plot_interval(ax, i, reported_interval(cell, context.comparison), filled=True)
    ax.set_xlabel(context.metric.axis.replace(" (", "\n("))


def _plot_difference(ax: Axes, context: Context, cells: Sequence[CellResult]) -> None:
    for i, (interval, _) in enumerate(_differences(context, cells)):
        _plot_interval(ax, i, interval, filled=interval is not None and 0.0 not in interval)
    ax.axvline(0, color=style.MUTED, linewidth=0.8, zorder=1)
    ax.set_xlabel(f"Difference to\nDCNv3{unit_text(context.metric)}")


def _color(i: int) -> str:
    return style.LINES[i % len(style.LINES)]


def _plot_interval(ax: Axes, i: int, interval: Interval | None, *, filled: bool) -> None:
    if interval is None:
        return
    color = _color(i)
    if interval.low is not None and interval.high is not None:
        ax.plot([interval.low, interval.high], [i, i], color=color, zorder=2)
    fill = color if filled else style.PAPER
    ax.plot([interval.mean], [i], "o", color=color, markerfacecolor=fill, markersize=4.5, zorder=3)


OPERATORS = Card(
    name="operators",
    title="The operator's part and the frame's, at equal size",
    skip_reason=unless(
        operator_cells, "the study does not name this report, or has no network with DCNv3"
    ),
    table=operators_table,
    figure=operators_figure,
    how_to_read="Left: a tick per seed, and mean and 95% interval. Right: the difference to DCNv3; "
    "the intervals hold together, and the point is filled if its interval excludes zero.",
)
