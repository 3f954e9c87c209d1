"""The estimate of studies whose true cost is known."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from archsearch.api import estimate
from archsearch.api.estimate import estimate_study
from archsearch.api.options import Launch
from archsearch.core.recipe import Recipe
from archsearch.core.recipes import resolve
from archsearch.core.task import Data
from archsearch.families.internimage import Variant
from archsearch.running import run, runners
from archsearch.running.estimate import (
    Estimate,
    corners,
    cost_of,  # the synthetic timings use the same counts
    estimate_cost,
    estimated_and_actual,
)
from archsearch.running.preflight import preflight_device
from archsearch.running.runners import RunnerName, RunnerOptions
from archsearch.running.stopping import StudyStopped
from archsearch.running.timing import time_steps
from archsearch.storage import lock
from archsearch.storage.study_folder import StudyFolder, TrialFolder
from archsearch.study import Record, Status, Study, Trial
from archsearch.training import machine
from tests import toy

DATA = Data("digits", "0" * 16, 10, 1, 1000, 300, 300)
RECIPE = resolve("quick", {"epochs": "2"})
TRIALS = [
    Trial(Variant(c1, 8, l1, l3), RECIPE, DATA, 0)
    for c1 in (16, 24, 32) for l1 in (1, 2) for l3 in (2, 6, 11)
]  # fmt: skip


def timed(trial: Trial, speed: float = 1.0, gpu_bytes: float | None = None) -> Record:
    """A synthetic timing: time depends on multiply-adds and activations, memory on activations.

    A calibration takes as long as 96 images of a step, a measured image a quarter of one.
    """
    cost = cost_of(trial)
    step = speed * (2e-11 * cost.macs + 3e-9 * cost.activations)
    metrics = {
        "start_seconds": 2.0 if trial == TRIALS[0] else 0.5,
        "seconds_per_image": step,
        "calibration_seconds": 96 * step,
        "val_seconds_per_image": step / 4,
        "checkpoint_seconds": 3e-8 * cost.params,
        "peak_memory_bytes": 1e9 + 20.0 * cost.activations * RECIPE.batch_size,
        "memory_bytes": gpu_bytes,
    }
    return Record(trial.id, "complete", metrics, cost=cost, device="cpu (test)")


def test_corners_contain_the_extremes() -> None:
    chosen = corners(TRIALS)
    assert 2 <= len(chosen) <= 4
    for key in (lambda t: cost_of(t).macs, lambda t: cost_of(t).activations):
        assert max(TRIALS, key=key) in chosen


def test_times_made_of_macs_and_activations_are_estimated_exactly() -> None:
    records = {t.id: timed(t) for t in (*corners(TRIALS), TRIALS[0])}
    estimated = estimate_cost(TRIALS, records, workers=2)
    images = 2 * (1000 + 96 + 300 / 4) + 300 / 4  # two epochs, then the test split
    for trial in TRIALS:
        per_image = timed(trial).metrics["seconds_per_image"]
        assert per_image is not None
        saves = 3e-8 * cost_of(trial).params * (1 + 1 / 3)  # the last has no moments
        expected = 0.5 + per_image * images + saves
        assert estimated.seconds[trial.id] == pytest.approx(expected, rel=1e-6)
    assert (estimated.start_seconds, estimated.setup_seconds) == (0.5, 1.5)


def test_a_study_takes_start_trials_and_report() -> None:
    """The first trial of a worker starts 1.5 s slower, and its process takes 4 s to start."""
    records = {t.id: timed(t) for t in (*corners(TRIALS), TRIALS[0])}
    one, many = (
        estimate_cost(TRIALS, records, workers, worker_seconds=4.0, report_seconds=7.0)
        for workers in (1, 100)
    )
    assert one.hours * 3600 == pytest.approx(5.5 + sum(one.seconds.values()) + 7)
    assert many.hours * 3600 == pytest.approx(5.5 + max(many.seconds.values()) + 7)
    started = estimate_cost(TRIALS, records, workers=1, worker_seconds=None)
    assert started.hours * 3600 == pytest.approx(sum(started.seconds.values()))


def test_without_a_validation_split_an_evaluated_image_costs_a_third_of_a_step() -> None:
    data = replace(DATA, num_val=0)
    trials = [replace(trial, data=data) for trial in TRIALS[:4]]
    records = {t.id: timed(t) for t in trials}
    without = {
        i: replace(r, metrics={**r.metrics, "val_seconds_per_image": None})
        for i, r in records.items()
    }
    quarter, third = (estimate_cost(trials, r, workers=1) for r in (records, without))
    for trial in trials:
        step = records[trial.id].metrics["seconds_per_image"]
        assert step is not None
        difference = third.seconds[trial.id] - quarter.seconds[trial.id]
        assert difference == pytest.approx(300 * step * (1 / 3 - 1 / 4), rel=1e-6)


def test_networks_that_do_not_fit_are_named() -> None:
    records = {t.id: timed(t) for t in corners(TRIALS)}
    memory = 4_000_000_000
    assert estimate_cost(TRIALS, records, workers=4).too_large == ()  # the memory is unknown
    assert estimate_cost(TRIALS, records, workers=1, free_bytes=memory).too_large == ()
    crowded = estimate_cost(TRIALS, records, workers=4, free_bytes=memory)
    assert crowded.memory_bytes == 1_000_000_000  # and every trial needs more
    assert len(crowded.too_large) == len(TRIALS)


def test_workers_on_one_gpu_share_its_memory() -> None:
    records = {t.id: timed(t, gpu_bytes=4e9) for t in corners(TRIALS)}
    for workers, num_gpus, room in ((4, 4, 4e9), (4, 1, 1e9), (5, 4, 2e9)):
        estimated = estimate_cost(TRIALS, records, workers, free_bytes=1, num_gpus=num_gpus)
        assert estimated.memory_bytes == room
        assert bool(estimated.too_large) == (room < 2e9)


def test_outcome_compares_only_trials_with_an_estimate_and_a_time() -> None:
    records = [
        Record(TRIALS[0].id, "complete", seconds=12.0),
        Record("f" * 16, "complete", seconds=9),
    ]
    assert estimated_and_actual({TRIALS[0].id: 10.0, TRIALS[1].id: 5.0}, records) == (10.0, 12.0)


def test_outcome_leaves_out_trials_that_stopped_early() -> None:
    estimated = {trial.id: 10.0 for trial in TRIALS[:3]}
    states: tuple[Status, ...] = ("complete", "diverged", "failed")
    records = [
        Record(trial.id, status, seconds=12.0 if status == "complete" else 1.0)
        for trial, status in zip(TRIALS, states, strict=False)
    ]
    assert estimated_and_actual(estimated, records) == (10.0, 12.0)
    assert estimated_and_actual(estimated, records[1:]) == (0, 0)  # then no comparison is printed


def estimate_on_cluster(
    folder: StudyFolder, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> tuple[Estimate, list[RunnerOptions]]:
    """Return the estimate of four TRIALS, and the requests to a cluster of twelve slots."""
    requests = list[RunnerOptions]()

    def cluster(_: str, place: RunnerOptions, __: object) -> object:
        requests.append(place)
        return SimpleNamespace(slots=place.workers or 12, close=lambda: requests.append(place))

    monkeypatch.setattr(runners, "open_runner", cluster)
    monkeypatch.setattr(machine, "default_workers", lambda *_: 2)
    monkeypatch.setattr(
        estimate,
        "_time_cells",
        lambda _, chosen, *__: estimate._Timings(
            {t.id: timed(t, gpu_bytes=8e9) for t in chosen}, 0.0, 0.0
        ),
    )
    return estimate._estimate(folder, TRIALS, launch), requests


@pytest.mark.parametrize(
    ("changes", "workers", "room"),
    [({}, 12, 8e9), ({"workers": 5}, 5, 8e9), ({"gpus_per_trial": 0.5}, 12, 4e9)],
)
def test_the_estimate_uses_the_slots_of_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any],
    workers: int, room: float,
) -> None:  # fmt: skip
    launch = Launch(runner="ray", ray_address="head:6379", **changes)
    estimated, requests = estimate_on_cluster(toy_waiting(tmp_path), launch, monkeypatch)
    assert (estimated.workers, estimated.memory_bytes) == (workers, room)
    assert [place.ray_address for place in requests] == ["head:6379"] * 2  # opened and closed


@pytest.mark.parametrize(("runner", "workers"), [("inline", 1), ("local", 2), ("ray", 2)])
def test_the_estimate_uses_the_workers_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: RunnerName, workers: int
) -> None:
    launch = Launch(runner=runner, device="cpu")
    estimated, requests = estimate_on_cluster(toy_waiting(tmp_path), launch, monkeypatch)
    assert (estimated.workers, requests) == (workers, [])


def test_without_a_timing_the_error_is_the_first_reason() -> None:
    with pytest.raises(ValueError, match="nothing was timed"):
        estimate_cost(TRIALS, {}, workers=1)
    broken = Record(TRIALS[3].id, "failed", error="RuntimeError: broken\nTraceback ...")
    with pytest.raises(ValueError, match=r"^RuntimeError: broken$"):
        estimate_cost(TRIALS, {broken.trial_id: broken}, workers=1)


def toy_waiting(path: Path) -> StudyFolder:
    """Return a study of four waiting trials, on data that does not exist."""
    return toy.create(path / "toy", cells=4)


INLINE = Launch(runner="inline", device="cpu")


def test_an_estimate_that_fails_prints_its_first_error_and_leaves_no_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = toy_waiting(tmp_path)
    assert estimate_study(folder, INLINE) is None
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("No estimate: DataError: no data set is called 'toy'")
    assert "16-16-1-4 could not be timed: DataError" in lines[1]
    assert "retry" not in "".join(lines)
    assert not list(folder.path.glob("quote*"))


def test_ctrl_c_while_timing_stops_the_study_and_names_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise StudyStopped("stopped: Ctrl-C\n0 of 4 trials are finished", 130)

    folder = toy_waiting(tmp_path)
    monkeypatch.setattr(run, "run_study", interrupted)
    with pytest.raises(StudyStopped, match=r"before any training.*archsearch toy") as stop:
        estimate_study(folder, INLINE)
    assert stop.value.exit_code == 130


def test_the_study_is_locked_while_it_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second driver would delete the running timing as the leftover of a killed one."""
    folder, held = toy_waiting(tmp_path), list[bool]()

    def timing(*_: object) -> estimate._Timings:
        held.append(lock.is_held(folder.path / "lock"))
        return estimate._Timings({}, None, 0.0)

    monkeypatch.setattr(estimate, "_time_cells", timing)
    estimate_study(folder, INLINE)
    assert held == [True]
    with folder.lock(), pytest.raises(lock.Locked, match="is in use by process"):
        estimate_study(folder, INLINE)


def time_one(root: Path, recipe: Recipe) -> TrialFolder:
    from archsearch.training.data import describe

    data = describe("digits", recipe.val_fraction)
    trial = Trial(Variant(16, 8, 1, 1), recipe, data, 0)
    study = Study("q", "", "", (), recipe)
    folder = StudyFolder(root / "q").create(study, data).trial(trial.id)
    folder.write_spec(trial)
    time_steps(folder.path, "cpu")
    return folder


def test_a_recipe_that_diverges_in_the_first_step_is_timed_too(tmp_path: Path) -> None:
    record = toy.record_of(time_one(tmp_path, replace(RECIPE, lr=1e20, warmup_epochs=0)))
    assert record.status == "complete"
    assert record.metrics["seconds_per_image"]


def test_a_missing_device_fails_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no device 'cuda:63' here"):
        preflight_device(RECIPE, "cuda:63")
    monkeypatch.setattr(machine, "in_new_process", None)
    monkeypatch.setattr(machine, "gpus", tuple)
    for device in ("cpu", "auto"):  # any CPU will do, and torch is not loaded to check it
        preflight_device(RECIPE, device)


def test_the_parts_of_a_training_are_timed(tmp_path: Path) -> None:
    folder = time_one(tmp_path, RECIPE)
    record = toy.record_of(folder)
    assert record.metrics["memory_bytes"] is None
    parts = ("start", "calibration", "checkpoint")
    assert all(record.metrics[f"{part}_seconds"] for part in parts)
    assert record.metrics["seconds_per_image"]
    assert record.metrics["val_seconds_per_image"]
    assert record.metrics["val_accuracy"] is not None  # for the report whose drawing is timed
    assert record.curve == ()
