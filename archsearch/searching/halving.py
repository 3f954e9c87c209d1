"""Successive halving with a pilot that checks whether cheap trainings may prune.

Short trainings may rank cells differently from full ones. So a pilot trains a few cells at every
rung and measures Kendall's tau between each cheap ranking and the full one. A rung may prune only
if the lower end of tau's interval reaches a threshold. Everything is recomputed from the records.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from archsearch.core.family import Family
from archsearch.core.plans import Over
from archsearch.core.recipe import Recipe
from archsearch.core.task import Data, Task
from archsearch.searching.adaptive_plan import Steps
from archsearch.stats.intervals import Interval, kendall_tau
from archsearch.study import Trial
from archsearch.tasks.classification import CLASSIFICATION

Key = TypeVar("Key", bound=Hashable)

THRESHOLD = 0.5
"""Smallest tau with which a rung may prune: three in four pairs of cells in their final order."""

LEVEL = 0.9
"""Level of tau's two-sided interval, so that its lower end is a 95% bound."""

KEEP = 1 / 3
"""Share of the cells that a rung promotes."""

PILOT_CELLS = 10
"""Number of pilot cells. Simulated with normal scores, a pilot of ten cells passes the threshold
in 89% of cases for a true tau of 0.9, in 49% for 0.8 and in 4% for 0.5. For 0.9, eight cells pass
in 61% and six in 52%."""


@dataclass(frozen=True)
class Rung:
    """One fidelity: its recipe, and its cost as a share of a full training."""

    recipe: Recipe
    share: float

    @property
    def name(self) -> str:
        return self.recipe.name


def rungs(recipe: Recipe, num: int = 3, factor: float = 3.0, over: Over = "epochs") -> list[Rung]:
    """Return the rungs from cheap to full, each about ``factor`` times the work of the one before.

    Every rung is a complete training with its own schedule: a long schedule cut short would judge
    cells before their learning rate has decayed. Warm-up shrinks with the epochs; image sizes are
    multiples of 32, the network's stride. Rungs that round to the same recipe become one.

    Raises:
        ValueError: for fewer than two rungs, or a factor of 1 or less.
    """
    if num < 2 or factor <= 1:
        raise ValueError(
            f"halving needs at least two rungs and a factor above 1, got {num} and {factor}"
        )
    cheap = [_reduced(recipe, factor**-i, over) for i in range(num - 1, 0, -1)]
    distinct = {rung.recipe: rung for rung in cheap if rung.share < 1}
    return [*distinct.values(), Rung(recipe, 1.0)]


def _reduced(recipe: Recipe, share: float, over: Over) -> Rung:
    if over == "image_size":
        side = max(32, 32 * round(recipe.image_size * share**0.5 / 32))
        name = f"{recipe.name}, {side} pixels"
        return Rung(replace(recipe, image_size=side, name=name), (side / recipe.image_size) ** 2)
    if over == "data_fraction":
        fraction = recipe.data_fraction * share
        name = f"{recipe.name}, {fraction:.3g} of the data"
        return Rung(replace(recipe, data_fraction=fraction, name=name), share)
    epochs = max(1, round(recipe.epochs * share))
    share = epochs / recipe.epochs
    warmup = recipe.warmup_epochs * share
    name = f"{recipe.name}, {epochs} of {recipe.epochs} epochs"
    return Rung(replace(recipe, epochs=epochs, warmup_epochs=warmup, name=name), share)


@dataclass(frozen=True)
class Gate:
    """The pilot's decision about one cheap rung."""

    rung: Rung
    tau: Interval | None
    may_prune: bool
    reason: str


def gate(
    rung: Rung,
    cheap: Mapping[Key, float | None],
    full: Mapping[Key, float | None],
    force: bool = False,
) -> Gate:
    """Decide whether a rung may prune, by tau over the pilot cells that have both scores.

    Without a tau (fewer than two scores, or all equal) it may not. With ``force`` it prunes
    against the evidence, and the reason says so.
    """
    pairs = [(x, y) for k, y in full.items() if (x := cheap.get(k)) is not None and y is not None]
    tau: Interval | None = None
    allowed = False
    try:
        tau = kendall_tau([x for x, _ in pairs], [y for _, y in pairs], LEVEL)
    except ValueError as error:
        reason = f"{rung.name} may not prune: {error}"
    else:
        allowed = may_prune(tau)
        reason = (
            f"{rung.name} {'may' if allowed else 'may not'} prune: tau {tau.mean:.2f} with the "
            f"full ranking over {tau.n} cells, lower 95% bound {tau.low:.2f}, needed {THRESHOLD:g}"
        )
    if force and not allowed:
        return Gate(rung, tau, True, f"{reason}; it prunes anyway (--prune force)")
    return Gate(rung, tau, allowed, reason)


def may_prune(tau: Interval) -> bool:
    """Return whether the lower end of tau's interval reaches the threshold."""
    return tau.low is not None and tau.low >= THRESHOLD


def promote(
    scores: Mapping[Key, float | None], keep: float, higher_is_better: bool = True
) -> tuple[Key, ...]:
    """Return the best share ``keep`` of the cells, at least one, and ties with the last of them.

    Cells without a score are not promoted, but count for the share.

    Raises:
        ValueError: for a share outside (0, 1].
    """
    if not 0 < keep <= 1:
        raise ValueError(f"the share to keep must be above 0 and at most 1, got {keep}")
    sign = 1.0 if higher_is_better else -1.0
    merits = {key: sign * value for key, value in scores.items() if value is not None}
    best = sorted(merits.values(), reverse=True)[: max(1, round(keep * len(scores)))]
    return tuple(key for key, merit in merits.items() if merit >= best[-1])


@dataclass(frozen=True)
class HalvingOutcome:
    """The result of successive halving.

    ``finalists`` were trained in full; all pilot cells are among them, promoted or not. ``pruned``
    maps a cell to the rung that dropped it. ``spent`` and ``grid`` are the costs of this run and
    of the complete grid, in full trainings. ``notes`` are for the report.
    """

    finalists: tuple[Family, ...]
    pruned: Mapping[Family, str]
    gates: tuple[Gate, ...]
    spent: float
    grid: float
    notes: tuple[str, ...]


def halving(
    variants: Sequence[Family],
    ladder: Sequence[Rung],
    data: Data,
    seeds: Sequence[int] = (0,),
    *,
    task: Task = CLASSIFICATION,
    measure: str | None = None,
    pilot: int = PILOT_CELLS,
    force: bool = False,
) -> Steps[HalvingOutcome]:
    """Train the pilot, prune by the rungs that the pilot admits, then train the rest in full.

    A cheap rung that may not prune is trained for the pilot only. Cheap rungs use the first seed,
    full trainings all ``seeds``. Drive it with `archsearch.searching.adaptive_plan.drive`.

    Raises:
        ValueError: at the first step, for a metric that no training records.
    """
    by = task.metric(measure or task.ranking_metric)
    if by.source not in ("metrics", "error"):
        raise ValueError(f"halving ranks by a measured metric, and {by.name} is not measured")
    cells = tuple(dict.fromkeys(variants))
    chosen = pilot_cells(cells, pilot)
    full, share_of = ladder[-1], dict[str, float]()

    def trial(rung: Rung, variant: Family, seed: int = seeds[0]) -> Trial:
        one = Trial(variant, rung.recipe, data, seed, task)
        share_of[one.id] = rung.share
        return one

    def scores(rung: Rung, variants: Sequence[Family]) -> dict[Family, float | None]:
        return {v: by.value_of(records[trial(rung, v).id]) for v in variants}

    records = dict((yield tuple(trial(rung, v) for rung in ladder for v in chosen)))
    full_scores = scores(full, chosen)
    gates = tuple(gate(rung, scores(rung, chosen), full_scores, force) for rung in ladder[:-1])
    alive, pruned = cells, dict[Family, str]()
    for rung in (g.rung for g in gates if g.may_prune):
        records |= yield tuple(trial(rung, v) for v in alive)
        promoted = promote(scores(rung, alive), KEEP, by.higher_is_better)
        kept = set(promoted)
        pruned |= {v: rung.name for v in alive if v not in kept}
        alive = promoted
    records |= yield tuple(trial(full, v, seed) for seed in seeds for v in alive)
    final = {*alive, *chosen}
    finalists = tuple(v for v in cells if v in final)
    spent, grid = sum(share_of[i] for i in records), float(len(cells) * len(seeds))
    notes = (*(g.reason for g in gates), f"cost {spent:.3g} full trainings; the grid: {grid:g}")
    return HalvingOutcome(finalists, pruned, gates, spent, grid, notes)


def cost_range(num_cells: int, ladder: Sequence[Rung], num_seeds: int = 1) -> tuple[float, float]:
    """Return the least and the most that halving may cost, in full trainings.

    The grid costs ``num_cells * num_seeds``. The least is reached if every rung prunes and promotes
    the pilot's cells, the most if no rung may prune.
    """
    pilot, cheap = min(PILOT_CELLS, num_cells), sum(rung.share for rung in ladder[:-1])
    most = pilot * cheap + num_cells * num_seeds
    least, alive = pilot * (cheap + 1), num_cells
    for rung in ladder[:-1]:
        least += max(0, alive - pilot) * rung.share
        alive = max(1, round(KEEP * alive))
    return least + max(0, alive - pilot) + alive * (num_seeds - 1), most


def pilot_cells(variants: Sequence[Family], num: int) -> tuple[Family, ...]:
    """Return ``num`` of the variants, spread evenly over the plan's order, or all if fewer.

    Raises:
        ValueError: for ``num`` below two, because one cell has no ranking.
    """
    n = len(variants)
    if num < 2:
        raise ValueError(f"a pilot needs at least two cells, got {num}")
    if n <= num:
        return tuple(variants)
    return tuple(variants[round(i * (n - 1) / (num - 1))] for i in range(num))
