"""Numbers and records as text. Every sentence is derived from records."""

from collections.abc import Sequence

from archsearch.core.family import has_other_source
from archsearch.core.metrics import Metric, fixed
from archsearch.core.recipe import Recipe
from archsearch.core.task import Data
from archsearch.reports.cell_order import best_has_best_mean, in_ranking, seeds_differ
from archsearch.reports.context import Context
from archsearch.reports.formats import MISSING
from archsearch.stats.intervals import Interval, probability_winner_is_best


def percent(level: float) -> str:
    return f"{level * 100:g}%"


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def are(number: int) -> str:
    return "is" if number == 1 else "are"


def listed(items: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1]))) if items else ""


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def paragraph(*sentences: str) -> str:
    """Join the sentences that are not empty."""
    return " ".join(filter(None, sentences))


def duration(seconds: float) -> str:
    """Return ``12 s``, ``3.4 min`` or ``5.6 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def setting(value: object) -> str:
    """Return a setting of a recipe as text: ``yes``, ``0.001``; a dash for None."""
    if value is None or isinstance(value, bool):
        return MISSING if value is None else "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def num_train_text(data: Data, recipe: Recipe) -> str:
    """Return ``47,000``; or ``0.12 of 47,000`` if the recipe trains on a part of the images."""
    part = recipe.data_fraction
    return f"{data.num_train:,}" if part == 1 else f"{part:.3g} of {data.num_train:,}"


def plus_minus(metric: Metric, interval: Interval, digits: int) -> str:
    """Return `` ± 0.3``; empty without an interval."""
    half = interval.half_width
    return "" if half is None else f" ± {metric.text(half, digits)}"


def interval_text(metric: Metric, interval: Interval | None, digits: int) -> str:
    """Return ``97.4 ± 0.3``, without unit; a dash for None."""
    if interval is None:
        return MISSING
    return metric.text(interval.mean, digits) + plus_minus(metric, interval, digits)


def p_equals(value: float | None) -> str:
    """Return ``p = 0.03`` or ``p < 0.001``."""
    text = p_text(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def difference_text(metric: Metric, change: Interval) -> str:
    """Return ``+1.20 ± 0.30``, without unit."""
    digits = 2 if metric.unit == "%" else metric.digits
    return fixed(change.mean, digits, "+") + plus_minus(metric, change, digits)


def unit_text(metric: Metric) -> str:
    """Return the unit of a difference in brackets, after a space: `` (points)``; or nothing."""
    unit = "points" if metric.unit == "%" else metric.unit
    return f" ({unit})" if unit else ""


def p_text(value: float | None) -> str:
    """Return a p-value with two digits, ``< 0.001`` below; a dash for None."""
    if value is None:
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def interval_with_unit(metric: Metric, interval: Interval | None, digits: int) -> str:
    """Return ``97.4 ± 0.3%``; a dash for None."""
    space = " " if metric.unit not in ("", "%") else ""
    unit = "" if interval is None else space + metric.unit
    return interval_text(metric, interval, digits) + unit


def difference_with_unit(metric: Metric, difference: float, digits: int) -> str:
    """Return a positive difference with its unit: ``0.5 points``, or ``less than 0.1 points``."""
    unit, smallest = "points" if metric.unit == "%" else metric.unit, 10.0**-digits
    size = metric.text(max(difference, smallest), digits)
    return f"{'less than ' if difference < smallest / 2 else ''}{size} {unit}".rstrip()


def interval_note(context: Context) -> str:
    """Return what the numbers in the cells are."""
    numbers = [e.n for e in context.comparison.estimates if e is not None]
    if context.metric.known_before_training:
        return "counted, not measured"
    if not numbers:
        return "no cell has a value"
    if context.results.num_seeds < 2:
        return "one training per cell, no interval"
    fewest, most = min(numbers), max(numbers)
    seeds = str(most) if fewest == most else f"{fewest}–{most}"
    return (
        f"mean ± half-width of its 95% interval over {seeds} seeds (Student, with the variance of "
        "each cell combined with the average over cells), on these images"
    )


def mean_note(context: Context) -> str:
    """Return which mean a cell is reported by, if that is not the mean of its trainings."""
    excluded = "A network that was significantly worse in an earlier test stays excluded."
    return paragraph(
        _unequal_seeds_note(context) if seeds_differ(context) else "",
        _outside_ranking_note(context),
        "" if best_has_best_mean(context.comparison) else excluded,
    )


def _unequal_seeds_note(context: Context) -> str:
    seeds = [str(seed) for seed in context.ranking.seeds]
    return (
        "Cells have different seeds: each cell is shown, sorted and shaded by the mean that the "
        f"ranking compares, over {'seed' if len(seeds) == 1 else 'seeds'} {listed(seeds)}; "
        "it is adjusted for seeds that a cell lacks by the results of the other cells on them. "
        "± is for the number of its own seeds."
    )


def _outside_ranking_note(context: Context) -> str:
    comparison = context.comparison
    number = sum(comparison.has_value(c) and not in_ranking(c, comparison) for c in context.cells)
    text = "outside the ranking: shown by the plain mean of its own seeds, on gray, after the rest"
    return f"{plural(number, 'cell')} {text}." if number else ""


def single_seed_warning(context: Context) -> str:
    """Return that one seed per cell cannot rank; empty if the cells are or could be ranked."""
    cells = len(context.ranking.means)
    is_ranked = context.metric.known_before_training or context.ranking.can_rank
    if is_ranked or context.results.num_seeds != 1:
        return ""
    if cells < 2:
        return "Only one cell has a value, so there is no comparison."
    probability = probability_winner_is_best(num_cells=cells).mean
    return (
        "One seed per cell cannot rank these cells: a difference may be noise of the training. "
        f"In a simulation of {cells} cells 0.05 points apart, with a standard deviation of 0.1 "
        f"between seeds, the best cell by a single seed is truly the best {probability:.0%} of "
        "the time."
    )


def other_source_present(context: Context) -> bool:
    """Return whether trainings of an earlier source of the family are in the folder."""
    sources = context.results.study.sources
    return any(has_other_source(t.trial.variant, sources) for t in context.results.others)


def outside_text(context: Context) -> str:
    """Return what sets the trainings outside the plan apart."""
    return f"another recipe{', data or source' if other_source_present(context) else ' or data'}"


def size_confounding(context: Context) -> str:
    """Return how much the sizes of the cells differ, since size is not shape.

    Empty for a ladder, where the sizes differ on purpose.
    """
    sizes = [c.cell.cost.params for c in context.cells if c.cell.cost is not None]
    is_ladder = len({c.cell.requested.get("phi") for c in context.cells}) > 1
    if len(sizes) < 2 or is_ladder:
        return ""
    low, high = min(sizes) / 1e6, max(sizes) / 1e6
    spread = (high - low) / low
    range_text = f"Parameters range from {low:.2f} to {high:.2f} M over {len(sizes)} cells"
    if spread == 0:
        return f"{range_text}: all have the same size."
    return f"{range_text} ({spread:.1%} apart): part of a difference may be due to size, not shape."
