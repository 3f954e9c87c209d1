"""The quote against studies whose true cost is known."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from archsearch.api import estimate
from archsearch.api.estimate import quote_before
from archsearch.api.options import Launch, Runner
from archsearch.core.recipe import Recipe, resolve
from archsearch.core.task import Data
from archsearch.families.internimage import Variant
from archsearch.running import preflight, run, runners
from archsearch.running.estimate import (
    Quote,
    _cost,  # the synthetic truth is made of the same counts
    corners,
    outcome,
    quote,
)
from archsearch.running.preflight import check_device
from archsearch.running.runners import Place
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
    """A timing in a world where time is multiply-adds and activations, memory activations."""
    cost = _cost(trial)
    metrics = {
        "setup_seconds": 3.0,
        "seconds_per_image": speed * (2e-11 * cost.macs + 3e-9 * cost.activations),
        "peak_memory_bytes": 1e9 + 20.0 * cost.activations * RECIPE.batch_size,
        "memory_bytes": gpu_bytes,
    }
    return Record(trial.id, "complete", metrics, cost=cost, device="cpu (test)")


def test_corners_hold_the_extremes() -> None:
    found = corners(TRIALS)
    assert 2 <= len(found) <= 4
    for key in (lambda t: _cost(t).macs, lambda t: _cost(t).activations):
        assert max(TRIALS, key=key) in found


def test_a_world_of_macs_and_activations_is_quoted_exactly() -> None:
    records = {t.id: timed(t) for t in corners(TRIALS)}
    made = quote(TRIALS, records, workers=2)
    images = 2 * (1000 + 100) + 100  # two epochs, measuring at a third of a step
    for trial in TRIALS:
        per_image = timed(trial).metrics["seconds_per_image"]
        assert per_image is not None
        assert made.seconds[trial.id] == pytest.approx(per_image * images, rel=1e-6)
    assert made.hours * 3600 == pytest.approx(3 + sum(made.seconds.values()) / 2)


def test_what_will_not_fit_is_named() -> None:
    records = {t.id: timed(t) for t in corners(TRIALS)}
    memory = 4_000_000_000
    assert quote(TRIALS, records, workers=4).too_large == ()  # nobody knows
    assert quote(TRIALS, records, workers=1, free_bytes=memory).too_large == ()
    crowded = quote(TRIALS, records, workers=4, free_bytes=memory)
    assert crowded.memory_bytes == 1_000_000_000  # and every trial needs more
    assert len(crowded.too_large) == len(TRIALS)


def test_on_gpus_the_workers_of_one_share_it() -> None:
    records = {t.id: timed(t, gpu_bytes=4e9) for t in corners(TRIALS)}
    for workers, num_gpus, room in ((4, 4, 4e9), (4, 1, 1e9), (5, 4, 2e9)):
        made = quote(TRIALS, records, workers, free_bytes=1, num_gpus=num_gpus)
        assert made.memory_bytes == room
        assert bool(made.too_large) == (room < 2e9)


def test_outcome_compares_only_what_was_quoted_and_taken() -> None:
    records = [
        Record(TRIALS[0].id, "complete", seconds=12.0),
        Record("f" * 16, "complete", seconds=9),
    ]
    assert outcome({TRIALS[0].id: 10.0, TRIALS[1].id: 5.0}, records) == (10.0, 12.0)


def test_outcome_leaves_out_what_stopped_early() -> None:
    quoted = {trial.id: 10.0 for trial in TRIALS[:3]}
    states: tuple[Status, ...] = ("complete", "diverged", "failed")
    records = [
        Record(trial.id, status, seconds=12.0 if status == "complete" else 1.0)
        for trial, status in zip(TRIALS, states, strict=False)
    ]
    assert outcome(quoted, records) == (10.0, 12.0)
    assert outcome(quoted, records[1:]) == (0, 0)  # and then nothing is said


def made_at(
    folder: StudyFolder, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> tuple[Quote, list[Place]]:
    """The quote of four trainings of TRIALS, and the clusters that were asked: twelve slots."""
    asked = list[Place]()

    def cluster(_: str, place: Place, __: object) -> object:
        asked.append(place)
        return SimpleNamespace(slots=place.workers or 12, close=lambda: asked.append(place))

    monkeypatch.setattr(runners, "open_runner", cluster)
    monkeypatch.setattr(machine, "default_workers", lambda *_: 2)
    monkeypatch.setattr(
        estimate, "_timed", lambda _, chosen, __: {t.id: timed(t, gpu_bytes=8e9) for t in chosen}
    )
    return estimate._made(folder, TRIALS, launch), asked


@pytest.mark.parametrize(
    ("changes", "workers", "room"),
    [({}, 12, 8e9), ({"workers": 5}, 5, 8e9), ({"gpus_per_trial": 0.5}, 12, 4e9)],
)
def test_a_cluster_is_asked_how_much_it_runs_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any],
    workers: int, room: float,
) -> None:  # fmt: skip
    launch = Launch(runner="ray", ray_address="there:6379", **changes)
    made, asked = made_at(toy_waiting(tmp_path), launch, monkeypatch)
    assert (made.workers, made.memory_bytes) == (workers, room)
    assert [place.ray_address for place in asked] == ["there:6379"] * 2  # opened and closed


@pytest.mark.parametrize(("runner", "workers"), [("inline", 1), ("local", 2), ("ray", 2)])
def test_this_machine_is_quoted_by_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: Runner, workers: int
) -> None:
    launch = Launch(runner=runner, device="cpu")
    made, asked = made_at(toy_waiting(tmp_path), launch, monkeypatch)
    assert (made.workers, asked) == (workers, [])


def test_without_a_timing_the_first_reason_is_told() -> None:
    with pytest.raises(ValueError, match="nothing was timed"):
        quote(TRIALS, {}, workers=1)
    broken = Record(TRIALS[3].id, "failed", error="RuntimeError: broken\nTraceback ...")
    with pytest.raises(ValueError, match=r"^RuntimeError: broken$"):
        quote(TRIALS, {broken.trial_id: broken}, workers=1)


def toy_waiting(path: Path) -> StudyFolder:
    """Four trainings that wait, on data that is not there."""
    return toy.create(path / "toy", cells=4)


INLINE = Launch(runner="inline", device="cpu")


def test_a_quote_that_fails_tells_its_first_error_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = toy_waiting(tmp_path)
    assert quote_before(folder, INLINE) is None
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("No quote: DataError: no data set is called 'toy'")
    assert "16-16-1-4 could not be timed: DataError" in told[1]
    assert "retry" not in "".join(told)
    assert not list(folder.path.glob("quote*"))


def test_ctrl_c_while_timing_stops_the_study_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise StudyStopped("stopped: Ctrl-C\n0 of 4 trials are finished", 130)

    folder = toy_waiting(tmp_path)
    monkeypatch.setattr(run, "run_study", interrupted)
    with pytest.raises(StudyStopped, match=r"before anything was trained.*archsearch toy") as stop:
        quote_before(folder, INLINE)
    assert stop.value.exit_code == 130


def test_the_study_is_locked_while_it_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second driver would take the live timing for one that a kill has left."""
    folder, held = toy_waiting(tmp_path), list[bool]()

    def timing(*_: object) -> dict[str, Record]:
        held.append(lock.is_held(folder.path / "lock"))
        return {}

    monkeypatch.setattr(estimate, "_timed", timing)
    quote_before(folder, INLINE)
    assert held == [True]
    with folder.lock(), pytest.raises(lock.Locked, match="is in use by process"):
        quote_before(folder, INLINE)


def time_one(root: Path, recipe: Recipe) -> TrialFolder:
    from archsearch.training.data import describe

    data = describe("digits", recipe.val_fraction)
    trial = Trial(Variant(16, 8, 1, 1), recipe, data, 0)
    study = Study("q", "", "", (), recipe)
    folder = StudyFolder(root / "q").create(study, data).trial(trial.id)
    folder.write_spec(trial)
    time_steps(folder.path, "cpu")
    return folder


def test_a_recipe_that_diverges_at_once_is_timed_all_the_same(tmp_path: Path) -> None:
    record = time_one(tmp_path, replace(RECIPE, lr=1e20, warmup_epochs=0)).record()
    assert record is not None
    assert record.status == "complete"
    assert record.metrics["seconds_per_image"]


def test_a_device_is_asked_for_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no device 'cuda:63' here"):
        check_device(RECIPE, "cuda:63")
    monkeypatch.setattr(preflight, "ProcessPoolExecutor", None)
    monkeypatch.setattr(machine, "gpus", tuple)
    for device in ("cpu", "auto"):  # any CPU does, and torch is not loaded to say so
        check_device(RECIPE, device)


def test_steps_are_timed_and_nothing_is_trained(tmp_path: Path) -> None:
    folder = time_one(tmp_path, RECIPE)
    record = folder.record()
    assert record is not None
    assert record.metrics["memory_bytes"] is None
    assert all(record.metrics[name] for name in ("seconds_per_image", "setup_seconds"))
    assert record.curve == ()
    assert folder.load_checkpoint() is None
