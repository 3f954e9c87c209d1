"""What the numbers say, in plain words. Every sentence is derived from records."""

from archsearch.core.metrics import Metric
from archsearch.core.recipe import Recipe
from archsearch.core.study import Data
from archsearch.reports.cell_order import best_has_best_mean, in_ranking, seeds_differ, shown
from archsearch.results import CellResult, Comparison, Results
from archsearch.stats.intervals import Interval, chance_winner_is_best


def percent(level: float) -> str:
    return f"{level * 100:g}%"


def plural(number: int, noun: str, more: str = "") -> str:
    return f"{number:,} {noun if number == 1 else more or noun + 's'}"


def listed(items: list[str]) -> str:
    """a, b and c"""
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1]))) if items else ""


def duration(seconds: float) -> str:
    """12 s, 3.4 min, 5.6 h"""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def num_train_words(data: Data, recipe: Recipe) -> str:
    """47,000; or 0.12 of 47,000, where the recipe trains on a part of the training images."""
    part = recipe.data_fraction
    return f"{data.num_train:,}" if part == 1 else f"{part:.3g} of {data.num_train:,}"


def with_interval(by: Metric, estimate: Interval | None, digits: int) -> str:
    """97.4 ± 0.3 with unit; a dash where there is nothing."""
    if estimate is None:
        return "–"
    half = estimate.half_width
    text = by.text(estimate.mean, digits) + (f" ± {by.text(half, digits)}" if half else "")
    return text + ("%" if by.unit == "%" else f" {by.unit}" if by.unit else "")


def estimate_text(cell: CellResult, compared: Comparison) -> str:
    """97.4 ± 0.3, without unit."""
    estimate, by = shown(cell, compared), compared.metric
    if estimate is None:
        return "–"
    half = estimate.half_width
    spread = "" if half is None else f" ± {by.text(half, compared.digits)}"
    return by.text(estimate.mean, compared.digits) + spread


def seeds_words(results: Results, compared: Comparison) -> str:
    """What the numbers in the cells are."""
    if compared.metric.counted:
        return "counted, not measured"
    if not any(e is not None for e in compared.estimates):
        return "no cell has a value"
    if results.num_seeds < 2:
        return "one training per cell, no interval"
    fewest = min((e.n for e in compared.estimates if e), default=0)
    most = max((e.n for e in compared.estimates if e), default=0)
    seeds = str(most) if fewest == most else f"{fewest}–{most}"
    return f"mean ± half-width of its 95% interval (Student) over {seeds} seeds"


def compared_words(results: Results, compared: Comparison) -> str:
    """Which mean a cell is shown by, where that is not simply the mean of its trainings."""
    told = []
    if seeds_differ(results, compared):
        numbers = [str(seed) for seed in compared.ranking.seeds]
        told.append(
            "Cells differ in their seeds: each is shown, sorted and shaded by the mean that the "
            f"ranking compares, over {'seed' if len(numbers) == 1 else 'seeds'} {listed(numbers)}; "
            "a seed that a cell lacks is allowed for by how the others did on it. ± comes from the "
            "cell's own seeds."
        )
    out = [c for c in results.cells if not in_ranking(c, compared)]
    if number := sum(compared.estimates[c.index] is not None for c in out):
        told.append(
            f"{plural(number, 'cell')} outside the ranking: shown by the plain mean of its own "
            "seeds, without green, after the others."
        )
    if not best_has_best_mean(compared):
        told.append("A network once shown to be worse stays out, whatever its mean is now.")
    return " ".join(told)


def single_seed_warning(results: Results, compared: Comparison) -> str:
    """Said wherever a ranking is shown that one seed per cell cannot carry."""
    if compared.metric.counted or compared.ranking.can_rank or results.num_seeds != 1:
        return ""
    cells = len(compared.ranking.means)
    if cells < 2:
        return "One cell has a value: there is nothing to compare it with."
    chance = chance_winner_is_best(num_cells=cells).mean
    return (
        "One seed per cell cannot rank these cells: a lead may be the luck of one training. "
        f"With {cells} cells 0.05 points apart and a seed deviation of 0.1, the winner of a single "
        f"seed is truly the best {chance:.0%} of the time (simulated)."
    )


def confounding(results: Results) -> str:
    """How far the sizes of the compared cells are apart, because size is not shape.

    Nothing on a ladder, whose rungs differ in size on purpose.
    """
    sizes = [c.cell.cost.params for c in results.cells if c.cell.cost is not None]
    on_purpose = len({c.cell.asked.get("phi") for c in results.cells}) > 1
    if len(sizes) < 2 or on_purpose:
        return ""
    low, high = min(sizes) / 1e6, max(sizes) / 1e6
    spread = (high - low) / low
    words = f"Parameters run from {low:.2f} to {high:.2f} M over {len(sizes)} cells"
    if spread == 0:
        return f"{words}: all the same size."
    return f"{words} ({spread:.1%} apart): part of a difference may be size, not shape."
