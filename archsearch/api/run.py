"""A run as a Python object: its results as a frame, its heatmap, its best network."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.networks import find_cell, find_trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from torch import nn

    from archsearch.core.family import Family
    from archsearch.results import CellResult, Results
    from archsearch.stats.intervals import Interval


class Run:
    """A run, finished or not; its folder is read on first use.

    A notebook shows its answer and its heatmap.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    @cached_property
    def results(self) -> "Results":
        """The results of the run, cell by cell."""
        from archsearch.results import load

        return load(self.folder)

    @property
    def df(self) -> "DataFrame":
        """One row per cell: requested numbers, network, costs, state and every estimate."""
        return self.results.frame()

    @property
    def best(self) -> "Network":
        """The network with the best mean; `answer` says how certain that is.

        Raises:
            ValueError: if nothing has finished yet.
        """
        return self.network("best")

    def network(self, which: str) -> "Network":
        """Return one network by ``best``, its label, its numbers (``64-16-4-18``) or a trial's id.

        Raises:
            ValueError: if the run has no such network.
        """
        return Network(self, find_cell(self.results, which))

    @property
    def answer(self) -> str:
        """Which network is best, how certain that is, its bias as a winner, and its test value."""
        from archsearch.reports.context import Context
        from archsearch.reports.summary import summarize

        summary = summarize(Context.of(self.results))
        return " ".join(filter(None, (summary.headline, summary.confidence)))

    @property
    def num_failed(self) -> int:
        """How many trainings failed."""
        return sum(t.state == "failed" for t in self.results.trials)

    def heatmap(self, metric: str | None = None) -> "Figure":
        """Return the heatmap of the grid as a matplotlib figure.

        A notebook shows it after ``%matplotlib inline``.

        Raises:
            ValueError: if the cells are not a grid with one cell per position, or for a metric
                that is unknown or of the test split.
        """
        from archsearch.reports.context import Context
        from archsearch.reports.heatmap import figure
        from archsearch.reports.style import styled

        if metric is not None:
            self.results.study.task.choosing_metric(metric)
        with styled():
            return figure(Context.of(self.results, metric))

    def report(self, out: Path | str | None = None, metric: str | None = None) -> Path:
        """Write the report into ``out`` (by default RUN/reports); return the path of its page."""
        from archsearch.reports.render import render_all

        out = self.folder / "reports" if out is None else Path(out)
        return render_all([self.folder], out, metric).files["page"]

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}): {self.answer}"

    def _repr_html_(self) -> str:
        """Return the answer and the heatmap (else the table), for a notebook."""
        from html import escape

        from archsearch.reports.style import inline_svg, styled

        title = f"<p><b>{escape(str(self.folder))}</b>: {escape(self.answer)}</p>"
        try:
            figure = self.heatmap()
        except ValueError:  # a ladder or a search has no heatmap
            return title + str(self.df.to_html(index=False))
        with styled():
            return title + inline_svg(figure, "run", "Heatmap")


@dataclass(frozen=True)
class Network:
    """One network of a run, with all its trainings."""

    run: Run
    cell: "CellResult"

    @property
    def variant(self) -> "Family":
        """The network's numbers and switches."""
        assert self.cell.cell.variant is not None, "find_cell returns no infeasible cell"
        return self.cell.cell.variant

    @property
    def value(self) -> "Interval | None":
        """Mean and interval of the study's metric over the seeds; None without a result."""
        return self.run.results.compare().estimates[self.cell.index]

    def model(self) -> "nn.Module":
        """Return the network with the weights of its best training, in evaluation mode.

        Raises:
            ValueError: if no training has a result, or its weights are not in the run's folder.
        """
        from archsearch.deployment.trained import open_described

        trial = find_trial(self.run.results, self.cell.label).trial
        saved = open_described(f"{self.run.folder}:{trial.id}")
        return saved.model.requires_grad_(False)

    def __repr__(self) -> str:
        value = "no result" if self.value is None else f"{self.value.mean:.2f}"
        return f"Network({self.cell.label}): {value}"
