"""Evaluation of saved weights: equal to the training's records, wrong input in one message."""

import json
from dataclasses import replace

import pytest
import torch

import archsearch
import internimage
from archsearch.api.evaluate import Evaluate, evaluate_weights
from archsearch.core.recipes import QUICK
from archsearch.evaluation import SavedNetwork, measure
from archsearch.running.train_full import WEIGHTS, train_full
from archsearch.tasks.detection import Detection
from archsearch.tasks.segmentation import Segmentation
from internimage.description import Description, Preprocessing
from tests.tasks.annotated import TINY

DATA = "pasted:images=10"
RECIPE = replace(
    QUICK, name="tiny", epochs=1, batch_size=8, image_size=32, lr=1e-3, warmup_epochs=0,
    val_fraction=0.25,
)  # fmt: skip
SEGMENT = Segmentation(width=8)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmenter")
    return folder / WEIGHTS, train_full(TINY, RECIPE, DATA, folder, task=SEGMENT)


def evaluated(weights, **options):
    return evaluate_weights(str(weights), Evaluate(**options))


def test_a_segmenter_has_the_miou_of_its_record(segmenter):
    weights, record = segmenter
    for split in ("val", "test"):
        row = evaluated(weights, data=DATA, split=split)
        assert (row["images"], row["scales"], row["flip"]) == (2, [1.0], False)
        for name in (f"{split}_miou", f"{split}_pixel_accuracy"):
            assert row[name] == pytest.approx(record.metrics[name], rel=1e-4), name


def test_one_scale_without_flip_is_the_single_scale(segmenter):
    weights, _ = segmenter
    once = evaluated(weights, data=DATA)
    assert evaluated(weights, data=DATA, scales="1") == once
    several = evaluated(weights, data=DATA, scales=[0.5, 1.0, 1.75], flip=True)
    assert several["scales"] == [0.5, 1.0, 1.75]
    assert several["val_pixel_accuracy"] != once["val_pixel_accuracy"]


class Symmetric(torch.nn.Module):
    """Logits from the colors of each pixel, and of its mirror image if it is not symmetric."""

    def __init__(self, shift):
        super().__init__()
        self.mix = torch.nn.Conv2d(3, 11, 1)
        self.shift = shift

    def forward(self, images):
        return 3 * self.mix(images.roll(self.shift, -1))


@pytest.mark.parametrize(("shift", "equal"), [(0, True), (9, False)])
def test_flips_change_only_what_is_not_symmetric(shift, equal):
    torch.manual_seed(0)
    saved = SavedNetwork("mix", Symmetric(shift), 11, SEGMENT, RECIPE)
    data = SEGMENT.describe(DATA, RECIPE)
    once, twice = (
        measure(saved, data, RECIPE, "test", torch.device("cpu"), (1.0,), flip)
        for flip in (False, True)
    )
    assert (twice == pytest.approx(once, rel=1e-4)) is equal


def test_a_classifier_and_a_detector_have_their_own_measures(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "classifier.safetensors"
    model = internimage.InternImage(TINY.config(10))
    model.description = Description(preprocessing=Preprocessing(32, (0.5,), (0.5,)))
    internimage.save_weights(model, path)
    row = archsearch.evaluate(path, data="digits", split="test")
    assert row == archsearch.evaluate(path, data="digits", split="test", size=32)
    assert (row["images"], "scales" in row) == (359, False)
    assert 0 <= row["test_accuracy"] <= 100
    record = train_full(TINY, RECIPE, DATA, tmp_path / "detector", task=Detection(width=8))
    row = evaluated(tmp_path / "detector" / WEIGHTS, data=DATA)
    assert row["val_box_ap"] == record.metrics["val_box_ap"]


def test_everything_wrong_is_one_message(segmenter, run_cli, tmp_path):
    weights, _ = segmenter
    code, out, err = run_cli(
        "evaluate", str(weights), "--data", "pasted:images=1", "--scales", "0,x", "--device", "abc",
        "--size", "0",
    )  # fmt: skip
    assert (code, out) == (2, "")
    for words in ("from 10 to", "image_size must be 1 or more", "scales must be", "no device"):
        assert words in err
    code, _, err = run_cli("evaluate", str(tmp_path / "none"), "--scales", "")
    assert code == 2
    assert "weights must be a file, RUN:best or RUN:TRIAL" in err
    assert "scales must be numbers" in err
    path = tmp_path / "T.safetensors"
    internimage.save_weights(internimage.InternImage(TINY.config(7)), path)
    code, _, err = run_cli("evaluate", str(path), "--data", "digits", "--flip")
    assert code == 2
    for words in ("image size of its training", "T has 7 classes, digits 10",
                  "which images were held out", "scales and flip are of segmenters"):  # fmt: skip
        assert words in err
    code, _, err = run_cli("evaluate", str(path), "--size", "32")
    assert "on which data to measure" in err


def test_the_command_prints_a_row(segmenter, run_cli):
    weights, record = segmenter
    arguments = ["evaluate", str(weights), "--data", DATA, "--split", "test"]
    code, out, err = run_cli(*arguments, "--format", "json")
    assert (code, err) == (0, "")
    row = json.loads(out)
    assert row["network"] == "weights"
    assert row["test_miou"] == pytest.approx(record.metrics["test_miou"], rel=1e-4)
    _, out, _ = run_cli(*arguments)
    assert f"{row['test_miou']:.4g}" in out
