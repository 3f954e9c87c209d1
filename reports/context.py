"""What every card of a report reads: one run, compared by one metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from archsearch.core.metrics import Metric
from archsearch.families import DEFAULT
from archsearch.reports.style import symbol
from archsearch.results import CellResult, Comparison, Results
from archsearch.stats.ranking import Ranking

MapAxes = tuple[str, str, str]
"""(panel, y, x) of a map, by the names of the plan."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """One run as one report shows it; made once, read by every card.

    ``comparison`` is by the report's metric, ``axes`` are the map's, ``target`` is the size in
    parameters that (alpha, beta) is recommended for.
    """

    results: Results
    comparison: Comparison
    axes: MapAxes | None
    target: int | None

    @classmethod
    def of(
        cls,
        results: Results,
        metric: str | None = None,
        axes: MapAxes | None = None,
        target: int | None = None,
    ) -> Self:
        """The context of a run; metric (ValueError if unknown) and axes default to the study's."""
        axes = axes or results.study.axes
        return cls(results=results, comparison=results.compare(metric), axes=axes, target=target)

    @property
    def cells(self) -> tuple[CellResult, ...]:
        return self.results.cells

    @property
    def metric(self) -> Metric:
        return self.comparison.metric

    @property
    def ranking(self) -> Ranking[str]:
        return self.comparison.ranking

    def symbol(self, name: str) -> str:
        """The sign of a coordinate or a number, as the run's family prints it: ``C₁``."""
        variants = [c.cell.variant for c in self.cells if c.cell.variant is not None]
        return symbol((variants[0] if variants else DEFAULT).label_of(name))

    @property
    def solved(self) -> str:
        """The sign of the number that is solved for a budget; empty without one."""
        variants = (cell.cell.variant for cell in self.cells if cell.cell.variant is not None)
        variant = next(variants, None)
        return self.symbol(variant.solved) if variant is not None and variant.solved else ""

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One flat row per cell in plan order."""
        return self.results.rows()


Contexts = Sequence[Context]
"""The runs of one report."""
