"""The families of a comparison: the best network of each, and its difference to the best of all."""

from collections.abc import Sequence
from dataclasses import dataclass

from archsearch.core.metrics import GENERAL, Metric
from archsearch.core.plans import STEP_TIMES, Tune
from archsearch.reports.cell_order import in_ranking, rank_label, reported_interval
from archsearch.reports.context import Context
from archsearch.reports.phrases import listed
from archsearch.results import LEVEL, CellResult
from archsearch.results.pilots import cells_by_family
from archsearch.results.step_times import step_times
from archsearch.stats.bests import differences_of_bests
from archsearch.stats.control import Difference
from archsearch.stats.intervals import Interval, interval


@dataclass(frozen=True)
class FamilyResult:
    """One family: its cells, the best of them, and its difference to the best family's best.

    ``best`` is None without a result, ``difference`` for the best family and without a ranking.
    """

    name: str
    cells: Sequence[CellResult]
    best: CellResult | None
    difference: Difference | None = None


def family_results(context: Context) -> list[FamilyResult]:
    """Return the families, that of the best network first, the others by their best networks."""
    groups = cells_by_family(context.results)
    best = {name: _best(context, cells) for name, cells in groups.items()}
    order = sorted(groups, key=lambda name: _merit(context, best[name]), reverse=True)
    pairs = _differences(context)
    return [
        FamilyResult(name, groups[name], best[name], pairs.get((name, order[0]))) for name in order
    ]


def _best(context: Context, cells: Sequence[CellResult]) -> CellResult | None:
    comparison = context.comparison
    valued = [c for c in cells if comparison.has_value(c) and in_ranking(c, comparison)]
    return max(valued, key=lambda cell: _merit(context, cell), default=None)


def _merit(context: Context, cell: CellResult | None) -> float:
    value = None if cell is None else reported_interval(cell, context.comparison)
    return float("-inf") if value is None else context.metric.merit(value.mean)


def _differences(context: Context) -> dict[tuple[str, str], Difference]:
    """Return the differences of the families' bests, a better value being a higher one."""
    if context.metric.known_before_training or not context.ranking.can_rank:
        return {}
    ranked = {c.label: c for c in context.cells if c.label in context.ranking.means}
    sign = 1.0 if context.metric.higher_is_better else -1.0
    table = {
        label: {s: None if v is None else sign * v for s, v in c.values(context.metric).items()}
        for label, c in ranked.items()
    }
    families = {label: str(c.cell.requested["family"]) for label, c in ranked.items()}
    return differences_of_bests(table, families, LEVEL)


def milliseconds_per_image(context: Context, cell: CellResult | None) -> Interval | None:
    """Return the time of a training step per image; None without one.

    It is that of the timings, if networks were chosen by time, else over the cell's seeds.
    """
    if cell is None or cell.cell.variant is None:
        return None
    if timings := context.results.pilots.get(STEP_TIMES):
        time = step_times(timings).get(cell.cell.variant)
        return interval([1000 * s for s in time.repeats], LEVEL) if time else None
    throughput = GENERAL["throughput"]
    speeds = [v for v in cell.values(throughput).values() if v]
    return interval([1000 / speed for speed in speeds], LEVEL) if speeds else None


MACS = Metric("trained_macs", "Multiply-adds as trained", "M", False, "trained", "macs", 1e6)
"""Those of the image size of the training: at 224 x 224 a network that is made for small images may
have many times those of others, such as a ViT with small patches."""

MILLISECONDS = Metric(
    "milliseconds_per_image", "Time of a step per image", "ms", False, "record", "", digits=3
)
"""The unit and the label of `milliseconds_per_image`; a record has the images per second."""


def rank_of(context: Context, family: FamilyResult) -> str:
    """Return the rank of a family: that of the best-ranked of its networks."""
    labels = [rank_label(cell, context.comparison) for cell in family.cells]
    order = ("best", "tied with best", "significantly worse", "not ranked")
    return next((label for label in order if label in labels), "")


def families_text(context: Context) -> str:
    """Return how the families compare: ``The family convnext is best; vit is tied with best.``"""
    if not isinstance(context.results.study.plan, Tune) or not context.ranking.can_rank:
        return ""
    first, *others = family_results(context)
    ranks = [f"{family.name} is {rank_of(context, family) or 'not ranked'}" for family in others]
    return f"The best network is of the family {first.name}; {listed(ranks)}."
