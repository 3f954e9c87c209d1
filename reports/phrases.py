"""Numbers and records in plain words. Every sentence is derived from records."""

from collections.abc import Sequence

from archsearch.core.metrics import Metric
from archsearch.core.recipe import Recipe
from archsearch.core.task import Data
from archsearch.reports.cell_order import best_has_best_mean, in_ranking, seeds_differ
from archsearch.reports.context import Context
from archsearch.reports.formats import MISSING
from archsearch.stats.intervals import Interval, chance_winner_is_best


def percent(level: float) -> str:
    return f"{level * 100:g}%"


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def listed(items: Sequence[str]) -> str:
    """a, b and c"""
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1]))) if items else ""


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def paragraph(*sentences: str) -> str:
    """The sentences that are not empty, one after the other."""
    return " ".join(filter(None, sentences))


def duration(seconds: float) -> str:
    """12 s, 3.4 min, 5.6 h"""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def setting(value: object) -> str:
    """A setting of a recipe: yes, 0.001; a dash for None."""
    if value is None or isinstance(value, bool):
        return MISSING if value is None else "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def num_train_text(data: Data, recipe: Recipe) -> str:
    """47,000; or 0.12 of 47,000, where the recipe trains on a part of the training images."""
    part = recipe.data_fraction
    return f"{data.num_train:,}" if part == 1 else f"{part:.3g} of {data.num_train:,}"


def interval_with_unit(metric: Metric, interval: Interval | None, digits: int) -> str:
    """97.4 ± 0.3%; a dash where there is nothing."""
    if interval is None:
        return MISSING
    half = interval.half_width
    text = metric.text(interval.mean, digits) + (f" ± {metric.text(half, digits)}" if half else "")
    return text + ("%" if metric.unit == "%" else f" {metric.unit}" if metric.unit else "")


def interval_note(context: Context) -> str:
    """What the numbers in the cells are."""
    numbers = [e.n for e in context.comparison.estimates if e is not None]
    if context.metric.counted:
        return "counted, not measured"
    if not numbers:
        return "no cell has a value"
    if context.results.num_seeds < 2:
        return "one training per cell, no interval"
    fewest, most = min(numbers), max(numbers)
    seeds = str(most) if fewest == most else f"{fewest}–{most}"
    return f"mean ± half-width of its 95% interval (Student) over {seeds} seeds"


def mean_note(context: Context) -> str:
    """By which mean a cell is reported, where that is not simply the mean of its trainings."""
    return paragraph(
        _unequal_seeds_note(context) if seeds_differ(context) else "",
        _outside_ranking_note(context),
        ""
        if best_has_best_mean(context.comparison)
        else "A network once shown to be worse stays out, whatever its mean is now.",
    )


def _unequal_seeds_note(context: Context) -> str:
    seeds = [str(seed) for seed in context.ranking.seeds]
    return (
        "Cells differ in their seeds: each is shown, sorted and shaded by the mean that the "
        f"ranking compares, over {'seed' if len(seeds) == 1 else 'seeds'} {listed(seeds)}; "
        "a seed that a cell lacks is allowed for by how the others did on it. ± comes from the "
        "cell's own seeds."
    )


def _outside_ranking_note(context: Context) -> str:
    comparison = context.comparison
    outside = [c for c in context.cells if not in_ranking(c, comparison)]
    number = sum(comparison.estimates[c.index] is not None for c in outside)
    if not number:
        return ""
    return (
        f"{plural(number, 'cell')} outside the ranking: shown by the plain mean of its own "
        "seeds, without green, after the others."
    )


def single_seed_warning(context: Context) -> str:
    """That one seed per cell cannot rank; empty where a ranking or several seeds can."""
    cells = len(context.ranking.means)
    if context.metric.counted or context.ranking.can_rank or context.results.num_seeds != 1:
        return ""
    if cells < 2:
        return "One cell has a value: there is nothing to compare it with."
    chance = chance_winner_is_best(num_cells=cells).mean
    return (
        "One seed per cell cannot rank these cells: a lead may be the luck of one training. "
        f"With {cells} cells 0.05 points apart and a seed deviation of 0.1, the winner of a single "
        f"seed is truly the best {chance:.0%} of the time (simulated)."
    )


def size_confounding(context: Context) -> str:
    """How far the sizes of the compared cells are apart, because size is not shape.

    Nothing on a ladder, whose rungs differ in size on purpose.
    """
    sizes = [c.cell.cost.params for c in context.cells if c.cell.cost is not None]
    on_purpose = len({c.cell.requested.get("phi") for c in context.cells}) > 1
    if len(sizes) < 2 or on_purpose:
        return ""
    low, high = min(sizes) / 1e6, max(sizes) / 1e6
    spread = (high - low) / low
    range_text = f"Parameters run from {low:.2f} to {high:.2f} M over {len(sizes)} cells"
    if spread == 0:
        return f"{range_text}: all the same size."
    return f"{range_text} ({spread:.1%} apart): part of a difference may be size, not shape."
