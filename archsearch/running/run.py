"""Run a study: each trial of a plan gets a spec.json, runs in a runner, and gets a record.json.

One driver works in a folder. It keeps nothing that is not on disk: after a kill at any point, the
next driver loses at most the epochs since the last checkpoints.
"""

from collections.abc import Callable, Iterable, Sequence

from archsearch.running.driver import Callbacks, Driver
from archsearch.running.progress import ProgressTracker, Snapshot, TrialProgress
from archsearch.running.runners import RunnerName, RunnerOptions, choose_runner
from archsearch.running.stopping import StopRequest, StudyStopped, stopped_by_storage
from archsearch.running.work import DEFAULT_WORK
from archsearch.storage.files import log, remove_leftovers
from archsearch.storage.lock import Locked
from archsearch.storage.quote import quote_or_warning
from archsearch.storage.request import study_of
from archsearch.storage.study_folder import State, StudyFolder, TrialFolder
from archsearch.study import Record, Trial

__all__ = ["Snapshot", "StudyStopped", "TrialProgress", "retry", "run_study"]


def run_study(
    folder: StudyFolder,
    trials: Iterable[Trial | None],
    *,
    runner: RunnerName = "auto",
    workers: int | None = None,
    device: str = "auto",
    work: str = DEFAULT_WORK,
    on_change: Callable[[Snapshot], None] | None = None,
    on_record: Callable[[Trial, Record], None] | None = None,
    ray_address: str | None = None,
    gpus_per_trial: float | None = None,
    allow_mixed_versions: bool = False,
    max_hours: float | None = None,
    certain_trials: Sequence[Trial] = (),
    max_trials: int = 0,
) -> dict[State, int]:
    """Run every trial until it has a record; trials that have one are skipped.

    Args:
        trials: a plan, or a generator that is advanced when a worker is free. It may yield None,
            while a trial is running, if its next trial depends on another record.
        runner, workers, device, ray_address, gpus_per_trial, allow_mixed_versions: see
            `archsearch.running.runners.RunnerOptions`.
        work: the import path of what is done with a trial, ``"package.module:function"``.
        on_change: called a few times a second with the study's progress, and at the end.
        on_record: called once per trial with its record, also for records of earlier runs.
        max_hours: stop as on Ctrl-C after this time.
        certain_trials: the trials that a generator yields in any case, for the count and the time
            left.
        max_trials: how many trials a generator yields at most; 0 if unknown.

    Returns:
        How many trials are in each state.

    Raises:
        StudyStopped: on Ctrl-C, SIGTERM, errors of the storage, a lost cluster, the time limit,
            repeated equal failures, or when another process keeps a trial and writes nothing.
        archsearch.storage.lock.Locked: another driver works in this folder.
        ValueError: the runner is not available, or its options are wrong.
    """
    request = folder.open().request()
    study, command = study_of(request), request["command"]
    options = RunnerOptions(
        workers,
        device,
        study.recipe.threads,
        work,
        ray_address,
        gpus_per_trial,
        allow_mixed_versions,
    )
    choose_runner(runner, options, None)  # raises for wrong options before anything is written
    with stopped_by_storage(folder.path, command), folder.lock():
        remove_leftovers(folder.path)
        total = len(trials) if isinstance(trials, Sequence) else None
        tracker = ProgressTracker(folder, study, total, quote_or_warning(folder.path))
        callbacks = Callbacks(on_change, on_record)
        stop = StopRequest(max_hours)
        driver = Driver(folder, tracker, options, callbacks, stop, command)
        tracker.expect(certain_trials, max_trials)
        num_left = driver.plan(trials)
        if num_left != 0:
            driver.run(choose_runner(runner, options, num_left))
        driver.report_progress()
    driver.raise_if_stopped()
    return tracker.counts


def retry(folder: StudyFolder) -> tuple[str, ...]:
    """Make the failed trials runnable again; their records are renamed and kept as history.

    Returns:
        The ids of these trials, without those that another process holds; the study's own command
        trains them.
    """
    with folder.open().lock():
        failed = (i for i, state in folder.states().items() if state == "failed")
        return tuple(i for i in failed if _set_record_aside(folder.trial(i)))


def _set_record_aside(trial: TrialFolder) -> bool:
    try:
        with trial.lock():
            trial.set_record_aside()
    except Locked as error:
        log.warning("%s, and stays failed", error)
        return False
    return True
