"""Plans that depend on results: a generator yields trials and receives their records.

Such a plan stores nothing. Restarted with the same records, it yields the same trials in the same
order, so an interrupted run resumes where it stopped.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Generic, TypeVar

from archsearch.study import Record, Trial

Outcome = TypeVar("Outcome")

Steps = Generator[tuple[Trial, ...], Mapping[str, Record], Outcome]
"""Yields a batch of trials, receives trial id -> record for all of them, returns the outcome."""


def drive(
    steps: Steps[Outcome],
    record_of: Callable[[str], Record | None],
    run: Callable[[tuple[Trial, ...]], object] | None = None,
) -> Outcome | None:
    """Run a plan batch by batch; ``run`` trains the trials of a batch that have no record yet.

    ``record_of`` returns a trial's terminal record by its id. Returns None if ``run`` stopped
    before every trial of its batch had a record; to resume, drive a new generator of the same
    plan. Without ``run`` this reads the outcome of a finished plan.
    """
    try:
        batch = next(steps)
        while True:
            waiting = tuple(trial for trial in batch if record_of(trial.id) is None)
            if waiting and run is not None:
                run(waiting)
            by_id = {trial.id: record_of(trial.id) for trial in batch}
            records = {key: record for key, record in by_id.items() if record is not None}
            if len(records) < len(by_id):
                return None
            batch = steps.send(records)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


class StreamedPlan(Generic[Outcome]):
    """A plan for `archsearch.running.run.run_study`: pass it `trials` and `add_record`.

    One driver then runs all batches, and its workers stay warm between them. ``outcome`` is None
    until the plan has finished.
    """

    def __init__(self, steps: Steps[Outcome]) -> None:
        self._steps = steps
        self._records: dict[str, Record] = {}
        self.outcome: Outcome | None = None

    def add_record(self, trial: Trial, record: Record) -> None:
        """Take the record of a finished trial."""
        self._records[trial.id] = record

    def trials(self) -> Iterator[Trial | None]:
        """Yield the trials of one batch after the other; None while a batch is not finished."""
        try:
            batch = next(self._steps)
            while True:
                yield from batch
                while any(trial.id not in self._records for trial in batch):
                    yield None
                batch = self._steps.send({t.id: self._records[t.id] for t in batch})
        except StopIteration as end:
            self.outcome = end.value
