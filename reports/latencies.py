"""Latency on a target: what was measured, what a model of layer shapes predicts, and its errors."""

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from archsearch.core.family import Family
from archsearch.core.metrics import GENERAL, rounded
from archsearch.reports.card import Card, unless
from archsearch.reports.context import Context
from archsearch.reports.formats import MISSING, Table, number
from archsearch.reports.phrases import are, paragraph, plural
from archsearch.reports.style import (
    FAINT,
    LINES,
    axes_with_title,
    error_bar,
    legend_inside,
    plain_log_ticks,
)
from archsearch.results import LEVEL, Results
from archsearch.results.latencies import CHOSEN, DOUBTFUL, MODEL, MeasuredLatencies
from archsearch.results.step_times import StepTime
from archsearch.space.step_budget import time_text
from archsearch.stats.intervals import Interval, kendall_tau

MILLISECONDS = GENERAL["latency"]

PURPOSES = {
    MODEL: "the model",
    DOUBTFUL: "a doubtful prediction",
    CHOSEN: "the result of the trainings",
}

BAND = 0.1
"""Half of the drawn band around equal latencies, relative."""


@dataclass(frozen=True)
class NetworkLatency:
    """One network; seconds are None where it was not measured or cannot be predicted.

    A network of the model is ``predicted`` from the others. ``half_width`` is that of the interval
    of the prediction, relative.
    """

    variant: Family
    macs: int
    predicted: float | None
    half_width: float
    measured: StepTime | None
    purpose: str
    in_plan: bool

    @property
    def seconds(self) -> float:
        """The measured latency, else the predicted one."""
        return (self.predicted or 0.0) if self.measured is None else self.measured.median

    @property
    def error(self) -> float | None:
        """The error of the prediction, relative to the measured latency."""
        if self.predicted is None or self.measured is None:
            return None
        return self.predicted / self.measured.median - 1


def latencies(context: Context) -> list[NetworkLatency]:
    """Return the networks of the run and the other measured ones, the fastest first."""
    measured, planned = _measured(context), _planned(context.results)
    networks = dict.fromkeys((*planned, *measured.times))
    found = [_network(v, measured, v in planned) for v in networks]
    return sorted(found, key=lambda one: one.seconds)


def _measured(context: Context) -> MeasuredLatencies:
    assert context.latencies is not None, "the card is of runs with measured latencies"
    return context.latencies


def _planned(results: Results) -> list[Family]:
    return [v for cell in results.cells if (v := cell.cell.variant) is not None]


def _network(variant: Family, measured: MeasuredLatencies, in_plan: bool) -> NetworkLatency:
    known, study, data = measured.known, measured.results.study, measured.results.data
    predicted = known.left_out if variant in known.fitted and len(known.fitted) > 1 else {}
    side = study.recipe.image_size
    return NetworkLatency(
        variant,
        study.task.cost(variant, data, side, side).macs,
        predicted.get(variant) or known.predicted(variant),
        known.model.half_width,
        measured.times.get(variant),
        measured.purposes.get(variant, ""),
        in_plan,
    )


def agreement(context: Context) -> Interval | None:
    """Return Kendall's tau of latency and multiply-adds over the measured networks; None without
    an order to compare."""
    measured = [one for one in latencies(context) if one.measured is not None]
    try:
        return kendall_tau([one.macs for one in measured], [one.seconds for one in measured], LEVEL)
    except ValueError:  # too few networks, or all have the same number
        return None


def latency_table(context: Context) -> Table:
    """Return a row per network: multiply-adds, predicted and measured latency, and the error."""
    networks = latencies(context)
    columns = {
        "Network": [one.variant.name for one in networks],
        "MACs as trained (M)": [number(one.macs, ".2f", 1e6) for one in networks],
        "Predicted (ms)": [_predicted_text(one) for one in networks],
        "Measured (ms)": [_measured_text(one) for one in networks],
        "Error (%)": [number(one.error, "+.1f", 0.01) for one in networks],
        "Measured for": [PURPOSES.get(one.purpose, "") for one in networks],
        "In the plan": ["yes" if one.in_plan else "" for one in networks],
    }
    return Table.of(columns, map(_row, networks), note=_note(context))


def _predicted_text(one: NetworkLatency) -> str:
    if one.predicted is None:
        return MISSING
    half = one.half_width * one.predicted
    known = f" ± {MILLISECONDS.text(1e3 * half)}" if half < 10 * one.predicted else ""
    return f"{MILLISECONDS.text(1e3 * one.predicted)}{known}"


def _measured_text(one: NetworkLatency) -> str:
    if one.measured is None:
        return MISSING
    low, high = (MILLISECONDS.text(1e3 * end(one.measured.repeats)) for end in (min, max))
    return f"{MILLISECONDS.text(1e3 * one.measured.median)} ({low} to {high})"


def _row(one: NetworkLatency) -> dict[str, Any]:
    times = one.measured
    return {
        "network": one.variant.name,
        "trained_macs_m": one.macs / 1e6,
        "predicted_ms": None if one.predicted is None else rounded(1e3 * one.predicted),
        "predicted_half_width_percent": rounded(100 * min(one.half_width, 1e4)),
        "measured_ms": None if times is None else rounded(1e3 * times.median),
        "measured_low_ms": None if times is None else rounded(1e3 * min(times.repeats)),
        "measured_high_ms": None if times is None else rounded(1e3 * max(times.repeats)),
        "error_percent": None if one.error is None else rounded(100 * one.error),
        "measured_for": one.purpose,
        "in_plan": one.in_plan,
    }


def _note(context: Context) -> str:
    measured = _measured(context)
    return paragraph(
        _how_measured(measured), _model_text(measured), _errors_text(context), _tau_text(context)
    )


def _how_measured(measured: MeasuredLatencies) -> str:
    study, plan = measured.results.study, measured.plan
    device = f" ({plan.device}, {plural(study.recipe.threads, 'thread')})" if plan.device else ""
    return (
        f"One image of {study.recipe.image_size} x {study.recipe.image_size} pixels on "
        f"{plan.target}{device}, random weights; the median of {len(study.seeds)} repeats, in "
        "turn, with the lowest and the highest."
    )


def _model_text(measured: MeasuredLatencies) -> str:
    model = measured.known.model
    networks = plural(model.num_networks, "measured network")
    error = "" if model.error is None else (
        f", each of which it predicts from the others with an error of {model.error:.1%} (root "
        "mean square)"
    )  # fmt: skip
    return (
        f"The model has a rate above or at 0 for each kind of layer shape, from {networks}{error}; "
        "these predictions are shown for its own networks. ± is the 95% interval of a prediction."
    )


def _errors_text(context: Context) -> str:
    """Return how well networks outside the model are predicted."""
    others = (one for one in latencies(context) if one.purpose not in (MODEL, ""))
    errors = [abs(one.error) for one in others if one.error is not None]
    if not errors:
        return ""
    within = sum(error <= BAND for error in errors)
    return (
        f"Of {plural(len(errors), 'network')} that the model has not seen, {within} {are(within)} "
        f"predicted within {BAND:.0%}; the largest error is {max(errors):.1%}."
    )


def _tau_text(context: Context) -> str:
    tau = agreement(context)
    if tau is None:
        return ""
    return (
        f"Kendall's tau between latency and multiply-adds is {tau.mean:.2f} ({tau.low:.2f} to "
        f"{tau.high:.2f}) over {tau.n} measured networks."
    )


def budget_text(results: Results) -> str:
    """Return `` at a latency of 5ms on onnxruntime``; empty for a run without such a budget."""
    if results.latencies is None:
        return ""
    plan = MeasuredLatencies(results.latencies).plan
    return f" at a latency of {time_text(plan.seconds)} on {plan.target}" if plan.seconds else ""


def latency_figure(context: Context) -> Figure:
    """Plot the predicted against the measured latency of the measured networks."""
    fig, ax = axes_with_title("Measured latency (ms)", "Predicted latency (ms)")
    networks = [one for one in latencies(context) if one.measured is not None]
    ends = [1e3 * end(one.seconds for one in networks) for end in (min, max)]
    edges = [0.8 * ends[0], 1.25 * ends[1]]
    ax.fill_between(
        edges, [(1 - BAND) * x for x in edges], [(1 + BAND) * x for x in edges], color=FAINT,
        linewidth=0, label=f"within {BAND:.0%}", zorder=0,
    )  # fmt: skip
    for i, (purpose, label) in enumerate(PURPOSES.items()):
        points = [
            (1e3 * one.seconds, 1e3 * one.predicted)
            for one in networks
            if one.purpose == purpose and one.predicted
        ]
        _plot(ax, points, i, f"measured for {label}")
    _log(ax)
    legend_inside(ax, "upper left")
    return fig


def macs_figure(context: Context) -> Figure:
    """Plot the latency of every network against its multiply-adds."""
    fig, ax = axes_with_title("Multiply-adds as trained (M)", "Latency (ms)")
    networks = latencies(context)
    for one in networks:
        if one.measured is not None:
            low, high = (1e3 * end(one.measured.repeats) for end in (min, max))
            error_bar(ax, one.macs / 1e6, low, high, LINES[0])
    for i, (is_measured, label) in enumerate(((True, "measured"), (False, "predicted"))):
        points = [
            (one.macs / 1e6, 1e3 * one.seconds)
            for one in networks
            if (one.measured is not None) is is_measured
        ]
        _plot(ax, points, i, label)
    _log(ax)
    legend_inside(ax, "upper left")
    return fig


def _plot(ax: Axes, points: list[tuple[float, float]], i: int, label: str) -> None:
    if points:
        fill = "none" if i else LINES[i]
        xs, ys = zip(*points, strict=True)
        ax.plot(xs, ys, "oD^"[i], color=LINES[i], markersize=4.5, markerfacecolor=fill, label=label)


def _log(ax: Axes) -> None:
    for axis, set_scale in ((ax.xaxis, ax.set_xscale), (ax.yaxis, ax.set_yscale)):
        set_scale("log")
        plain_log_ticks(axis)


_SKIP = unless(
    lambda c: c.latencies is not None and c.latencies.known.fitted,
    "no latency is measured in this run",
)

LATENCY = Card(
    name="latency",
    title="Predicted and measured latency",
    skip_reason=_SKIP,
    table=latency_table,
    figure=latency_figure,
    how_to_read="A point per measured network; those of the model are predicted from its others. "
    "The band holds predictions within 10% of the measured latency.",
)
LATENCY_MACS = Card(
    name="latency-macs",
    title=lambda context: f"Latency against multiply-adds{_short_tau(context)}",
    skip_reason=_SKIP,
    figure=macs_figure,
    how_to_read="A point per network. Bars: the lowest and the highest repeat.",
)


def _short_tau(context: Context) -> str:
    tau = agreement(context)
    return "" if tau is None else f": Kendall's tau {tau.mean:.2f}"
