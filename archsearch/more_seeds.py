"""``--seeds auto``: the planned seeds first, then more of them for the cells that are tied."""

from collections.abc import Iterator

from archsearch.metrics import metric
from archsearch.seeds import next_seeds
from archsearch.study import Data, Record, Study, Trial
from archsearch.variant import AnyVariant


class MoreSeeds:
    """A plan that grows with its records; give `trials` and `heard` to `archsearch.run.run_study`.

    A pure function of the records, so a study that was killed goes on as it would have.
    """

    def __init__(self, study: Study, data: Data, max_seeds: int) -> None:
        self._study, self._data, self._max_seeds = study, data, max_seeds
        self._by = metric(study.metric)
        self._records: dict[str, Record] = {}
        self.reason = ""

    def heard(self, trial: Trial, record: Record) -> None:
        """A trial has its record."""
        self._records[trial.id] = record

    def trials(self) -> Iterator[Trial | None]:
        """Trials to run; None while the next ones depend on records that are still to come."""
        asked: dict[str, Trial] = {}
        for trial in self._study.trials(self._data):
            asked[trial.id] = trial
            yield trial
        while True:
            while any(trial_id not in self._records for trial_id in asked):
                yield None
            plan = next_seeds(self._table(asked), self._max_seeds, higher_is_better=self._higher)
            if plan.done or plan.seed is None:
                self.reason = plan.reason
                return
            for variant in plan.cells:
                trial = Trial(variant, self._study.recipe, self._data, plan.seed)
                asked[trial.id] = trial
                yield trial

    @property
    def _higher(self) -> bool:
        return self._by.higher_is_better

    def _table(self, asked: dict[str, Trial]) -> dict[AnyVariant, dict[int, float | None]]:
        """What each network gave by seed; one that diverged is no candidate, as in the reports."""
        table: dict[AnyVariant, dict[int, float | None]] = {}
        diverged: set[AnyVariant] = set()
        for trial_id, trial in asked.items():
            record = self._records[trial_id]
            table.setdefault(trial.variant, {})[trial.seed] = record.metrics.get(self._by.field)
            if record.status == "diverged":
                diverged.add(trial.variant)
        return {variant: row for variant, row in table.items() if variant not in diverged}
