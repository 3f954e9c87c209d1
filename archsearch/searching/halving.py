"""Successive halving that proves itself first.

Short trainings may rank cells unlike long ones. So a pilot trains a few cells at every rung,
measures Kendall's tau between each cheap ranking and the full one, and a rung may prune only if
the lower end of tau's interval passes a threshold. Everything is recomputed from the records.
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
"""Least tau that lets a rung prune: three in four pairs of cells in their final order."""

LEVEL = 0.9
"""Of tau's two-sided interval, so that its lower end is a 95% bound."""

KEEP = 1 / 3
"""Share of the cells that a rung passes on."""

PILOT_CELLS = 10
"""Simulated with normal scores, ten cells let a true tau of 0.9 pass the threshold in 89% of
pilots, 0.8 in 49% and 0.5 in 4%; with eight cells 0.9 passes in 61%, with six in 52%."""


@dataclass(frozen=True)
class Rung:
    """One fidelity: the recipe that trains it and what it costs, as a share of a full training."""

    recipe: Recipe
    share: float

    @property
    def name(self) -> str:
        return self.recipe.name


def rungs(recipe: Recipe, num: int = 3, factor: float = 3.0, over: Over = "epochs") -> list[Rung]:
    """Fidelities from cheap to full, each some ``factor`` times the work of the one before.

    Every rung is a whole training of its own, with its own schedule: a long schedule cut short
    would judge cells before their learning rate has come down. Warm-up shrinks with the epochs;
    image sizes are multiples of 32, the network's stride. Rungs that round to the same are one.

    Raises:
        ValueError: for fewer than two rungs or a factor that does not exceed 1.
    """
    if num < 2 or factor <= 1:
        raise ValueError(f"halving wants two rungs or more and a factor above 1: {num}, {factor}")
    cheap = [_reduced(recipe, factor**-i, over) for i in range(num - 1, 0, -1)]
    found = {rung.recipe: rung for rung in cheap if rung.share < 1}
    return [*found.values(), Rung(recipe, 1.0)]


def _reduced(recipe: Recipe, share: float, over: Over) -> Rung:
    if over == "image_size":
        side = max(32, 32 * round(recipe.image_size * share**0.5 / 32))
        name = f"{recipe.name}, {side} pixels"
        return Rung(replace(recipe, image_size=side, name=name), (side / recipe.image_size) ** 2)
    if over == "data_fraction":
        part = recipe.data_fraction * share
        name = f"{recipe.name}, {part:.3g} of the data"
        return Rung(replace(recipe, data_fraction=part, name=name), share)
    epochs = max(1, round(recipe.epochs * share))
    kept = epochs / recipe.epochs
    warm, name = recipe.warmup_epochs * kept, f"{recipe.name}, {epochs} of {recipe.epochs} epochs"
    return Rung(replace(recipe, epochs=epochs, warmup_epochs=warm, name=name), kept)


@dataclass(frozen=True)
class Gate:
    """What the pilot says about one cheap rung; ``forced``: it prunes against the evidence."""

    rung: Rung
    tau: Interval | None
    may_prune: bool
    reason: str
    forced: bool = False


def gate(
    rung: Rung,
    cheap: Mapping[Key, float | None],
    full: Mapping[Key, float | None],
    threshold: float = THRESHOLD,
    force: bool = False,
) -> Gate:
    """May this rung prune? Tau over the pilot cells that have both scores, against the threshold.

    Without a tau (fewer than two scores, or all the same) it may not. ``force`` lets it prune
    against the evidence, and says so.
    """
    pairs = [(x, y) for k, y in full.items() if (x := cheap.get(k)) is not None and y is not None]
    tau: Interval | None = None
    allowed = False
    try:
        tau = kendall_tau([x for x, _ in pairs], [y for _, y in pairs], LEVEL)
    except ValueError as error:
        reason = f"{rung.name} may not prune: {error}"
    else:
        allowed = may_prune(tau, threshold)
        reason = (
            f"{rung.name} {'may' if allowed else 'may not'} prune: tau {tau.mean:.2f} with the "
            f"full ranking over {tau.n} cells, 95% sure above {tau.low:.2f}, wanted {threshold:g}"
        )
    if force and not allowed:
        return Gate(rung, tau, True, f"{reason}; it does all the same (--prune force)", True)
    return Gate(rung, tau, allowed, reason)


def may_prune(tau: Interval, threshold: float = THRESHOLD) -> bool:
    """Whether the lower end of tau's interval reaches the threshold."""
    return tau.low is not None and tau.low >= threshold


def promote(
    scores: Mapping[Key, float | None], keep: float, higher_is_better: bool = True
) -> tuple[Key, ...]:
    """The best share ``keep`` of the cells, at least one, ties with the last one kept too.

    Cells without a score are not promoted; the share counts them all.

    Raises:
        ValueError: for a share outside (0, 1].
    """
    if not 0 < keep <= 1:
        raise ValueError(f"the share to keep lies above 0 and at most at 1, got {keep}")
    sign = 1.0 if higher_is_better else -1.0
    known = {key: sign * value for key, value in scores.items() if value is not None}
    best = sorted(known.values(), reverse=True)[: max(1, round(keep * len(scores)))]
    return tuple(key for key, value in known.items() if value >= best[-1])


@dataclass(frozen=True)
class Halving:
    """What successive halving did.

    ``finalists`` were trained in full (pilot cells are among them, promoted or not), ``pruned``
    names the rung that dropped a cell. ``spent`` and ``grid`` are costs in full trainings: of
    this run and of the whole grid. ``notes`` belong in the report.
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
    keep: float = KEEP,
    threshold: float = THRESHOLD,
    force: bool = False,
) -> Steps[Halving]:
    """Pilot, then prune rung by rung where the pilot allows it, then train the rest in full.

    A cheap rung that may not prune is not trained beyond the pilot. Cheap rungs use the first
    seed, full trainings all ``seeds``. Drive it with `archsearch.searching.adaptive_plan.drive`.

    Raises:
        ValueError: at the first step, for a metric that no training records.
    """
    by = task.metric(measure or task.chooses)
    if by.source not in ("metrics", "error"):
        raise ValueError(f"halving ranks by what a training measures, {by.name} is not")
    cells = tuple(dict.fromkeys(variants))
    chosen = pilot_cells(cells, pilot)
    full, share_of = ladder[-1], dict[str, float]()

    def trial(rung: Rung, variant: Family, seed: int = seeds[0]) -> Trial:
        made = Trial(variant, rung.recipe, data, seed, task)
        share_of[made.id] = rung.share
        return made

    def scores(rung: Rung, of: Sequence[Family]) -> dict[Family, float | None]:
        return {v: by.of(records[trial(rung, v).id]) for v in of}

    records = dict((yield tuple(trial(rung, v) for rung in ladder for v in chosen)))
    right = scores(full, chosen)
    gates = tuple(
        gate(rung, scores(rung, chosen), right, threshold, force=force) for rung in ladder[:-1]
    )
    alive, pruned = cells, dict[Family, str]()
    for rung in (g.rung for g in gates if g.may_prune):
        records |= yield tuple(trial(rung, v) for v in alive)
        kept = promote(scores(rung, alive), keep, by.higher_is_better)
        pruned |= {v: rung.name for v in alive if v not in kept}
        alive = kept
    records |= yield tuple(trial(full, v, seed) for seed in seeds for v in alive)
    finalists = tuple(v for v in cells if v in alive or v in chosen)
    spent, grid = sum(share_of[i] for i in records), float(len(cells) * len(seeds))
    notes = (*(g.reason for g in gates), f"cost {spent:.3g} full trainings; the grid: {grid:g}")
    return Halving(finalists, pruned, gates, spent, grid, notes)


def cost_range(
    num_cells: int,
    ladder: Sequence[Rung],
    num_seeds: int = 1,
    pilot: int = PILOT_CELLS,
    keep: float = KEEP,
) -> tuple[float, float]:
    """What halving may take, in full trainings; the grid takes ``num_cells * num_seeds``.

    The least is where every rung prunes and the pilot's cells are those passed on, the most where
    none may prune.
    """
    pilot, cheap = min(pilot, num_cells), sum(rung.share for rung in ladder[:-1])
    most = pilot * cheap + num_cells * num_seeds
    least, alive = pilot * (cheap + 1), num_cells
    for rung in ladder[:-1]:
        least += max(0, alive - pilot) * rung.share
        alive = max(1, round(keep * alive))
    return least + max(0, alive - pilot) + alive * (num_seeds - 1), most


def pilot_cells(variants: Sequence[Family], num: int) -> tuple[Family, ...]:
    """``num`` of the variants, spread evenly over the plan's order; all if there are no more.

    Raises:
        ValueError: for fewer than two, which have no order to compare.
    """
    n = len(variants)
    if num < 2:
        raise ValueError(f"a pilot compares two cells at least, got {num}")
    if n <= num:
        return tuple(variants)
    return tuple(variants[round(i * (n - 1) / (num - 1))] for i in range(num))
