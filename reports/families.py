"""Families of networks at one budget: the best network of each, what it costs, and who is tied."""

from collections.abc import Sequence
from typing import Any

from archsearch.core.metrics import GENERAL, Metric, rounded
from archsearch.core.plans import Tune
from archsearch.reports.card import Card, unless
from archsearch.reports.cell_order import reported_interval
from archsearch.reports.columns import interval_fields, result_text, row_mark
from archsearch.reports.context import Context
from archsearch.reports.families_figure import families_figure, families_panels
from archsearch.reports.family_results import (
    MACS,
    MILLISECONDS,
    FamilyResult,
    family_results,
    milliseconds_per_image,
    rank_of,
)
from archsearch.reports.formats import MISSING, Table, number
from archsearch.reports.phrases import (
    difference_text,
    interval_text,
    p_text,
    paragraph,
    plural,
    unit_text,
)
from archsearch.results import CellResult
from archsearch.space.step_budget import time_text
from archsearch.stats.intervals import Interval


def families_table(context: Context) -> Table:
    """Return a row per family: tuning, best network, result and costs."""
    families, comparison = family_results(context), context.comparison
    best = [family.best for family in families]
    columns = {
        "Family": [family.name for family in families],
        "Cells trained": [str(_num_networks(family.cells)) for family in families],
        "Learning rate": [_rate_text(family) for family in families],
        "Best network": [MISSING if c is None else _numbers(c) for c in best],
        context.metric.axis: [MISSING if c is None else result_text(c, comparison) for c in best],
        "Params (M)": [_cost_text(c, GENERAL["params"]) for c in best],
        "MACs as trained (M)": [_cost_text(c, MACS) for c in best],
        "Step (ms per image)": [_time_text(context, c) for c in best],
        "Rank": [rank_of(context, family) for family in families],
        f"To the best family{unit_text(context.metric)}": [
            _difference_text(context, family) for family in families
        ],
        "p, adjusted": [p_text(f.difference.p_value if f.difference else None) for f in families],
    }
    marks = [MISSING if c is None else row_mark(c, comparison) for c in best]
    rows = [_row(context, family) for family in families]
    return Table.of(columns, rows, [m.replace(MISSING, "missing") for m in marks], _note(context))


def _cost_text(cell: CellResult | None, cost: Metric) -> str:
    return cost.text(None if cell is None else cell.cost_value(cost))


def _num_networks(cells: Sequence[CellResult]) -> int:
    return len({cell.label for cell in cells if cell.cell.variant is not None})


def _numbers(cell: CellResult) -> str:
    assert cell.cell.variant is not None, "a cell with a value has a network"
    return cell.cell.variant.label


def _rate(family: FamilyResult) -> float | None:
    return next((float(r) for c in family.cells if (r := c.cell.settings.get("lr"))), None)


def _rate_text(family: FamilyResult) -> str:
    return number(_rate(family), "g")


def _time_text(context: Context, cell: CellResult | None) -> str:
    return interval_text(MILLISECONDS, milliseconds_per_image(context, cell), 2)


def _difference_text(context: Context, family: FamilyResult) -> str:
    if family.difference is None:
        return MISSING
    change = family.difference.interval
    ends = f"{change.low:+.2f} to {change.high:+.2f}"
    return f"{difference_text(context.metric, Interval(change.mean, None, None, 0, ''))} ({ends})"


def _row(context: Context, family: FamilyResult) -> dict[str, Any]:
    cell, metric = family.best, context.metric
    value = None if cell is None else reported_interval(cell, context.comparison)
    cost = cell.cell.cost if cell else None
    difference = family.difference
    return {
        "family": family.name,
        "cells_trained": _num_networks(family.cells),
        "lr": _rate(family),
        "network": cell.label if cell else None,
        **interval_fields(metric.name, value),
        "params": cost.params if cost else None,
        "macs": cost.macs if cost else None,
        "trained_macs_m": cell.cost_value(MACS) if cell else None,
        **interval_fields("milliseconds_per_image", milliseconds_per_image(context, cell)),
        "rank": rank_of(context, family),
        **interval_fields("difference", difference.interval if difference else None),
        "p_value": rounded(difference.p_value) if difference else None,
    }


def _note(context: Context) -> str:
    tune = context.results.study.plan
    assert isinstance(tune, Tune), "a comparison of families has this plan"
    chosen = (
        "All cells of each family are trained; the best of many means is too high."
        if tune.num_cells is None
        else f"Of each family the best by its pilots, at most {plural(tune.num_cells, 'cell')}, "
        "were chosen. The pilots had another seed, so the noise of the seeds shown took no part in "
        "that choice; the validation images are the same."
    )
    return paragraph(
        "A family is tied if one of its networks is tied with the best of all networks.",
        chosen,
        "Differences are between the best networks, in the direction in which higher is better; "
        "their intervals hold for all pairs of families together (95%, Tukey), whichever networks "
        "are truly the best. They are wider than the test of the rank, which only asks whether a "
        "network is worse than the best.",
        "A budget counts at 224 x 224; multiply-adds and time are those of the images trained on.",
        _time_note(tune),
    )


def _time_note(tune: Tune) -> str:
    if tune.step_seconds is None:
        return "The time is that of training steps as they ran here, with trainings beside them."
    return (
        f"The networks were chosen to take {time_text(tune.step_seconds)} per image and training "
        "step on the device of the timings, measured one at a time, in turn, before all trainings; "
        "these times are shown."
    )


FAMILIES = Card(
    name="families",
    title="Families at one budget",
    skip_reason=unless(
        lambda c: isinstance(c.results.study.plan, Tune) and c.comparison.has_values,
        "the study compares no families, or no cell has a value",
    ),
    table=families_table,
    figure=families_figure,
    panels=families_panels,
    how_to_read="A point per network; bars: 95% intervals over seeds. The best network of each "
    "family has a larger marker and its numbers.",
)
