"""Trials whose lock another process holds: the driver finishes the rest, then comes back."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from archsearch.running import held, work
from archsearch.running.progress import Snapshot
from archsearch.running.run import StudyStopped, retry
from archsearch.running.work import Job, run_attempt
from archsearch.storage.study_folder import StudyFolder, TrialFolder
from archsearch.study import Record, Trial
from tests import toy
from tests.running.toy_runs import run


@pytest.fixture
def first(folder: StudyFolder) -> Trial:
    """The first trial of the study, with its folder."""
    trial = folder.trials()[0]
    folder.trial(trial.id).write_spec(trial)
    return trial


def test_an_attempt_at_a_held_trial_is_busy(
    folder: StudyFolder, first: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "ORPHAN_SECONDS", 0.1)
    with folder.trial(first.id).lock():
        outcome = run_attempt(Job(str(folder.path), first.id, "tests.toy:train", "cpu"))
    assert (outcome.end, outcome.kind) == ("failed", "busy")


@pytest.mark.parametrize("runner", ["inline", "local"])
def test_the_rest_is_finished_before_the_driver_comes_back(
    folder: StudyFolder, first: Trial, runner: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The lock is released when the last other trial has its record."""
    order: list[str] = []
    workers: set[str] = set()
    with ExitStack() as lock:
        lock.enter_context(folder.trial(first.id).lock())

        def on_record(trial: Trial, record: Record) -> None:
            del record
            order.append(trial.id)
            if len(order) == 2:
                lock.close()

        def on_change(snapshot: Snapshot) -> None:
            workers.update(t.worker for t in snapshot.trials.values())

        counts = run(folder, "train", runner=runner, on_record=on_record, on_change=on_change)
    assert counts == {"complete": 3}
    assert order[-1] == first.id
    assert any(f"left to process {os.getpid()}" in worker for worker in workers)
    assert f"{folder.trial(first.id).path} is in use by process {os.getpid()}" in caplog.text
    assert not folder.trial(first.id).attempts()


def test_the_record_of_the_holder_is_taken(folder: StudyFolder, first: Trial) -> None:
    def finish(trial: Trial, record: Record) -> None:
        del record
        if trial.id == folder.ids()[2]:
            toy.train(folder.trial(first.id).path, "cpu", lambda: False)

    with folder.trial(first.id).lock():
        assert run(folder, "train", on_record=finish) == {"complete": 3}


def test_a_holder_that_writes_nothing_ends_the_wait_but_not_the_trial(
    folder: StudyFolder, first: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "SILENT_SECONDS", 0.0)
    with folder.trial(first.id).lock():
        with pytest.raises(StudyStopped, match=f"in use by process {os.getpid()}") as stopped:
            run(folder, "train")
        assert "2 of 3 trials are finished" in str(stopped.value)
        assert stopped.value.exit_code == 1
    assert folder.states()[first.id] == "pending"
    assert run(folder, "train") == {"complete": 3}


def test_a_stop_ends_the_wait(folder: StudyFolder, first: Trial) -> None:
    with (
        folder.trial(first.id).lock(),
        pytest.raises(StudyStopped, match="reached --max-hours"),
    ):
        run(folder, "train", max_hours=1 / 3600)
    assert run(folder, "train") == {"complete": 3}


def test_a_failure_of_a_held_trial_is_written_when_it_is_free(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes the lock after the last attempt: the driver does not end."""
    lock = ExitStack()
    release = threading.Timer(1.5, lock.close)
    append_attempt = TrialFolder.append_attempt

    def hold_after_the_third(trial: TrialFolder, attempt: Mapping[str, Any]) -> None:
        append_attempt(trial, attempt)
        if len(trial.attempts()) == 3:
            lock.enter_context(trial.lock())
            release.start()

    monkeypatch.setattr(TrialFolder, "append_attempt", hold_after_the_third)
    assert run(folder, "crash_if_deep") == {"complete": 2, "failed": 1}
    release.join()
    assert toy.record_of(folder.trial(folder.ids()[1])).attempts == 4


def test_a_generator_waits_for_a_held_trial(folder: StudyFolder, first: Trial) -> None:
    """As an adaptive plan: its next batch needs the record of the held trial."""
    _, *others = folder.trials()
    reported: list[str] = []

    def batches() -> Iterator[Trial | None]:
        yield first
        while first.id not in reported:
            yield None
        yield from others

    with ExitStack() as lock:
        lock.enter_context(folder.trial(first.id).lock())
        release = threading.Timer(0.6, lock.close)
        release.start()
        counts = run(
            folder, "train", batches(), on_record=lambda trial, _: reported.append(trial.id)
        )
        release.join()
    assert counts == {"complete": 3}
    assert reported[0] == first.id


def test_a_retry_leaves_a_held_trial_alone(
    folder: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StudyStopped):
        run(folder, "crash")
    first, *others = folder.ids()
    with folder.trial(first).lock():
        assert retry(folder) == tuple(others)
    assert f"{folder.trial(first).path} is in use by" in caplog.text
