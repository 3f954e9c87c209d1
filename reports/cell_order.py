"""The number by which a cell is printed, sorted, shaded and called best: the ranking's mean."""

from dataclasses import replace

from archsearch.reports.context import Context
from archsearch.results import CellResult, Comparison
from archsearch.stats.intervals import Interval

NOT_MEASURED = "not measured"


def reported_interval(cell: CellResult, comparison: Comparison) -> Interval | None:
    """Return what a report prints of a cell: the ranking's mean, and around it the interval of the
    cell's own seeds; None without a value.

    A seed may be easy or hard for all cells, so plain means over different seeds are not
    comparable, and the ranking adjusts its means for the seeds that a cell lacks. For a cell with
    all seeds the two means are equal; a cell outside the ranking has only its plain mean.
    """
    interval = comparison.estimates[cell.index]
    mean = comparison.ranking.means.get(cell.label)
    if interval is None or mean is None:
        return interval
    shift = round(mean - interval.mean, 9)  # smaller differences are rounding errors of sums
    low, high = (None if end is None else end + shift for end in (interval.low, interval.high))
    return replace(interval, mean=interval.mean + shift, low=low, high=high)


def in_ranking(cell: CellResult, comparison: Comparison) -> bool:
    """Return whether the cell's network is ranked; True for all cells if there is no ranking."""
    return not comparison.ranking.means or cell.label in comparison.ranking.means


def empty_state(cell: CellResult) -> str:
    """Return the text for a cell without a value: its state, or that it was not measured."""
    return NOT_MEASURED if cell.state == "complete" else cell.state


def ranked_cells(context: Context) -> list[CellResult]:
    """Return the cells, best first.

    The best cell is followed by the others by the mean printed, by the cells outside the ranking,
    and by those without a value in plan order. Of cells with one network the exact one comes first.
    """
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
    """Return best, tied with best, significantly worse or not ranked.

    The text is empty for a cell without a value.
    """
    ranking = comparison.ranking
    if not ranking.can_rank or cell.label not in ranking.means:
        return "not ranked" if comparison.has_value(cell) else ""
    if cell.label == ranking.best:
        return "best"
    return "tied with best" if cell.label in ranking.tied_set else "significantly worse"


def best_has_best_mean(comparison: Comparison) -> bool:
    """Return False if a network that an earlier test excluded has the best mean now."""
    ranking = comparison.ranking
    pick = max if comparison.metric.higher_is_better else min
    return ranking.best is None or ranking.means[ranking.best] == pick(ranking.means.values())


def seeds_differ(context: Context) -> bool:
    """Return whether any ranked network lacks a seed that the ranking compares."""
    if context.metric.known_before_training:
        return False
    seeds = set(context.ranking.seeds)
    ranked = (c.values(context.metric) for c in context.cells if c.label in context.ranking.means)
    return any({s for s, v in values.items() if v is not None} != seeds for values in ranked)
