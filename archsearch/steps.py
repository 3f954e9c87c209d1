"""Plans that depend on results: a generator gives trials and receives their records.

Such a plan keeps nothing of its own. Started again over the same records it asks for the same
trials in the same order, so an interrupted run goes on where it was.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TypeVar

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
