"""``--seeds auto``: the planned seeds first, then more seeds for the cells that may be the best."""

from collections.abc import Sequence

from archsearch.core.family import Family
from archsearch.core.metrics import Metric
from archsearch.core.task import Data
from archsearch.searching.adaptive_plan import Steps
from archsearch.stats.seeds import SeedPlan, next_seeds
from archsearch.study import Record, Study, Trial


def more_seeds(study: Study, data: Data, max_seeds: int) -> Steps[SeedPlan[Family]]:
    """Yield the study's own trials, then more seeds for the networks that may be the best.

    No network gets more than ``max_seeds``. Drive it with
    `archsearch.searching.adaptive_plan.StreamedPlan`.
    """
    records: dict[str, Record] = {}
    trials, by = study.trials(data), study.task.metric(study.metric)
    batch = trials
    while True:
        records |= yield batch
        plan = next_seeds(
            _values_by_seed(trials, records, by),
            max_seeds,
            higher_is_better=by.higher_is_better,
        )
        if plan.done:
            return plan
        batch = tuple(study.trial(variant, data, seed) for variant, seed in plan.trainings)
        trials += batch


def _values_by_seed(
    trials: Sequence[Trial], records: dict[str, Record], by: Metric
) -> dict[Family, dict[int, float | None]]:
    """Return network -> seed -> value, without networks that diverged, as in the reports."""
    diverged = {t.variant for t in trials if records[t.id].status == "diverged"}
    values: dict[Family, dict[int, float | None]] = {}
    for trial in trials:
        if trial.variant not in diverged:
            values.setdefault(trial.variant, {})[trial.seed] = by.value_of(records[trial.id])
    return values
