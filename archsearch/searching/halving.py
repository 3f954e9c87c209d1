"""Successive halving with a pilot that checks whether cheap trainings may prune.

Short trainings may rank cells differently from full ones. So a pilot trains a few cells at every
rung, and `archsearch.searching.gate` decides which rungs may prune. Everything is recomputed from
the records.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from archsearch.core.family import Family
from archsearch.core.task import Data, Task
from archsearch.searching.adaptive_plan import Steps
from archsearch.searching.gate import PILOT_CELLS, Gate, Pilot, gate, gate_by_one_seed
from archsearch.searching.rungs import Rung
from archsearch.study import Trial
from archsearch.tasks.classification import CLASSIFICATION

Key = TypeVar("Key", bound=Hashable)

KEEP = 1 / 3
"""Share of the cells that a rung promotes."""


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
    seeds: Sequence[int],
    pilot: Pilot,
    *,
    task: Task = CLASSIFICATION,
    measure: str | None = None,
    force: bool = False,
) -> Steps[HalvingOutcome]:
    """Train the pilot, prune by the rungs that the pilot admits, then train the rest in full.

    The pilot trains its cells at every rung with its own seeds. A cheap rung that may not prune is
    trained for the pilot only. Otherwise cheap rungs use the first seed, full trainings all
    ``seeds``. With ``force`` every rung prunes, also against the evidence. Drive it with
    `archsearch.searching.adaptive_plan.drive`.

    Raises:
        ValueError: at the first step, for a metric that no training records.
    """
    by = task.metric(measure or task.ranking_metric)
    if by.source not in ("metrics", "error"):
        raise ValueError(f"halving ranks by a measured metric, and {by.name} is not measured")
    cells = tuple(dict.fromkeys(variants))
    full, share_of = ladder[-1], dict[str, float]()

    def trial(rung: Rung, variant: Family, seed: int = seeds[0]) -> Trial:
        one = Trial(variant, rung.recipe, data, seed, task)
        share_of[one.id] = rung.share
        return one

    def score(rung: Rung, variant: Family, seed: int = seeds[0]) -> float | None:
        return by.value_of(records[trial(rung, variant, seed).id])

    def decide(rung: Rung) -> Gate:
        if len(pilot.seeds) == 1:
            cheap, in_full = ({v: score(r, v) for v in pilot.cells} for r in (rung, full))
            return gate_by_one_seed(rung, cheap, in_full)
        by_seed = (
            {v: [score(r, v, s) for s in pilot.seeds] for v in pilot.cells} for r in (rung, full)
        )
        return gate(rung, *by_seed)

    records = dict(
        (yield tuple(trial(r, v, s) for r in ladder for v in pilot.cells for s in pilot.seeds))
    )
    gates = tuple(decide(rung).forced() if force else decide(rung) for rung in ladder[:-1])
    alive, pruned = cells, dict[Family, str]()
    for rung in (g.rung for g in gates if g.may_prune):
        records |= yield tuple(trial(rung, v) for v in alive)
        promoted = promote({v: score(rung, v) for v in alive}, KEEP, by.higher_is_better)
        kept = set(promoted)
        pruned |= {v: rung.name for v in alive if v not in kept}
        alive = promoted
    records |= yield tuple(trial(full, v, seed) for seed in seeds for v in alive)
    final = {*alive, *pilot.cells}
    finalists = tuple(v for v in cells if v in final)
    spent, grid = sum(share_of[i] for i in records), float(len(cells) * len(seeds))
    notes = (*(g.reason for g in gates), f"cost {spent:.3g} full trainings; the grid: {grid:g}")
    return HalvingOutcome(finalists, pruned, gates, spent, grid, notes)


def cost_range(
    num_cells: int, ladder: Sequence[Rung], num_seeds: int, num_pilot_seeds: int
) -> tuple[float, float]:
    """Return the least and the most that halving may cost, in full trainings.

    The grid costs ``num_cells * num_seeds``. The least is reached if every rung prunes and promotes
    the pilot's cells, the most if no rung may prune.
    """
    pilot, cheap = min(PILOT_CELLS, num_cells), sum(rung.share for rung in ladder[:-1])
    more_seeds = max(0, num_seeds - num_pilot_seeds)
    of_pilot = pilot * num_pilot_seeds * (cheap + 1)
    most = of_pilot + (num_cells - pilot) * num_seeds + pilot * more_seeds
    least, alive = of_pilot, num_cells
    for rung in ladder[:-1]:
        least += max(0, alive - pilot) * rung.share
        alive = max(1, round(KEEP * alive))
    least += max(0, alive - pilot) * num_seeds + min(alive, pilot) * more_seeds
    return least, most
