"""The driver: what it launches, what it reports, and how it stops. Mostly in this process."""

import dataclasses
import os
from collections.abc import Iterator

import pytest

from archsearch.running.run import StudyStopped, retry
from archsearch.running.work import Job, run_attempt
from archsearch.storage import lock
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record, Trial
from tests import toy
from tests.running.toy_runs import run


def test_a_finished_trial_is_skipped(folder: StudyFolder) -> None:
    reported: list[str] = []
    for name in ("train", "crash"):  # no trial is left for the second run
        counts = run(folder, name, on_record=lambda trial, _: reported.append(trial.id))
        assert counts == {"complete": 3}
    assert reported == [*folder.ids(), *folder.ids()]


def test_a_trial_that_a_slow_worker_finished_is_not_started_again(folder: StudyFolder) -> None:
    first = folder.trials()[0]
    run(folder, "train", [first])
    assert run_attempt(Job(str(folder.path), first.id, "tests.toy:crash", "cpu")).end == "finished"


def test_a_plan_that_names_a_trial_twice_runs_it_once(folder: StudyFolder) -> None:
    assert run(folder, "train", folder.trials() * 2) == {"complete": 3}


def test_a_generator_is_advanced_as_records_are_reported(folder: StudyFolder) -> None:
    log: list[str] = []

    def search() -> Iterator[Trial | None]:
        for trial in folder.trials():
            log.append(f"yielded {trial.id}")
            yield trial
            if f"reported {trial.id}" not in log:
                yield None  # the next trial depends on this record

    def report(trial: Trial, record: Record) -> None:
        log.append(f"reported {record.trial_id}")
        assert record.trial_id == trial.id

    assert run(folder, "train", search(), on_record=report) == {"complete": 3}
    assert log == [f"{what} {i}" for i in folder.ids() for what in ("yielded", "reported")]


def test_a_generator_may_wait_while_workers_are_free(folder: StudyFolder) -> None:
    first, *others = folder.trials()
    reported: list[str] = []

    def rung() -> Iterator[Trial | None]:
        yield first
        while not reported:
            yield None
        yield from others

    counts = run(
        folder, "train", rung(), runner="local", workers=2,
        on_record=lambda trial, _: reported.append(trial.id),
    )  # fmt: skip
    assert counts == {"complete": 3}
    assert reported[0] == first.id


def test_three_equal_failures_stop_the_study(folder: StudyFolder) -> None:
    folder = toy.create(folder.path.parent / "more", cells=5)
    with pytest.raises(StudyStopped, match="3 trials in a row failed in the same way") as stopped:
        run(folder, "crash")
    assert stopped.value.exit_code == 1
    assert f"archsearch retry {folder.path} --failed" in str(stopped.value)
    assert list(folder.states().values()) == [*["failed"] * 3, *["pending"] * 2]


def test_failures_of_a_retry_are_not_counted_with_earlier_ones(folder: StudyFolder) -> None:
    with pytest.raises(StudyStopped):
        run(folder, "crash")
    retry(folder)
    with pytest.raises(StudyStopped, match="in the same way"):
        run(folder, "crash")
    assert run(folder, "train") == {"failed": 3}


def test_earlier_failures_of_a_generators_plan_are_not_counted(folder: StudyFolder) -> None:
    """A generator is read while trials run, and may yield three earlier failures in a row."""
    with pytest.raises(StudyStopped):
        run(folder, "crash")
    more = toy.create(folder.path, cells=5, extend=True)
    assert run(more, "train", iter(more.trials())) == {"failed": 3, "complete": 2}


def test_an_extended_study_reports_the_command_that_resumes_it(folder: StudyFolder) -> None:
    toy.create(folder.path, cells=5, command=("archsearch", "more", "--extend"), extend=True)
    with pytest.raises(StudyStopped, match="Resume with: archsearch more --extend"):
        run(folder, "crash")


def test_a_retry_runs_the_failed_again_and_keeps_their_records(folder: StudyFolder) -> None:
    assert run(folder, "crash_if_deep") == {"complete": 2, "failed": 1}
    failed = folder.ids()[1]
    assert retry(folder) == (failed,)
    assert folder.states()[failed] == "pending"
    assert run(folder, "train") == {"complete": 3}
    record = toy.record_of(folder.trial(failed))
    assert (record.attempts, record.notes) == (1, ("failed before: crash",))
    assert [old.kind for old in folder.trial(failed).earlier_records()[0]] == ["crash"]
    assert retry(folder) == ()


def test_a_diverged_trial_is_finished_and_not_failed(folder: StudyFolder) -> None:
    assert run(folder, "diverge") == {"diverged": 3}
    assert retry(folder) == ()


def test_the_error_of_a_second_driver_names_the_first(folder: StudyFolder) -> None:
    with folder.lock(), pytest.raises(lock.Locked, match=f"process {os.getpid()}"):
        run(folder, "train")


def test_wrong_options_are_reported_before_the_folder_is_locked(folder: StudyFolder) -> None:
    with folder.lock(), pytest.raises(ValueError, match="workers must be"):
        run(folder, "train", workers=0)


@pytest.mark.parametrize("content", [None, b"", b'{"schema":1'])
def test_a_lost_spec_of_a_finished_trial_is_written_again(
    folder: StudyFolder, content: bytes | None
) -> None:
    first = folder.trials()[0]
    beyond = dataclasses.replace(first, seed=99)
    run(folder, "train", iter([beyond]))
    spec = folder.trial(beyond.id).path / "spec.json"
    written = spec.read_bytes()
    spec.unlink()
    if content is not None:
        spec.write_bytes(content)
    assert run(folder, "crash", iter([beyond])) == {"complete": 1}  # it is not trained again
    assert spec.read_bytes() == written
