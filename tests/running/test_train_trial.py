"""Training: it learns, repeats to the last bit, resumes anywhere, and ends with a record."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from importlib import metadata
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from archsearch.core.interrupted import Interrupted
from archsearch.core.recipes import QUICK
from archsearch.running import train_trial as train_trial_module
from archsearch.running.train_trial import train_trial
from archsearch.storage import checkpoint
from archsearch.storage.study_folder import TrialFolder
from archsearch.tasks.classification import Classification
from archsearch.training import data, loop, measure, step
from archsearch.training.data import DataError
from archsearch.training.measure import measure_test, recalibrate, validate
from archsearch.training.state import progress_of
from internimage import InternImage
from tests.training.trainings import (
    ALL_ON,
    SHORT,
    TINY,
    after,
    assert_same,
    results,
    trial_folder,
)


def test_digits_are_learned_and_the_record_is_complete_on_a_node_with_few_packages(tmp_path):
    """Such a node may lack the packages of plans, reports and tests."""
    folder = trial_folder(tmp_path, replace(QUICK, epochs=1, lr=2e-3))
    absent = ["optuna", "fvcore", "ray", "pandas", "matplotlib", "typer", "rich", "jinja2"]
    absent += ["safetensors", "kornia"]
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({absent}))\n"
        "from archsearch.running.train_trial import train_trial\n"
        "from pathlib import Path\n"
        f"train_trial(Path({json.dumps(str(folder.path))}))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    record = folder.record()
    assert record.status == "complete"
    assert record.metrics["val_accuracy"] > 70
    assert record.metrics["test_accuracy"] > 70
    assert record.metrics["val_accuracy"] == record.curve[-1]["val_accuracy"]
    assert all(value is not None and value > 0 for value in record.metrics.values())
    assert record.cost.params == sum(
        p.numel() for p in InternImage(TINY.config_for(10, QUICK)).parameters()
    )
    assert (record.cost.image_size, record.device[:4]) == (32, "cpu ")
    assert record.versions["torch"] == metadata.version("torch")
    assert record.seconds > 0


@pytest.fixture
def spending(monkeypatch):
    """Time passes in these functions only, so many seconds a call; returns the number of steps."""
    now, steps = [100.0], []

    def spend(owner, name, seconds):
        function = getattr(owner, name)

        def spent(*args, **kwargs):
            now[0] += seconds
            steps.extend([name] if name == "take_step" else [])
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, spent)

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for owner, name, seconds in (
        (Classification, "check", 11.0), (loop, "take_step", 1.0), (measure, "recalibrate", 3.0),
        (Classification, "measure", 5.0), (checkpoint, "save", 7.0),
    ):  # fmt: skip
        spend(owner, name, seconds)
    return steps


def test_the_parts_of_a_record_are_all_of_its_time(tmp_path, spending):
    folder = trial_folder(tmp_path)
    train_trial(folder.path)
    record = folder.record()
    epochs = len(record.curve)
    parts = {"start": 11, "steps": len(spending), "calibration": 3 * epochs}
    parts |= {"validation": 5 * epochs, "checkpoints": 7 * epochs, "test": 5}
    assert {name: record.metrics[f"{name}_seconds"] for name in parts} == parts
    assert record.seconds == sum(parts.values())


def test_the_parts_of_a_resumed_trial_add_up(tmp_path, spending):
    folder = trial_folder(tmp_path)
    with pytest.raises(Interrupted):
        train_trial(folder.path, stop=after(3))
    train_trial(folder.path)
    record = folder.record()
    assert record.metrics["start_seconds"] == 2 * 11
    assert record.metrics["steps_seconds"] == len(spending)
    assert record.metrics["test_seconds"] == 5


def test_a_checkpoint_without_parts_counts_the_seconds_of_its_epochs():
    row = {"epoch": 1, "seconds": 4.0}
    old = {"micro_batch": 2, "epoch": 1, "epoch_seconds": 1.5, "curve": [row]}
    assert progress_of(old).parts == {"earlier": 5.5}
    assert progress_of({**old, "parts": {"steps": 1.0}}).parts == {"steps": 1.0}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A training with every option, in one go."""
    folder = trial_folder(tmp_path_factory.mktemp("unbroken"), ALL_ON)
    train_trial(folder.path)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training of two epochs."""
    folder = trial_folder(tmp_path_factory.mktemp("trained"))
    train_trial(folder.path)
    return folder


def test_a_trial_stopped_anywhere_and_resumed_gives_the_same_bits(tmp_path, unbroken):
    resumed = trial_folder(tmp_path, ALL_ON)
    for steps in (2, 3, 4):  # inside an epoch, at its end, inside the next
        with pytest.raises(Interrupted):
            train_trial(resumed.path, stop=after(steps))
    train_trial(resumed.path)
    assert_same(results(unbroken), results(resumed))
    assert [row["epoch"] for row in resumed.curve()] == [1, 2, 3]


def test_the_seed_determines_the_result(tmp_path, unbroken):
    again = trial_folder(tmp_path, ALL_ON)
    torch.rand(7)  # earlier random numbers must not matter
    train_trial(again.path)
    assert_same(results(unbroken), results(again))
    other = trial_folder(tmp_path, ALL_ON, seed=4)
    train_trial(other.path)
    assert results(other)[0]["curve"] != results(unbroken)[0]["curve"]


def test_a_kill_between_checkpoint_and_event_loses_neither(tmp_path, monkeypatch):
    folder = trial_folder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(TrialFolder, "append_event", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_trial(folder.path)
    assert folder.curve() == ()
    assert folder.load_checkpoint()[1]["progress"]["epoch"] == 1
    train_trial(folder.path)
    assert [row["epoch"] for row in folder.curve()] == [1, 2]
    assert [row["epoch"] for row in folder.record().curve] == [1, 2]


def test_only_the_last_checkpoint_is_kept_and_holds_the_weights(trained):
    assert [c.steps for c in checkpoint.stored(trained.path)] == [10]
    _, stored = trained.load_checkpoint()
    assert stored["optimizer"] is None
    InternImage(TINY.config_for(10, SHORT)).load_state_dict(stored["model"])


def test_a_loss_that_is_not_finite_ends_with_a_record_without_a_test_score(tmp_path):
    folder = trial_folder(tmp_path, replace(SHORT, lr=1e20, warmup_epochs=0))
    train_trial(folder.path)
    record = folder.record()
    assert record.status == "diverged"
    assert "in epoch 1, by step" in record.error
    assert record.metrics["val_accuracy"] is None
    assert record.metrics["test_accuracy"] is None


def test_a_record_has_the_last_epochs_numbers_but_none_if_the_training_diverged(
    tmp_path, monkeypatch, trained
):
    record = trained.record()
    assert record.metrics["train_loss"] == record.curve[1]["train_loss"]
    assert record.metrics["val_loss"] == record.curve[1]["val_loss"]

    def diverge_late(training):
        if training.progress.epoch == 1:
            raise step.Diverged("late")

    monkeypatch.setattr(step, "check_finite", diverge_late)
    folder = trial_folder(tmp_path)
    train_trial(folder.path)
    record = folder.record()
    assert (record.status, len(record.curve)) == ("diverged", 1)
    assert record.metrics["val_loss"] is None
    assert record.metrics["best_val_accuracy"] == record.curve[0]["val_accuracy"]


def test_the_test_split_is_measured_once_at_the_end(tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(
        train_trial_module,
        "measure_test",
        lambda training: measured.append(training.finished) or measure_test(training),
    )
    train_trial(trial_folder(tmp_path).path)
    assert measured == [True]


def test_without_a_validation_split_there_is_no_validation_score(tmp_path):
    folder = trial_folder(tmp_path, replace(SHORT, val_fraction=0.0))
    train_trial(folder.path)
    metrics = folder.record().metrics
    assert (metrics["val_accuracy"], metrics["best_val_accuracy"]) == (None, None)
    assert metrics["test_accuracy"] > 0


@pytest.mark.parametrize(("val_fraction", "most"), [(0.0, 1), (0.1, 2)])
def test_batch_norm_is_calibrated_only_before_a_measurement(
    tmp_path, monkeypatch, val_fraction, most
):
    recipe = replace(SHORT, val_fraction=val_fraction)
    calibrated = []

    def count(training):
        calibrated.append(training.progress.epoch + 1)
        recalibrate(training)

    monkeypatch.setattr(measure, "recalibrate", count)
    folder = trial_folder(tmp_path / "sparing", recipe)
    train_trial(folder.path)
    assert calibrated == [1, 2][-most:]
    every_epoch = trial_folder(tmp_path / "every epoch", recipe)
    monkeypatch.setattr(loop, "validate", lambda training: count(training) or validate(training))
    train_trial(every_epoch.path)
    assert_same(results(folder), results(every_epoch))


def test_other_data_than_planned_is_refused(tmp_path):
    folder = trial_folder(tmp_path, fingerprint="0" * 16)
    with pytest.raises(DataError, match="not the data this trial was planned with"):
        train_trial(folder.path)
    assert folder.record() is None


def test_a_long_epoch_reports_heartbeats_and_is_saved_midway(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "HEARTBEAT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    saved = []
    save = TrialFolder.save_checkpoint
    monkeypatch.setattr(
        TrialFolder,
        "save_checkpoint",
        lambda self, values, steps, best: saved.append(steps) or save(self, values, steps, best),
    )
    folder = trial_folder(tmp_path)
    train_trial(folder.path)
    heartbeats = [event for event in folder.events() if "in_epoch" in event]
    assert [(h["in_epoch"], h["step"], h["steps"]) for h in heartbeats][:5] == [
        (1, n, 5) for n in (1, 2, 3, 4, 5)
    ]
    assert all("epoch" not in heartbeat for heartbeat in heartbeats)
    assert len(folder.curve()) == 2
    assert saved == sorted(saved) == list(range(1, 11))


@pytest.mark.parametrize("clip_norm", [0.5, 50.0])
def test_what_saves_time_changes_no_number_of_a_record(tmp_path, monkeypatch, clip_norm):
    recipe = replace(ALL_ON, clip_norm=clip_norm)
    fast = trial_folder(tmp_path / "fast", recipe)
    train_trial(fast.path)

    def clip(training):
        return torch.nn.utils.clip_grad_norm_(training.model.parameters(), clip_norm)

    monkeypatch.setattr(step, "_clip_gradients", clip)
    monkeypatch.setattr(data, "digits_table", scikit_learns_digits)
    data._load.cache_clear()
    plain = trial_folder(tmp_path / "plain", recipe)
    train_trial(plain.path)
    data._load.cache_clear()
    assert_same(results(fast), results(plain))


def scikit_learns_digits():
    digits = load_digits()
    return np.column_stack([digits.data, digits.target])
