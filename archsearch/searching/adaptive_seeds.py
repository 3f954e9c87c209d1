"""``--seeds auto``: the planned seeds first, then more of them for the cells that are tied."""

from archsearch.core.family import Family
from archsearch.core.metrics import Metric
from archsearch.core.task import Data
from archsearch.searching.adaptive_plan import Steps
from archsearch.stats.seeds import SeedPlan, next_seeds
from archsearch.study import Record, Study, Trial


def more_seeds(study: Study, data: Data, max_seeds: int) -> Steps[SeedPlan[Family]]:
    """The study's own trials, then seed after seed for the tied networks, up to ``max_seeds``.

    Drive it with `archsearch.searching.adaptive_plan.Streamed`.
    """
    records: dict[str, Record] = {}
    asked, by = study.trials(data), study.task.metric(study.metric)
    batch = asked
    while True:
        records |= yield batch
        plan = next_seeds(
            _table(asked, records, by),
            max_seeds,
            higher_is_better=by.higher_is_better,
        )
        if plan.done or plan.seed is None:
            return plan
        batch = tuple(study.trial(v, data, plan.seed) for v in plan.cells)
        asked += batch


def _table(
    asked: tuple[Trial, ...], records: dict[str, Record], by: Metric
) -> dict[Family, dict[int, float | None]]:
    """What each network gave by seed; one that diverged is no candidate, as in the reports."""
    diverged = {t.variant for t in asked if records[t.id].status == "diverged"}
    table: dict[Family, dict[int, float | None]] = {}
    for trial in asked:
        if trial.variant not in diverged:
            table.setdefault(trial.variant, {})[trial.seed] = by.of(records[trial.id])
    return table
