"""The input of every card of a report: one run, compared by one metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from archsearch.core.family import Family
from archsearch.core.metrics import Metric
from archsearch.families import DEFAULT
from archsearch.families.internimage import InternImageFamily
from archsearch.families.naming import family_name
from archsearch.reports.style import symbol
from archsearch.results import CellResult, Comparison, Results
from archsearch.results.latencies import MeasuredLatencies
from archsearch.stats.ranking import Ranking

HeatmapAxes = tuple[str, ...]
"""(panel, y, x) of a heatmap, by the names of the plan's coordinates; of one axis (x), of two
(y, x), and of more a panel per combination of the first ones."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """One run in one report; every card reads it.

    ``comparison`` is by the report's metric, ``axes`` are the heatmap's, ``target`` is the size in
    parameters that (alpha, beta) is recommended for.
    """

    results: Results
    comparison: Comparison
    axes: HeatmapAxes | None
    target: int | None

    @classmethod
    def of(
        cls,
        results: Results,
        metric: str | None = None,
        axes: HeatmapAxes | None = None,
        target: int | None = None,
    ) -> Self:
        """Return the context of a run; metric and axes default to the study's.

        Raises:
            ValueError: for an unknown metric.
        """
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

    @cached_property
    def _family(self) -> Family | type[Family]:
        """A network of the run's family; without one the family, which is of a search or the
        default."""
        families = (*self.results.study.families, DEFAULT)
        return next((c.cell.variant for c in self.cells if c.cell.variant), families[0])

    @cached_property
    def latencies(self) -> MeasuredLatencies | None:
        """The measured latencies of the run, with the model of them; None without any."""
        measured = self.results.latencies
        return None if measured is None else MeasuredLatencies(measured)

    @cached_property
    def is_internimage(self) -> bool:
        """Whether all networks are InternImages, which the paper's figures are of."""
        return all(issubclass(f, InternImageFamily) for f in self.results.study.families)

    @cached_property
    def num_families(self) -> int:
        """The number of families of the networks; all InternImages are one."""
        return len({family_name(c.cell.variant) for c in self.cells if c.cell.variant})

    def symbol(self, name: str) -> str:
        """Return the symbol of a coordinate or a number, as the run's family prints it: ``C₁``."""
        return symbol(self._family.label_of(name))

    @property
    def solved(self) -> str:
        """The symbol of the number that is solved for a budget; empty without a network."""
        has_solved = isinstance(self._family, Family) and self._family.solved
        return self.symbol(self._family.solved) if has_solved else ""

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One flat row per cell in plan order."""
        return self.results.rows()


Contexts = Sequence[Context]
"""The runs of one report."""
