"""`archsearch train --task`: defaults and wrong options, initial weights, and a file of weights."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import internimage
from archsearch.api.full_training import FullTraining
from archsearch.core.recipes import QUICK
from archsearch.heads.detector import Detector
from archsearch.running.train_full import WEIGHTS, train_full, training_folder
from archsearch.running.weights import read_network
from archsearch.tasks.classification import CLASSIFICATION
from archsearch.tasks.detection import Detection
from archsearch.tasks.recipes import DETECTION_RECIPES, SEGMENTATION_RECIPES
from archsearch.tasks.segmentation import Segmentation
from tests.processes import Process, wait_for
from tests.tasks.annotated import TINY, equal_numbers
from tests.tasks.test_detection import DATA, RECIPE


def test_a_task_has_its_own_defaults():
    chosen = FullTraining().chosen("T")
    assert (chosen.task, chosen.data, chosen.recipe) == (CLASSIFICATION, "digits", QUICK)
    chosen = FullTraining(task="detect", head="cascade-mask-rcnn", epochs=2).chosen("T")
    assert (chosen.task, chosen.data) == (Detection("cascade-mask-rcnn"), "pasted")
    assert (chosen.recipe.name, chosen.recipe.epochs) == ("quick-detect", 2)
    chosen = FullTraining(task="segment", head_width=64, recipe="upernet-160k").chosen("T")
    assert (chosen.task, chosen.recipe.schedule) == (Segmentation(width=64), "poly")


def test_wrong_options_are_reported_together():
    with pytest.raises(ValueError, match="task classify"):
        FullTraining(head="upernet").chosen("T")
    wrong = FullTraining(task="segment", head="mask-rcnn", recipe="table-b")
    with pytest.raises(
        ValueError, match=r"(?s)head must be upernet.*no recipe is called 'table-b'"
    ):
        wrong.chosen("T")


def test_recipes_of_the_paper_are_those_that_it_prints():
    """Section 4.2 and 4.3: batch, rate, epochs or iterations, sides, crop."""
    for name, epochs in {"mask-rcnn-1x": 12, "cascade-3x": 36}.items():
        recipe = DETECTION_RECIPES[name]
        assert (recipe.batch_size, recipe.lr, recipe.epochs) == (16, 1e-4, epochs)
        assert (recipe.image_size, recipe.longer_side) == (800, 1333)
    assert DETECTION_RECIPES["mask-rcnn-3x"].shorter_sides[::10] == (480, 800)
    recipe = SEGMENTATION_RECIPES["upernet-160k"]
    assert (recipe.batch_size, recipe.lr, recipe.image_size) == (16, 6e-5, 512)
    steps = recipe.epochs * round((1 - recipe.val_fraction) * 20_210 / 16)
    assert steps == pytest.approx(160_000, rel=0.003)
    recipes = {**DETECTION_RECIPES, **SEGMENTATION_RECIPES}
    assert all(recipe.name == name for name, recipe in recipes.items())


def test_a_detector_starts_from_a_classifier_and_its_weights_load(tmp_path):
    torch.manual_seed(0)
    classifier = internimage.InternImage(TINY.config(7))
    start, out = tmp_path / "start.safetensors", tmp_path / "out"
    internimage.save_weights(classifier, start)
    frozen = RECIPE.__class__(**{**RECIPE.to_dict(), "lr": 1e-30, "weight_decay": 0.0})
    record = train_full(TINY, frozen, DATA, out, task=Detection(width=8), start=start)
    assert f"only the backbone is taken from {start}: a classifier's weights" in record.notes
    detector = read_network(out / WEIGHTS)
    assert isinstance(detector, Detector)
    weights = dict(detector.backbone.named_parameters())
    for name, value in classifier.named_parameters():
        if not name.startswith("head."):
            torch.testing.assert_close(weights[name], value, atol=1e-20, rtol=0)
    again = train_full(TINY, frozen, DATA, tmp_path / "again", task=Detection(width=8),
                       start=out / WEIGHTS)  # fmt: skip
    assert again.metrics["val_box_ap"] == record.metrics["val_box_ap"]
    wide = TINY.with_numbers(16, 8, 1, 1)
    sizes = "it has 8, 16, 32, 64 channels"
    with pytest.raises(ValueError, match=rf"does not fit the network: {sizes} .*backbone\.levels"):
        train_full(wide, frozen, DATA, tmp_path / "wide", task=Detection(width=8), start=start)


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_average_precision(tmp_path):
    """By kill -9 in the middle; the second command is the same."""
    changes = {"batch_size": 4, "image_size": 32, "val_fraction": 0.25, "threads": 1}
    options = [f"--set={key}={value}" for key, value in changes.items()]
    options += ["--task=detect", "--head-width=8", f"--data={DATA}", "--epochs=6", "--device=cpu"]
    main = [sys.executable, "-c", "from archsearch.cli import main; main()", "train", "8-8-1-1"]
    once, killed = tmp_path / "once", tmp_path / "killed"
    with Process([*main, *options, f"--out={killed}"], stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: list(killed.glob("checkpoint-*")))
        process.kill()
    assert training_folder(killed).record() is None
    assert len(training_folder(killed).curve()) < 6
    for out in (once, killed):
        subprocess.run([*main, *options, f"--out={out}"], check=True, capture_output=True)
    equal_numbers(training_folder(once), training_folder(killed))
    page = (once / "predictions.html").read_text()
    assert page == (killed / "predictions.html").read_text()


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path):
    """Anchors so small that each image has at most 256 that are not ignored: all are in the sample,
    and nothing is drawn per process."""
    recipe = replace(RECIPE, anchor_scale=1)
    outs = {device: tmp_path / device for device in ("cpu", "cpu*2")}
    for device, out in outs.items():
        train_full(TINY, recipe, DATA, out, device=device, task=Detection(width=8))
    one, two = (training_folder(out).curve()[0] for out in outs.values())
    for name in ("train_loss", "grad_norm", "grad_norm_max"):
        assert one[name] == pytest.approx(two[name], rel=1e-4)
    weights, others = (read_network(out / WEIGHTS).state_dict() for out in outs.values())
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=0, atol=1e-4, msg=name)
