"""By which number a cell is printed, sorted, shaded and called best: the ranking's mean."""

from dataclasses import replace

from archsearch.reports.context import Context
from archsearch.results import CellResult, Comparison
from archsearch.stats.intervals import Interval

NOT_MEASURED = "not measured"


def reported_interval(cell: CellResult, comparison: Comparison) -> Interval | None:
    """What a report prints of a cell: the ranking's mean, with the interval of the cell's own seeds
    around it; None without a value.

    A seed may be easy or hard for all cells, so plain means over different seeds do not compare:
    the ranking allows for the seeds that a cell lacks. A cell that has them all has one mean by
    both; a cell outside the ranking has its plain mean only.
    """
    interval = comparison.estimates[cell.index]
    mean = comparison.ranking.means.get(cell.label)
    if interval is None or mean is None:
        return interval
    shift = round(mean - interval.mean, 9)  # below is only the rounding of sums
    low, high = (None if end is None else end + shift for end in (interval.low, interval.high))
    return replace(interval, mean=interval.mean + shift, low=low, high=high)


def in_ranking(cell: CellResult, comparison: Comparison) -> bool:
    """Whether the ranking has the cell's network; True for all where nothing is ranked."""
    return not comparison.ranking.means or cell.label in comparison.ranking.means


def empty_state(cell: CellResult) -> str:
    """What is printed for a cell without a value: its state, or that nobody measured it."""
    return NOT_MEASURED if cell.state == "complete" else cell.state


def ranked_cells(context: Context) -> list[CellResult]:
    """The best first, then by the mean printed; those outside the ranking after them, those without
    a value last, in plan order. Of cells that share a network, the exact one first."""
    comparison = context.comparison

    def key(cell: CellResult) -> tuple[bool, bool, bool, float, bool, int]:
        interval = reported_interval(cell, comparison)
        return (
            interval is None,
            not in_ranking(cell, comparison),
            cell.label != context.ranking.best,  # an excluded network may have a better mean by now
            0.0 if interval is None else -context.metric.merit(interval.mean),
            cell.cell.fate != "exact",
            cell.index,
        )

    return sorted(context.cells, key=key)


def rank_label(cell: CellResult, comparison: Comparison) -> str:
    """best, tied with best, behind or not ranked; empty where nothing can be said."""
    ranking = comparison.ranking
    if not ranking.can_rank or cell.label not in ranking.means:
        return "" if comparison.estimates[cell.index] is None else "not ranked"
    if cell.label == ranking.best:
        return "best"
    return "tied with best" if cell.label in ranking.tied else "behind"


def best_has_best_mean(comparison: Comparison) -> bool:
    """False where a network that an earlier look showed to be worse has the better mean by now."""
    ranking = comparison.ranking
    pick = max if comparison.metric.higher_is_better else min
    return ranking.best is None or ranking.means[ranking.best] == pick(ranking.means.values())


def seeds_differ(context: Context) -> bool:
    """Whether any ranked network has other seeds than those that the ranking compares."""
    if context.metric.counted:
        return False
    seeds = set(context.ranking.seeds)
    ranked = (c.values(context.metric) for c in context.cells if c.label in context.ranking.means)
    return any({s for s, v in values.items() if v is not None} != seeds for values in ranked)
