"""Progress of a running study: snapshots, and the status on disk."""

import os
import time
from typing import Any

import pytest

from archsearch.core.cost import Cost
from archsearch.running import driver, progress
from archsearch.running.progress import ProgressTracker
from archsearch.running.run import Snapshot
from archsearch.storage.status import study_status
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record
from tests import toy
from tests.running.toy_runs import run


def eta(snapshot: Snapshot) -> float:
    """Seconds left; 0 while they are not known."""
    return 0.0 if snapshot.left is None else snapshot.left.seconds


def test_snapshots_have_states_epochs_best_and_speed(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "TICK_SECONDS", 0.0)
    snapshots: list[Snapshot] = []
    first, second, third = folder.trials()
    run(folder, "train", (second,))
    run(folder, "train", on_change=snapshots.append)

    before, last = snapshots[0], snapshots[-1]
    assert before.total == 3
    assert before.counts == {"complete": 1, "pending": 1, "running": 1}
    assert list(last.trials) == list(folder.ids())
    assert (last.counts, last.finished, eta(last)) == ({"complete": 3}, 3, 0.0)
    assert last.best is not None
    assert last.best.metric == max(
        toy.accuracy(toy.total_after(toy.EPOCHS, i)) for i in folder.ids()
    )
    halfway = [s for s in snapshots if s.trials[third.id].state == "running"]
    assert {s.trials[first.id].epoch for s in halfway} == {3}
    assert any(s.images_per_second == 100.0 for s in snapshots)
    assert any(eta(s) for s in snapshots)


def test_a_long_epoch_shows_its_speed_and_counts_in_part(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "cost_of", lambda _: Cost(1, 1, 1, 8))
    first, second, _ = folder.trials()
    tracker = ProgressTracker(folder, folder.study(), 3)
    for trial in folder.trials():
        tracker.planned(trial)
    folder.trial(first.id).write_spec(first)
    monkeypatch.setattr(time, "monotonic", lambda: tracker._started)
    tracker.started(first.id, "here")
    monkeypatch.setattr(time, "monotonic", lambda: tracker._started + 10)
    heartbeat = {"in_epoch": 1, "epochs": 3, "step": 5, "steps": 10, "images_per_second": 200.0}

    def after_event(event: dict[str, Any]) -> Snapshot:
        folder.trial(first.id).append_event(event)
        tracker.poll()
        return tracker.snapshot()

    early = after_event(heartbeat)
    assert (early.images_per_second, early.trials[first.id].epoch) == (200.0, 0)
    assert eta(early) == pytest.approx(10 * 8.5 / 0.5)
    repeated = after_event({**heartbeat, "step": 2})  # from a checkpoint
    assert repeated.left == early.left
    assert eta(after_event(toy.curve(1, first.id)[0])) == pytest.approx(10 * 8)
    assert eta(after_event({**heartbeat, "in_epoch": 2})) == pytest.approx(10 * 7.5 / 1.5)
    tracker.finished(first, Record(first.id, "diverged", curve=toy.curve(1, first.id)))
    assert eta(tracker.snapshot()) == pytest.approx(10 * 6 / 1.5)
    assert second.id in tracker.snapshot().trials


def test_without_an_estimate_time_grows_with_the_cost_at_the_trained_image_size(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = folder.trials()
    costs = [t.variant.cost(t.recipe.image_size, num_classes=10).macs for t in trials]
    tracker = ProgressTracker(folder, folder.study(), 3)
    for trial in trials:
        tracker.planned(trial)
    folder.trial(trials[0].id).write_spec(trials[0])
    monkeypatch.setattr(time, "monotonic", lambda: tracker._started)
    tracker.started(trials[0].id, "here")
    monkeypatch.setattr(time, "monotonic", lambda: tracker._started + 10)
    folder.trial(trials[0].id).append_event(toy.curve(1, trials[0].id)[0])
    tracker.poll()
    left = 2 * costs[0] + 3 * costs[1] + 3 * costs[2]
    assert eta(tracker.snapshot()) == pytest.approx(10 * left / costs[0])


def test_an_open_ended_plan_counts_certain_and_additional_trials(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "TICK_SECONDS", 0.0)
    snapshots: list[Snapshot] = []
    first, second, third = folder.trials()
    run(folder, "train", (first,))
    plan = iter([first, second, third])
    run(folder, "train", plan, certain_trials=(first, second), on_change=snapshots.append)
    assert all(s.open_ended for s in snapshots)
    assert [s.total for s in (snapshots[0], snapshots[-1])] == [2, 3]
    assert snapshots[-1].counts == {"complete": 3}
    assert any(eta(s) for s in snapshots if third.id not in s.trials)
    assert eta(snapshots[-1]) == 0.0


def test_a_search_with_a_maximum_estimates_all_its_trials(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "TICK_SECONDS", 0.0)
    snapshots: list[Snapshot] = []
    run(folder, "train", iter(folder.trials()), max_trials=3, on_change=snapshots.append)
    assert {(s.total, s.open_ended) for s in snapshots} == {(3, False)}
    early = next(s for s in snapshots if eta(s))
    assert len(early.trials) == 1  # its estimate includes the work of the other two
    assert sum(s.left is not None for s in snapshots) > 1
    assert eta(snapshots[-1]) == 0.0


def test_the_status_is_read_from_the_files(folder: StudyFolder) -> None:
    trials = folder.trials()
    run(folder, "train", trials[:1])
    run(folder, "crash", trials[1:2])
    status = study_status(folder.path)
    rows = status.rows
    assert [row["state"] for row in rows] == ["complete", "failed", "pending"]
    assert rows[0]["val_accuracy"] == toy.accuracy(toy.total_after(toy.EPOCHS, trials[0].id))
    assert rows[0]["network"] == "16-16-1-4"
    assert rows[1]["note"] == f"crash: RuntimeError: failed in {trials[1].id}"
    assert (status.running, status.best) == (False, rows[0])
    third = folder.trial(trials[2].id)
    third.write_spec(trials[2])
    with folder.lock(), third.lock():
        status = study_status(folder.path)
        assert status.running
        assert status.rows[2]["state"] == "running"


def test_the_clock_and_the_time_zone_do_not_matter(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = iter([8, -8, 5, 0, -30, 0] * 1000)
    real_time = time.time
    monkeypatch.setattr(time, "time", lambda: real_time() + 3600 * next(hours))
    snapshots: list[Snapshot] = []
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        run(folder, "train", on_change=snapshots.append)
        os.utime(folder.trial(folder.ids()[0]).path / "record.json", (0, 0))
    assert toy.results(folder) == toy.expected_results(folder)
    assert all(0 <= s.seconds < 60 for s in snapshots)
    monkeypatch.undo()
    time.tzset()
