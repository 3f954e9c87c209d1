"""A user's card: the number of trainings of each cell."""

from matplotlib.figure import Figure

from archsearch.reports.card import Card
from archsearch.reports.context import Context
from archsearch.reports.formats import Table
from archsearch.reports.style import LINES, axes_with_title


def skip_reason(context: Context) -> str | None:
    return None if context.results.trials else "no training was planned"


def table(context: Context) -> Table:
    rows = [{"network": c.label, "trainings": len(c.trials)} for c in context.cells]
    columns = {
        "Network": [str(row["network"]) for row in rows],
        "Trainings": [str(row["trainings"]) for row in rows],
    }
    return Table.of(columns, rows)


def figure(context: Context) -> Figure:
    fig, ax = axes_with_title("Cell", "Trainings")
    counts = [len(c.trials) for c in context.cells]
    ax.bar(range(len(counts)), counts, color=LINES[0])
    return fig


TOY = Card(
    name="toy",
    title=lambda context: f"Trainings of {context.results.name}",
    how_to_read="A bar per cell.",
    skip_reason=skip_reason,
    table=table,
    figure=figure,
)
