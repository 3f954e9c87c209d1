"""Every cell of the plan with its result, the best first, and the trainings outside the plan."""

from archsearch.core.family import family_to_dict
from archsearch.core.metrics import rounded
from archsearch.reports.card import Card, unless
from archsearch.reports.cell_order import NOT_MEASURED, rank_label, ranked_cells
from archsearch.reports.columns import requested_columns, result_text, row_mark, size_columns
from archsearch.reports.context import Context
from archsearch.reports.formats import MISSING, Table
from archsearch.reports.latencies import budget_text
from archsearch.reports.phrases import (
    interval_note,
    mean_note,
    other_source_present,
    outside_text,
    paragraph,
)
from archsearch.results import CellResult, Comparison, TrialResult

MAX_OPEN_ROWS = 12
"""The page folds the table of other trainings if it has more rows."""


def results_table(context: Context) -> Table:
    """Return a row per cell; cells without a value are at the end, with the reason."""
    comparison, metric, order = context.comparison, context.metric, ranked_cells(context)
    num_values = [sum(v is not None for v in c.values(metric).values()) for c in order]
    columns = {
        **_identity(context, order),
        **size_columns(order),
        metric.axis: [result_text(c, comparison) for c in order],
        "Seeds": [str(number or MISSING) for number in num_values],
        "Rank": [rank_label(c, comparison) for c in order],
        "Remarks": [remarks(c, comparison) for c in order],
    }
    means = context.ranking.means
    rows = [
        row | {"ranking_mean": rounded(means.get(c.label)), "rank": rank_label(c, comparison)}
        for row, c in zip(context.rows, context.cells, strict=True)
    ]
    note = paragraph(f"{metric.label}: {interval_note(context)}.", mean_note(context))
    return Table.of(columns, rows, [row_mark(c, comparison) for c in order], note)


def _identity(context: Context, order: list[CellResult]) -> dict[str, list[str]]:
    """Return the columns that identify a cell: its request, and its name if that is not enough."""
    requested = requested_columns(context, order)
    free = any(c.cell.variant and not c.cell.variant.numbers for c in order)
    columns = {"Network": [c.label for c in order]} if free or not requested else {}
    columns |= requested
    if not free and context.solved not in ("", *requested):
        variants = [c.cell.variant for c in order]
        columns[context.solved] = [str(v.solved_value if v else MISSING) for v in variants]
    return columns


def remarks(cell: CellResult, comparison: Comparison) -> str:
    """Return state and fate with their reasons; empty for a complete, exact cell."""
    remarks = [] if cell.status_text in ("complete", "infeasible") else [cell.status_text]
    if cell.state == "complete" and not comparison.has_value(cell):
        remarks.append(NOT_MEASURED)
    if cell.cell.fate != "exact":
        remarks.append(": ".join(filter(None, (cell.cell.fate, cell.cell.reason))))
    return "; ".join(remarks)


def _title(context: Context) -> str:
    study = context.results.study
    budget = f" at {study.budget}" if study.budget else budget_text(context.results)
    return f"{study.name}{budget}: {len(context.cells)} cells"


def others_table(context: Context) -> Table:
    """Return the trainings with another recipe or data, such as cheaper rungs of a halving, or with
    an earlier source of the family."""
    task, others = context.results.study.task, context.results.others
    metric = task.metric(task.ranking_metric)
    columns = {
        "Network": [t.trial.variant.name for t in others],
        **({"Source": list(map(_source, others))} if other_source_present(context) else {}),
        "Recipe": [t.trial.recipe.name for t in others],
        "Epochs": [f"{t.trial.recipe.epochs}" for t in others],
        "Image": [f"{t.trial.recipe.image_size}²" for t in others],
        "Seed": [str(t.trial.seed) for t in others],
        "State": [str(t.state) for t in others],
        metric.axis: [metric.text(t.value(metric)) for t in others],
    }
    return Table.of(columns, context.results.seed_rows()[len(context.results.trials) :])


def _source(result: TrialResult) -> str:
    return family_to_dict(type(result.trial.variant)).get("source", MISSING)[:8]


RESULTS = Card(
    name="results",
    title=_title,
    skip_reason=unless(lambda c: c.cells, "the plan has no cell yet"),
    table=results_table,
)
OTHERS = Card(
    name="others",
    title=lambda context: f"Trainings with {outside_text(context)}",
    skip_reason=unless(lambda c: c.results.others, "all trainings have the plan's recipe and data"),
    table=others_table,
    section=lambda c: "open" if len(c.results.others) <= MAX_OPEN_ROWS else "folded",
)
