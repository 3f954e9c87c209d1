"""Consistency equals hand calculation; shifts and rotations move pixels as specified."""

import math
from dataclasses import replace

import pytest
import torch

from archsearch.cli import probe
from archsearch.core.cell import Cell
from archsearch.core.recipes import QUICK, resolve
from archsearch.families.internimage import Variant
from archsearch.probes.networks import open_network
from archsearch.probes.robustness import compare, consistency, rotate, shift, transforms, wilson
from archsearch.reports import robustness as report
from archsearch.running.train_trial import train_trial
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Study
from archsearch.training.data import load, split

SIZE = 28
"""An eighth of 224: the paper's shifts of 0, 8, ... 64 are 0, 1, ... 8."""


class Predictor(torch.nn.Module):
    """A network whose prediction is a function of the images."""

    def __init__(self, predict):
        super().__init__()
        self.predict = predict

    def forward(self, images):
        return torch.nn.functional.one_hot(self.predict(images).long(), 2).float()


def measured(predict, images):
    labels = torch.zeros(len(images), dtype=torch.int64)
    return consistency("it", Predictor(predict), [(images, labels)], SIZE)


def test_an_invariant_model_is_consistent_throughout():
    rows = measured(lambda x: torch.ones(len(x)), torch.randn(6, 3, SIZE, SIZE))
    assert {c.share for c in rows} == {1.0}
    assert {c.high for c in rows} == {1.0}
    assert {c.accuracy for c in rows} == {0.0}  # all labels are 0, all predictions 1
    assert [c.amount for c in rows if c.transform == "translation"] == list(range(9))
    assert [c.amount for c in rows if c.transform == "rotation"] == list(range(0, 46, 5))


def test_a_prediction_by_one_pixel_changes_with_the_pixel():
    """One image has a bright pixel in row 14, column 3, and the model predicts whether it is there.
    Every shift changes that prediction, and none changes those of the three dark images."""
    images = torch.zeros(4, 3, SIZE, SIZE)
    images[0, :, 14, 3] = 1
    rows = {(c.transform, c.amount): c for c in measured(lambda x: x[:, 0, 14, 3] > 0.5, images)}
    assert rows["translation", 0].share == 1
    assert all(rows["translation", a].share == 3 / 4 for a in range(1, 9))
    # A bright line: shifts along it (2 of 4) keep the prediction while it covers the pixel.
    images[0, :, 14, 3:12] = 1
    shares = {
        (c.transform, c.amount): c.share for c in measured(lambda x: x[:, 0, 14, 7] > 0.5, images)
    }
    assert shares["translation", 4] == (3 + 2 / 4) / 4
    assert shares["translation", 5] == 3 / 4


def test_a_shift_is_to_the_right_and_down_and_filled_with_zeros():
    x = torch.arange(12.0).reshape(1, 1, 3, 4) + 1
    assert shift(x, 1, 0)[0, 0].tolist() == [[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11]]
    assert shift(x, 0, -2)[0, 0].tolist() == [[9, 10, 11, 12], [0] * 4, [0] * 4]
    assert not shift(x, 4, 0).any()


def test_a_rotation_moves_a_point_as_trigonometry_says():
    x = torch.zeros(1, 1, 41, 41)
    x[0, 0, 20, 35] = 1  # 15 to the right of the middle
    rotated = rotate(x, 30)[0, 0]
    rows, columns = torch.meshgrid(torch.arange(41.0), torch.arange(41.0), indexing="ij")
    center = ((columns * rotated).sum() / rotated.sum(), (rows * rotated).sum() / rotated.sum())
    expected = (20 + 15 * math.cos(math.radians(30)), 20 - 15 * math.sin(math.radians(30)))
    assert [float(v) for v in center] == pytest.approx(expected, abs=0.1)
    assert torch.allclose(rotate(x, 90)[0, 0], torch.rot90(x[0, 0]), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "pixels"), [(224, list(range(0, 65, 8))), (32, [0, 1, 2, 3, 5, 6, 7, 8, 9])]
)
def test_shifts_scale_with_the_image(size, pixels):
    shifts = [
        (amount, paper) for name, amount, paper, _ in transforms(size) if name == "translation"
    ]
    assert [amount for amount, _ in shifts] == pixels
    assert all(paper == pytest.approx(amount * 224 / size) for amount, paper in shifts)


def test_the_interval_is_wilsons():
    # Newcombe (1998), table I: 81 of 263.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(1.0, 20) == (pytest.approx(0.8389, abs=5e-5), 1.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Train one small network on a part of the digits."""
    from archsearch.training.data import describe

    changes = {"epochs": "1", "data_fraction": "0.2", "image_size": "16", "ema_decay": "0.5"}
    recipe = resolve("quick", changes)
    cell = Cell({"l1": 1}, "exact", Variant(8, 8, 1, 1), None)
    study = Study("tiny", "?", "tests", (cell,), recipe)
    path = tmp_path_factory.mktemp("runs") / "tiny"
    folder = StudyFolder(path).create(study, describe("digits", recipe.val_fraction))
    (trial,) = folder.trials()
    folder.trial(trial.id).write_spec(trial)
    train_trial(folder.trial(trial.id).path, "cpu")
    return folder


def test_a_trained_network_has_the_accuracy_of_its_record(run):
    """The weights (averaged ones here), the normalization and the split are the training's own."""
    network = open_network(f"{run.path}:best")
    assert network.trained
    assert network.image_size == 16
    rows = compare([network], max_images=10_000)
    (trial,) = run.trials()
    record = run.trial(trial.id).record()
    _, held_out = split(load("digits").train.labels, QUICK.val_fraction)
    assert rows[0].num_images == len(held_out)
    assert rows[0].accuracy == pytest.approx(record.metrics["val_accuracy"], abs=1e-6)
    other = open_network(f"{run.path}:{trial.id[:6]}")
    assert torch.equal(other.model.head.linear.weight, network.model.head.linear.weight)


def test_networks_with_the_same_numbers_have_different_names(run):
    network = open_network(f"{run.path}:best")
    five = replace(network.trial, variant=Variant(8, 8, 1, 1, kernel_size=5))
    rows = compare([network, replace(network, trial=five)], max_images=8)
    assert {c.network for c in rows} == {"8-8-1-1 kernel_size=3", "8-8-1-1 kernel_size=5"}
    assert {c.network for c in compare([network] * 2, max_images=8)} == {
        "8-8-1-1 (1)",
        "8-8-1-1 (2)",
    }


def test_another_image_size_than_in_training_gives_a_warning(run, capfd):
    probe._warn_about_size(open_network(f"{run.path}:best"), 16)
    assert not capfd.readouterr().err
    probe._warn_about_size(open_network(f"{run.path}:best"), 224)
    assert "trained on images of 16 x 16, this image is 224 x 224" in capfd.readouterr().err


def test_names_without_a_network_are_errors(run, tmp_path):
    with pytest.raises(ValueError, match="no cell or trial"):
        open_network(f"{run.path}:zzz")
    with pytest.raises(ValueError, match="holds no study"):
        open_network(f"{tmp_path}:best")
    with pytest.raises(ValueError, match="no network is called"):
        open_network("Q")
    with pytest.raises(ValueError, match="--data"):
        compare([open_network("8-8-1-1")])


def test_the_report_names_the_scaled_shifts(tmp_path):
    rows = measured(lambda x: torch.ones(len(x)), torch.randn(2, 3, SIZE, SIZE))
    paths = {path.suffix: path for path in report.render(rows, SIZE, tmp_path)}
    assert "8 px | 64 px | 100.0" in paths[".md"].read_text()
    assert "8 equal 64 of the paper" in paths[".svg"].read_text()
