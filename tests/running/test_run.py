"""The driver: what is launched, what is told, and how it stops. Mostly in this process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from archsearch.running import driver, work
from archsearch.running.progress import Tracker
from archsearch.running.run import Snapshot, StudyStopped, retry, run_study
from archsearch.running.runners import inline
from archsearch.running.work import Job, attempt
from archsearch.storage import lock
from archsearch.storage.status import overview, status
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record, Trial
from tests import toy


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return toy.create(tmp_path / "toy")


def run(folder: StudyFolder, name: str, trials: Any = None, **options: Any) -> Any:
    plan = folder.trials() if trials is None else trials
    return run_study(folder, plan, **{"runner": "inline", "work": f"tests.toy:{name}", **options})


def wait_for(happened: Callable[[], Any]) -> Any:
    """What ``happened`` gives once it is true; a minute is more than any machine needs."""
    for _ in range(6000):
        if found := happened():
            return found
        time.sleep(0.01)
    raise AssertionError("it never happened")


def test_a_finished_trial_is_left_alone(folder: StudyFolder) -> None:
    told: list[str] = []
    for name in ("train", "crash"):  # nothing is left for the second
        counts = run(folder, name, on_record=lambda trial, _: told.append(trial.id))
        assert counts == {"complete": 3}
    assert told == [*folder.ids(), *folder.ids()]


def test_a_trial_that_a_slow_worker_has_finished_is_not_begun_again(folder: StudyFolder) -> None:
    first = folder.trials()[0]
    run(folder, "train", [first])
    assert attempt(Job(str(folder.path), first.id, "tests.toy:crash", "cpu")).end == "finished"


def test_a_trial_that_a_slow_worker_still_has_is_waited_for(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = folder.trials()[0]
    folder.trial(first.id).write_spec(first)
    job = Job(str(folder.path), first.id, "tests.toy:train", "cpu")
    monkeypatch.setattr(work, "ORPHAN_SECONDS", 0.1)
    with folder.trial(first.id).lock():
        outcome = attempt(job)
        assert (outcome.end, outcome.kind) == ("broke", "busy")
        with pytest.raises(StudyStopped, match=f"in use by process {os.getpid()}"):
            run(folder, "train")
    assert run(folder, "train") == {"complete": 3}


def test_a_plan_that_names_a_trial_twice_runs_it_once(folder: StudyFolder) -> None:
    assert run(folder, "train", folder.trials() * 2) == {"complete": 3}


def test_a_generator_is_asked_as_it_goes_and_hears_of_records(folder: StudyFolder) -> None:
    log: list[str] = []

    def search() -> Iterator[Trial | None]:
        for trial in folder.trials():
            log.append(f"asked {trial.id}")
            yield trial
            if f"told {trial.id}" not in log:
                yield None  # the next choice needs this record

    def tell(trial: Trial, record: Record) -> None:
        log.append(f"told {record.trial_id}")
        assert record.trial_id == trial.id

    assert run(folder, "train", search(), on_record=tell) == {"complete": 3}
    assert log == [f"{what} {i}" for i in folder.ids() for what in ("asked", "told")]


def test_a_generator_may_wait_while_workers_are_free(folder: StudyFolder) -> None:
    first, *others = folder.trials()
    told: list[str] = []

    def rung() -> Iterator[Trial | None]:
        yield first
        while not told:
            yield None
        yield from others

    counts = run(
        folder, "train", rung(), runner="local", workers=2,
        on_record=lambda trial, _: told.append(trial.id),
    )  # fmt: skip
    assert counts == {"complete": 3}
    assert told[0] == first.id


def test_three_equal_failures_stop_the_study(folder: StudyFolder) -> None:
    folder = toy.create(folder.path.parent / "more", cells=5)
    with pytest.raises(StudyStopped, match="3 trials in a row failed in the same way") as stopped:
        run(folder, "crash")
    assert stopped.value.exit_code == 1
    assert f"archsearch retry {folder.path} --failed" in str(stopped.value)
    assert list(folder.states().values()) == [*["failed"] * 3, *["pending"] * 2]


def test_failures_in_a_retry_are_not_counted_with_older_ones(folder: StudyFolder) -> None:
    with pytest.raises(StudyStopped):
        run(folder, "crash")
    retry(folder)
    with pytest.raises(StudyStopped, match="in the same way"):
        run(folder, "crash")
    assert run(folder, "train") == {"failed": 3}


def test_old_failures_of_a_generators_plan_are_not_counted(folder: StudyFolder) -> None:
    """It is read while trials run, and three failures of an earlier run may stand side by side."""
    with pytest.raises(StudyStopped):
        run(folder, "crash")
    more = toy.create(folder.path, cells=5, extend=True)
    assert run(more, "train", iter(more.trials())) == {"failed": 3, "complete": 2}


def test_a_study_that_was_extended_says_the_command_that_goes_on(folder: StudyFolder) -> None:
    toy.create(folder.path, cells=5, command=("archsearch", "more", "--extend"), extend=True)
    with pytest.raises(StudyStopped, match="Go on with: archsearch more --extend"):
        run(folder, "crash")


def test_a_retry_runs_the_failed_again_and_keeps_their_records(folder: StudyFolder) -> None:
    assert run(folder, "crash_if_deep") == {"complete": 2, "failed": 1}
    failed = folder.ids()[1]
    assert retry(folder) == (failed,)
    assert folder.states()[failed] == "pending"
    assert run(folder, "train") == {"complete": 3}
    record = folder.trial(failed).record()
    assert record is not None
    assert (record.attempts, record.notes) == (1, ("failed before: crash",))
    assert [old.kind for old in folder.trial(failed).earlier_records()] == ["crash"]
    assert retry(folder) == ()


def test_a_diverged_trial_is_an_end_and_no_failure(folder: StudyFolder) -> None:
    assert run(folder, "diverge") == {"diverged": 3}
    assert retry(folder) == ()


def test_a_second_driver_is_told_who_has_the_folder(folder: StudyFolder) -> None:
    with folder.lock(), pytest.raises(lock.Locked, match=f"process {os.getpid()}"):
        run(folder, "train")


def test_wrong_options_are_told_before_the_folder_is_touched(folder: StudyFolder) -> None:
    with folder.lock(), pytest.raises(ValueError, match="workers wants"):
        run(folder, "train", workers=0)


def test_the_table_sees_states_epochs_best_and_speed(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "TICK_SECONDS", 0.0)
    monkeypatch.setattr(inline, "TICK_SECONDS", 0.0)
    seen: list[Snapshot] = []
    first, second, third = folder.trials()
    run(folder, "train", (second,))
    run(folder, "train", on_change=seen.append)

    before, last = seen[0], seen[-1]
    assert before.total == 3
    assert before.counts == {"complete": 1, "pending": 1, "running": 1}
    assert list(last.trials) == list(folder.ids())
    assert (last.counts, last.finished, last.eta_seconds) == ({"complete": 3}, 3, 0.0)
    assert last.best is not None
    assert last.best.metric == max(toy.total_after(toy.EPOCHS, i) for i in folder.ids())
    halfway = [s for s in seen if s.trials[third.id].state == "running"]
    assert {s.trials[first.id].epoch for s in halfway} == {3}
    assert any(s.images_per_second == 100.0 for s in seen)
    assert any(s.eta_seconds for s in seen)


def test_a_long_epoch_shows_its_speed_and_counts_as_far_as_it_has_got(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = folder.trials()
    tracker = Tracker(folder, folder.study(), 3)
    for trial in folder.trials():
        tracker.planned(trial)
    monkeypatch.setattr(time, "monotonic", lambda: tracker._began + 10)
    folder.trial(first.id).write_spec(first)
    tracker.started(first.id, "here")
    sign = {"in_epoch": 1, "epochs": 3, "step": 5, "steps": 10, "images_per_second": 200.0}

    def told(event: dict[str, Any]) -> Snapshot:
        folder.trial(first.id).append_event(event)
        tracker.poll()
        return tracker.snapshot()

    seen = told(sign)
    assert (seen.images_per_second, seen.trials[first.id].epoch) == (200.0, 0)
    assert seen.eta_seconds == pytest.approx(10 * 8.5 / 0.5)
    assert told({**sign, "step": 2}).eta_seconds == seen.eta_seconds  # again, from a checkpoint
    assert told(toy.curve(1, first.id)[0]).eta_seconds == pytest.approx(10 * 8)
    assert told({**sign, "in_epoch": 2}).eta_seconds == pytest.approx(10 * 7.5 / 1.5)
    tracker.finished(first, Record(first.id, "diverged", curve=toy.curve(1, first.id)))
    assert tracker.snapshot().eta_seconds == pytest.approx(10 * 6 / 1.5)
    assert second.id in tracker.snapshot().trials


def test_an_open_ended_plan_counts_what_is_sure_and_what_came_on_top(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "TICK_SECONDS", 0.0)
    monkeypatch.setattr(inline, "TICK_SECONDS", 0.0)
    seen: list[Snapshot] = []
    first, second, third = folder.trials()
    run(folder, "train", (first,))
    plan = iter([first, second, third])
    run(folder, "train", plan, sure=(first, second), on_change=seen.append)
    assert all(s.open_ended for s in seen)
    assert [s.total for s in (seen[0], seen[-1])] == [2, 3]
    assert seen[-1].counts == {"complete": 3}
    assert any(s.eta_seconds for s in seen if third.id not in s.trials)
    assert seen[-1].eta_seconds == 0.0


def test_a_search_knows_how_many_are_to_come(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "TICK_SECONDS", 0.0)
    monkeypatch.setattr(inline, "TICK_SECONDS", 0.0)
    seen: list[Snapshot] = []
    run(folder, "train", iter(folder.trials()), at_most=3, on_change=seen.append)
    assert {(s.total, s.open_ended) for s in seen} == {(3, False)}
    early = next(s for s in seen if s.eta_seconds)
    assert len(early.trials) == 1  # the work of the two to come is in its estimate
    assert early.eta_seconds > early.seconds
    assert seen[-1].eta_seconds == 0.0


def test_status_reads_the_same_off_the_disk(folder: StudyFolder) -> None:
    trials = folder.trials()
    run(folder, "train", trials[:1])
    run(folder, "crash", trials[1:2])
    rows = status(folder.path)
    assert [row["state"] for row in rows] == ["complete", "failed", "pending"]
    assert rows[0]["val_accuracy"] == toy.total_after(toy.EPOCHS, trials[0].id)
    assert rows[0]["network"] == "16-16-1-4"
    assert rows[1]["note"] == f"crash: RuntimeError: broken in {trials[1].id}"
    whole = overview(folder.path)
    assert (whole.finished, whole.running, whole.best) == (2, False, rows[0])
    third = folder.trial(trials[2].id)
    third.write_spec(trials[2])
    with folder.lock(), third.lock():
        assert overview(folder.path).running
        assert status(folder.path)[2]["state"] == "running"


def drive(folder: StudyFolder, runner: str, name: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.toy", str(folder.path), runner, name]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, process_group=0)


@pytest.mark.parametrize("runner", ["inline", "local"])
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(
    tmp_path: Path, runner: str, signum: signal.Signals, code: int
) -> None:
    folder = toy.create(tmp_path / "toy", cells=4)
    with drive(folder, runner, "patient") as process:
        wait_for(lambda: list(folder.path.glob("trials/*/events.jsonl")))
        os.killpg(process.pid, signum)  # as a terminal does; workers must not mind
        said, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Go on with: archsearch toy" in said
    assert "failed" not in folder.states().values()
    assert list(folder.path.glob("trials/*/stopped"))
    assert not list(folder.path.glob("trials/*/attempts.jsonl"))


@pytest.mark.parametrize("runner", ["inline", "local"])
def test_a_second_ctrl_c_ends_at_once(tmp_path: Path, runner: str) -> None:
    folder = toy.create(tmp_path / "toy", cells=4)
    with drive(folder, runner, "deaf") as process:
        pids = wait_for(lambda: list(folder.path.glob("trials/*/pid")))
        wait_for(lambda: "running" in folder.states().values())
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "ended at once" in said
    wait_for(lambda: all(gone(int(path.read_text())) for path in pids))
    assert "running" not in folder.states().values()


def gone(pid: int) -> bool:
    """No such process, or only its remains."""
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True


def test_the_clock_and_the_time_zone_do_not_matter(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = iter([8, -8, 5, 0, -30, 0] * 1000)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * next(hours))
    seen: list[Snapshot] = []
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        run(folder, "train", on_change=seen.append)
        os.utime(folder.trial(folder.ids()[0]).path / "record.json", (0, 0))
    assert toy.metrics(folder) == toy.expected(folder)
    assert all(0 <= s.seconds < 60 for s in seen)
    monkeypatch.undo()
    time.tzset()
