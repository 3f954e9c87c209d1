"""Plans that depend on results: a generator gives trials and receives their records.

Such a plan keeps nothing of its own. Started again over the same records it asks for the same
trials in the same order, so an interrupted run goes on where it was.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from archsearch.study import Record, Trial

Outcome = TypeVar("Outcome")

Steps = Generator[tuple[Trial, ...], Mapping[str, Record], Outcome]
"""Yields a batch of trials, is sent trial id -> record for all of them, returns the outcome."""


def no_run(_: Sequence[Trial]) -> None:
    """Trains nothing: what the records already say."""


def drive(
    steps: Steps[Outcome],
    record_of: Callable[[str], Record | None],
    run: Callable[[tuple[Trial, ...]], object] = no_run,
) -> Outcome | None:
    """Take a plan to its end: ``run`` the trials that have no record yet, batch by batch.

    ``record_of`` reads a trial's terminal record by its id. None if ``run`` came back before all
    of its batch had a record (it was stopped): drive a new generator of the same plan to go on.
    Without ``run`` this reads a finished plan's outcome again.
    """
    try:
        batch = next(steps)
        while True:
            if waiting := tuple(trial for trial in batch if record_of(trial.id) is None):
                run(waiting)
            found = {trial.id: record_of(trial.id) for trial in batch}
            records = {key: record for key, record in found.items() if record is not None}
            if len(records) < len(found):
                return None
            batch = steps.send(records)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


class Streamed(Generic[Outcome]):
    """A plan as `archsearch.running.run.run_study` takes it: give it `trials` and `heard`.

    One driver then runs all batches, and its workers stay warm between them. ``outcome`` is None
    until the plan has come to its end.
    """

    def __init__(self, steps: Steps[Outcome]) -> None:
        self._steps = steps
        self._records: dict[str, Record] = {}
        self.outcome: Outcome | None = None

    def heard(self, trial: Trial, record: Record) -> None:
        """A trial has its record."""
        self._records[trial.id] = record

    def trials(self) -> Iterator[Trial | None]:
        """The trials of batch after batch; None while a batch is waited for."""
        try:
            batch = next(self._steps)
            while True:
                yield from batch
                while any(trial.id not in self._records for trial in batch):
                    yield None
                batch = self._steps.send({t.id: self._records[t.id] for t in batch})
        except StopIteration as end:
            self.outcome = end.value
