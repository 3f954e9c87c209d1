"""The training loop on annotated images: resumed to the bit, and over several processes."""

from dataclasses import replace

import pytest

from archsearch.core.interrupted import Interrupted
from archsearch.core.recipes import QUICK
from archsearch.families.internimage import Variant
from archsearch.running.train_trial import train_trial
from archsearch.storage.trial_folder import TrialFolder
from archsearch.study import Trial
from tests.scenes.toy_segmentation import ToySegmentation
from tests.training.trainings import after

RECIPE = replace(QUICK, batch_size=8, image_size=64, lr=5e-3)  # 40 images, and 10 held out
TASK = ToySegmentation()


def folder_of(path):
    data = TASK.describe("pasted:images=50", RECIPE)
    trial = Trial(Variant(8, 8, 1, 1), RECIPE, data, 0, task=TASK)
    folder = TrialFolder(path / trial.id)
    folder.path.mkdir(parents=True)
    folder.write_spec(trial)
    return folder


def numbers(folder):
    rows = [(row["train_loss"], row["val_miou"], row["grad_norm"]) for row in folder.curve()]
    return rows, folder.record().metrics["test_miou"]


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path):
    once, resumed = (folder_of(tmp_path / name) for name in ("once", "resumed"))
    train_trial(once.path, "cpu")
    with pytest.raises(Interrupted):
        train_trial(resumed.path, "cpu", after(7))
    train_trial(resumed.path, "cpu")
    assert numbers(once) == numbers(resumed)
    losses = [loss for loss, *_ in numbers(once)[0]]
    assert losses[1] < losses[0] < 2.4, "below a guess among 11 classes"


@pytest.mark.slow
def test_two_processes_measure_what_one_measures(tmp_path):
    one, two = (folder_of(tmp_path / name) for name in ("one", "two"))
    train_trial(one.path, "cpu")
    train_trial(two.path, "cpu*2")
    (rows, test), (other_rows, other_test) = numbers(one), numbers(two)
    for row, other in zip(rows, other_rows, strict=True):
        assert row == pytest.approx(other, rel=1e-3)
    assert test == pytest.approx(other_test, rel=1e-3)
