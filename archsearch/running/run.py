"""The driver: a plan -> spec.json -> a runner -> record.json, and nothing lost on the way.

One driver per folder. Whatever it knows is read off the disk again by the next one: killing it at
any point loses at most the epochs since the last checkpoints.
"""

from collections.abc import Callable, Iterable, Sequence

from archsearch.running.driver import Driver, Listeners
from archsearch.running.progress import Progress, Snapshot, Tracker
from archsearch.running.runners import Name, Place, choose
from archsearch.running.stopping import Stopping, StudyStopped
from archsearch.running.work import DEFAULT_WORK, ORPHAN_SECONDS
from archsearch.storage.files import remove_leftovers
from archsearch.storage.request import study_of
from archsearch.storage.study_folder import State, StudyFolder
from archsearch.study import Record, Trial

__all__ = ["Progress", "Snapshot", "StudyStopped", "retry", "run_study"]


def run_study(
    folder: StudyFolder,
    trials: Iterable[Trial | None],
    *,
    runner: Name = "auto",
    workers: int | None = None,
    device: str = "auto",
    work: str = DEFAULT_WORK,
    on_change: Callable[[Snapshot], None] | None = None,
    on_record: Callable[[Trial, Record], None] | None = None,
    ray_address: str | None = None,
    gpus_per_trial: float | None = None,
    max_hours: float | None = None,
    sure: Sequence[Trial] = (),
    at_most: int = 0,
) -> dict[State, int]:
    """Bring every trial to its record; those that have one are left alone.

    Args:
        trials: a plan, or a generator that is asked for the next trial when a worker is free. It
            may give None for "not before another record", while a trial is running.
        runner, workers, device, ray_address, gpus_per_trial: see
            `archsearch.running.runners.Place`.
        work: the import path of what is done with a trial, ``"package.module:function"``.
        on_change: called a few times a second with the state of things, and at the end.
        on_record: called once per trial with its record, also for records of earlier runs.
        max_hours: stop, as for Ctrl-C, after so long.
        sure: the trials that a generator will give in any case, for the count and the time left.
        at_most: how many it will give at most; 0 where nobody knows.

    Returns:
        How many trials are in each state.

    Raises:
        StudyStopped: Ctrl-C, SIGTERM, full disk, too long, or the same failure again and again.
        archsearch.storage.lock.Locked: another driver works in this folder.
        ValueError: for a runner that cannot be had.
    """
    study = study_of(folder.open().request())
    place = Place(workers, device, study.recipe.threads, work, ray_address, gpus_per_trial)
    choose(runner, place, None)  # wrong options are told before anything is touched
    with folder.lock():
        remove_leftovers(folder.path)
        tracker = Tracker(folder, study, len(trials) if isinstance(trials, Sequence) else None)
        driver = Driver(
            folder, tracker, place, Listeners(on_change, on_record), Stopping(max_hours)
        )
        tracker.expect(sure, at_most)
        left = driver.plan(trials)
        if left != 0:
            driver.run(choose(runner, place, left))
        driver.tell()
    driver.raise_if_stopped()
    return tracker.counts


def retry(folder: StudyFolder) -> tuple[str, ...]:
    """Make the failed trials runnable again; their records are kept beside, as history.

    Returns:
        The ids of the trials, to be trained by the study's own command.
    """
    with folder.open().lock():
        failed = tuple(i for i, state in folder.states().items() if state == "failed")
        for trial_id in failed:
            trial = folder.trial(trial_id)
            with trial.lock(ORPHAN_SECONDS):
                trial.set_record_aside()
    return failed
