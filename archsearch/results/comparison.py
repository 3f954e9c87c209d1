"""The cells of a run compared by one metric."""

from dataclasses import dataclass
from functools import cached_property

from archsearch.core.metrics import Metric
from archsearch.results.cells import LEVEL, CellResult
from archsearch.stats.intervals import Interval
from archsearch.stats.moderated import moderated_intervals
from archsearch.stats.ranking import Ranking, tied_with_best
from archsearch.stats.seeds import rank_repeatedly
from archsearch.stats.winner import selection_bias


@dataclass(frozen=True)
class Comparison:
    """The cells of a run by one metric: estimates in plan order, and the ranking.

    ``ranking`` is over networks, by label. A network that diverged on a seed is not ranked: the
    mean of its other seeds would be biased upwards. ``selection_bias`` is how much better the best
    mean is expected to be than its network truly is; None without a ranking.
    """

    metric: Metric
    estimates: tuple[Interval | None, ...]
    ranking: Ranking[str]
    selection_bias: float | None = None

    def has_value(self, cell: CellResult) -> bool:
        """Return whether the cell has a value of the metric."""
        return self.estimates[cell.index] is not None

    @cached_property
    def has_values(self) -> bool:
        """Whether any cell has a value of the metric."""
        return any(estimate is not None for estimate in self.estimates)

    @cached_property
    def digits(self) -> int:
        """Decimals to print: one less than the metric's where the interval hides the last."""
        halves = [e.half_width for e in self.estimates if e and e.half_width is not None]
        coarse = not halves or sorted(halves)[len(halves) // 2] >= 0.1
        return max(self.metric.digits - (coarse and self.metric.unit == "%"), 0)


def compare_cells(
    cells: tuple[CellResult, ...], metric: Metric, max_seeds: int | None
) -> Comparison:
    """Compare the cells; ``max_seeds`` is the study's limit if some cells got more seeds.

    The ranking is then corrected for testing after every seed.
    """
    estimates = estimates_of(cells, metric)
    if metric.known_before_training:
        return Comparison(metric, estimates, _rank_counts(cells, metric))
    values = ranked_values(cells, metric)
    higher = metric.higher_is_better
    if max_seeds is None:
        ranking = tied_with_best(values, LEVEL, higher)
    else:
        ranking = rank_repeatedly(values, max_seeds, LEVEL, higher)
    bias = selection_bias(values, higher) if ranking.can_rank else None
    return Comparison(metric, estimates, ranking, bias)


def ranked_values(
    cells: tuple[CellResult, ...], metric: Metric
) -> dict[str, dict[int, float | None]]:
    """Return label -> seed -> value of the networks that are compared: none of a diverged one."""
    return {
        cell.label: cell.values(metric)
        for cell in cells
        if cell.cell.variant is not None and not any(t.state == "diverged" for t in cell.trials)
    }


def estimates_of(cells: tuple[CellResult, ...], metric: Metric) -> tuple[Interval | None, ...]:
    """Return mean and interval of every cell over its seeds; None without a value.

    The noise of a cell combines its own with the average over the cells.
    """
    if metric.known_before_training:
        return tuple(cell.estimate(metric) for cell in cells)
    values = {c.label: [v for v in c.values(metric).values() if v is not None] for c in cells}
    intervals = moderated_intervals(values, LEVEL)
    return tuple(intervals.get(cell.label) for cell in cells)


def _rank_counts(cells: tuple[CellResult, ...], metric: Metric) -> Ranking[str]:
    """Rank by a count, which has no noise: only equal numbers are tied."""
    means = {c.label: v for c in cells if (v := c.cost_value(metric)) is not None}
    order = sorted(means, key=lambda k: -means[k] if metric.higher_is_better else means[k])
    tied = tuple(k for k in order if means[k] == means[order[0]])
    reason = "" if order else "cannot rank: no cell has a value"
    return Ranking(bool(order), reason, next(iter(order), None), tied, means, {}, LEVEL, ())
