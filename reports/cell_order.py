"""By which number a cell is shown, sorted, shaded and called best: the ranking's mean."""

from dataclasses import replace

from archsearch.results import CellResult, Comparison, Results
from archsearch.stats.intervals import Interval

NOT_MEASURED = "not measured"


def shown(cell: CellResult, compared: Comparison) -> Interval | None:
    """What a report prints of a cell: the ranking's mean, with the interval of the cell's own seeds
    around it; None without a value.

    A seed may be easy or hard for all cells, so plain means over different seeds do not compare:
    the ranking allows for the seeds that a cell lacks. A cell that has them all has one mean by
    both; a cell outside the ranking has its plain mean only.
    """
    estimate = compared.estimates[cell.index]
    mean = compared.ranking.means.get(cell.label)
    if estimate is None or mean is None:
        return estimate
    shift = round(mean - estimate.mean, 9)  # below stands only the rounding of sums
    low, high = (None if end is None else end + shift for end in (estimate.low, estimate.high))
    return replace(estimate, mean=estimate.mean + shift, low=low, high=high)


def in_ranking(cell: CellResult, compared: Comparison) -> bool:
    """Whether the cell's network has a part in the ranking; any has where nothing is ranked."""
    return not compared.ranking.means or cell.label in compared.ranking.means


def empty_word(cell: CellResult) -> str:
    """What stands for a cell without a value: its state, or that nobody measured it."""
    return NOT_MEASURED if cell.state == "complete" else cell.state


def ranked_cells(results: Results, compared: Comparison) -> list[CellResult]:
    """The best first, then by the mean shown; those outside the ranking after them, those without a
    value last, in plan order. Of cells that share a network, the exact one first."""

    def key(cell: CellResult) -> tuple[bool, bool, bool, float, bool, int]:
        estimate = shown(cell, compared)
        sign = -1.0 if compared.metric.higher_is_better else 1.0
        return (
            estimate is None,
            not in_ranking(cell, compared),
            cell.label != compared.ranking.best,  # may have been passed by one that is out
            0.0 if estimate is None else sign * estimate.mean,
            cell.cell.fate != "exact",
            cell.index,
        )

    return sorted(results.cells, key=key)


def standing(cell: CellResult, compared: Comparison) -> str:
    """best, tied, behind; or not ranked, when nothing can be said."""
    ranking = compared.ranking
    if not ranking.can_rank or cell.label not in ranking.means:
        return "" if compared.estimates[cell.index] is None else "not ranked"
    if cell.label == ranking.best:
        return "best"
    return "tied with best" if cell.label in ranking.tied else "behind"


def best_has_best_mean(compared: Comparison) -> bool:
    """False where a network that an earlier look showed to be worse has the better mean by now."""
    ranking = compared.ranking
    pick = max if compared.metric.higher_is_better else min
    return ranking.best is None or ranking.means[ranking.best] == pick(ranking.means.values())


def seeds_differ(results: Results, compared: Comparison) -> bool:
    """Whether any ranked network has other seeds than those that the ranking compares."""
    seeds = set(compared.ranking.seeds)
    ranked = (c for c in results.cells if c.label in compared.ranking.means)
    values = (c.values(compared.metric) for c in ranked if not compared.metric.counted)
    return any({s for s, v in found.items() if v is not None} != seeds for found in values)
