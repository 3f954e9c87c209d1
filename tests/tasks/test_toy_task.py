"""A user-defined task is trained, measured, ranked and resumed without other edits."""

from dataclasses import replace
from pathlib import Path

import pytest

from archsearch.core.cell import Cell
from archsearch.core.interrupted import Interrupted
from archsearch.core.recipes import resolve
from archsearch.families.internimage import Variant
from archsearch.results import load
from archsearch.running.run import run_study
from archsearch.running.train_trial import train_trial
from archsearch.storage.study_folder import StudyFolder, TrialFolder
from archsearch.study import Study
from archsearch.tasks.classification import CLASSIFICATION
from archsearch.training.data import describe
from tests.tasks.toy_task import Brightness

RECIPE = resolve("quick", {"epochs": "2", "data_fraction": "0.1"})
CELLS = tuple(
    Cell({"c1": c1}, "exact", Variant(c1, 8, 1, 1), Variant(c1, 8, 1, 1).cost()) for c1 in (8, 16)
)
STUDY = Study("toy", "How bright?", "here", CELLS, RECIPE, task=Brightness())


def create(path: Path) -> StudyFolder:
    return StudyFolder(path).create(STUDY, describe("digits", RECIPE.val_fraction))


def test_the_file_is_short() -> None:
    assert len(Path(__file__).with_name("toy_task.py").read_text().splitlines()) <= 40


def test_it_trains_and_its_own_metric_ranks(tmp_path: Path) -> None:
    folder = create(tmp_path / "toy")
    run_study(folder, folder.trials(), runner="inline", device="cpu")
    results = load(folder.path)
    assert results.study == STUDY
    assert results.compare().metric.name == STUDY.metric == "val_error"
    record = results.trials[0].record
    assert record is not None
    assert {"val_error", "test_error", "best_val_error", "train_loss"} <= record.metrics.keys()
    assert "val_accuracy" not in record.metrics
    assert record.metrics["val_error"] == min(row["val_error"] for row in record.curve)
    with pytest.raises(ValueError, match="unknown metric 'val_accuracy'"):
        results.compare("val_accuracy")


def test_a_resumed_trial_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    once, resumed = (first_trial(tmp_path / name) for name in ("once", "resumed"))
    train_trial(once.path, "cpu")
    calls = iter(range(2))
    with pytest.raises(Interrupted):
        train_trial(resumed.path, "cpu", lambda: next(calls, None) is None)
    train_trial(resumed.path, "cpu")
    curves = [[(row["train_loss"], row["val_error"]) for row in f.curve()] for f in (once, resumed)]
    assert len(curves[0]) == 2
    assert curves[0] == curves[1]


def first_trial(path: Path) -> TrialFolder:
    folder = create(path)
    trial = folder.trials()[0]
    folder.trial(trial.id).write_spec(trial)
    return folder.trial(trial.id)


def test_the_task_is_part_of_a_trials_identity() -> None:
    data = describe("digits", RECIPE.val_fraction)
    variant = Variant(8, 8, 1, 1)
    trial = STUDY.trial(variant, data, 0)
    assert trial.id != replace(trial, task=CLASSIFICATION).id
    assert "task" not in replace(trial, task=CLASSIFICATION).to_dict()
