"""A run as a Python object: its results as a frame, its heatmap, its best network."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.networks import trial_named
from archsearch.results import CellResult, Results
from archsearch.results import load as load_results

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from torch import nn

    from archsearch.core.family import Family
    from archsearch.stats.intervals import Interval


class Run:
    """A run, finished or not; reads its folder when it is first asked for something.

    In a notebook it shows its answer and its heatmap.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    @cached_property
    def results(self) -> Results:
        """Everything that the run gave, cell by cell (`archsearch.results.Results`)."""
        return load_results(self.folder)

    @property
    def df(self) -> "DataFrame":
        """One row per cell: requested numbers, network, costs, state and every estimate."""
        return self.results.frame()

    @property
    def best(self) -> "Network":
        """The cell with the best mean; `answer` says how sure that is.

        Raises:
            ValueError: nothing has finished yet.
        """
        return self.network("best")

    def network(self, which: str) -> "Network":
        """One cell: ``best``, its label or numbers (``64-16-4-18``), or one of its trials.

        Raises:
            ValueError: there is no such cell.
        """
        from archsearch.networks import cell_named

        return Network(self, cell_named(self.results, which))

    @property
    def answer(self) -> str:
        """Which network won, how sure that is, and at what cost, in two sentences."""
        from archsearch.reports.context import Context
        from archsearch.reports.summary import summarize

        summary = summarize(Context.of(self.results))
        return " ".join(filter(None, (summary.headline, summary.sure)))

    @property
    def num_failed(self) -> int:
        """Trainings that ended in a failure."""
        return sum(t.state == "failed" for t in self.results.trials)

    def heatmap(self, metric: str | None = None) -> "Figure":
        """The map of the grid as a matplotlib figure.

        Raises:
            ValueError: the cells have no position each on a map, or an unknown metric.
        """
        from archsearch.reports.context import Context
        from archsearch.reports.heatmap import figure
        from archsearch.reports.style import styled

        with styled():
            return figure(Context.of(self.results, metric))

    def report(self, out: Path | str | None = None, metric: str | None = None) -> Path:
        """Write the report into ``out`` (RUN/reports by default); the path of its page."""
        from archsearch.reports.render import render_all

        out = self.folder / "reports" if out is None else Path(out)
        return render_all([self.folder], out, metric).files["page"]

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}): {self.answer}"

    def _repr_html_(self) -> str:
        """The answer and the heatmap, for a notebook; a table where there is no map."""
        from html import escape

        from archsearch.reports.style import inline_svg, styled

        title = f"<p><b>{escape(str(self.folder))}</b>: {escape(self.answer)}</p>"
        try:
            figure = self.heatmap()
        except ValueError:
            return title + str(self.df.to_html(index=False))
        with styled():
            return title + inline_svg(figure, "run", "Heatmap")


@dataclass(frozen=True)
class Network:
    """One network of a run, with all its trainings."""

    run: Run
    cell: CellResult

    @property
    def variant(self) -> "Family":
        """Its numbers and switches."""
        assert self.cell.cell.variant is not None, "a cell that is named can be trained"
        return self.cell.cell.variant

    @property
    def value(self) -> "Interval | None":
        """Mean and interval of the study's metric over its seeds; None without a result."""
        return self.cell.estimate(self.run.results.compare().metric)

    def model(self) -> "nn.Module":
        """The network with the weights of its best training, in evaluation mode.

        Raises:
            ValueError: no training has a result, or its weights are not in the run's folder.
        """
        from archsearch.probes.networks import open_network

        best = trial_named(self.run.results, self.cell.label)
        return open_network(f"{self.run.folder}:{best.trial.id}").model

    def __repr__(self) -> str:
        value = self.value
        shown = "no result" if value is None else f"{value.mean:.2f}"
        return f"Network({self.cell.label}): {shown}"
