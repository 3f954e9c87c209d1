"""The box mAP on scaled images equals what follows by hand from boxes of known size."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

import internimage
from archsearch.core.recipes import QUICK
from archsearch.evaluation import SavedNetwork
from archsearch.heads.instances import Detections
from archsearch.probes.scale_invariance import FACTORS, check_detector, scale_invariance
from archsearch.reports import scale_invariance as report
from archsearch.running.weights import Built, write_weights
from archsearch.scenes.data import load
from archsearch.tasks.detection import Detection
from tests.tasks.annotated import TINY

RECIPE = replace(QUICK, image_size=64, val_fraction=0.2)
DATA, TASK, CPU = "pasted:images=10", Detection(width=8), torch.device("cpu")


class Fixed(torch.nn.Module):
    """A detector that returns one box of a fixed size: in shares of the image, or in its pixels."""

    def __init__(self, box, in_pixels, label=0):
        super().__init__()
        self.box, self.in_pixels, self.label = torch.tensor([box]), in_pixels, label

    def forward(self, images, targets, sizes, originals):
        assert (len(images), targets) == (1, None)
        found = []
        for (height, width), original in zip(sizes, originals, strict=True):
            scale = [1 / width, 1 / height] * 2 if self.in_pixels else [1.0] * 4
            to_original = torch.tensor([original[1], original[0]] * 2)
            boxes = self.box * torch.tensor(scale) * to_original
            found.append(Detections(boxes, torch.ones(1), torch.tensor([self.label]), None))
        return found


def measured(box, in_pixels, max_images=1000):
    saved = SavedNetwork("fixed", Fixed(box, in_pixels), 10, TASK, RECIPE, DATA)
    data = TASK.describe(DATA, RECIPE)
    return scale_invariance(saved, data, RECIPE, "val", CPU, max_images)


def test_boxes_that_scale_with_the_image_are_consistent_throughout():
    points = measured([0.1, 0.2, 0.6, 0.9], in_pixels=False)
    assert tuple(p.factor for p in points) == FACTORS == (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75,
                                                          2.0, 2.25, 2.5, 2.75, 3.0)  # fmt: skip
    assert [p.shorter_side for p in points][::4] == [16, 80, 144]
    assert [p.consistency for p in points] == pytest.approx([100] * 12)
    assert len({p.box_ap for p in points}) == 1
    assert {p.num_images for p in points} == {2}


def test_boxes_of_the_same_pixels_overlap_as_the_factor_says():
    """The box is a fraction 1/f^2 of that at factor 1 (f above 1), or f^2 (below): at 1.25, IoU
    0.64 exceeds 0.5, 0.55 and 0.6 of the ten thresholds, and at 0.75, 0.5625 the first two."""
    points = {p.factor: p for p in measured([0.0, 0.0, 16.0, 16.0], in_pixels=True)}
    expected = {0.5: 0, 0.75: 20, 1.0: 100, 1.25: 30, 1.5: 0, 3.0: 0}
    for factor, value in expected.items():
        assert points[factor].consistency == pytest.approx(value, abs=1e-6)


def test_the_truth_is_the_annotation_of_the_image_as_stored():
    """A detector of the only object of a class is right about one of the classes of the image."""
    scenes, data = load(DATA), TASK.describe(DATA, RECIPE)
    first = np.random.RandomState(0).permutation(2)[0]
    scene = scenes.train[int(TASK.prepare(data, RECIPE, CPU).val[first])]
    counts = Counter(scene.objects.labels.tolist())
    label = next(label for label, number in counts.items() if number == 1)
    box = scene.objects.boxes[scene.objects.labels == label][0] / (scene.size[::-1] * 2)
    saved = SavedNetwork("one", Fixed(box.tolist(), False, label), 10, TASK, RECIPE, DATA)
    points = scale_invariance(saved, data, RECIPE, "val", CPU, 1)
    assert [p.box_ap for p in points] == pytest.approx([100 / len(counts)] * 12)


def test_only_detectors_are_measured():
    with pytest.raises(ValueError, match="fixed is no detector: train one with --task detect"):
        check_detector(SavedNetwork("fixed", torch.nn.Identity(), 10))


def test_the_report_has_a_row_per_factor_and_two_panels(tmp_path):
    points = measured([0.1, 0.2, 0.6, 0.9], in_pixels=False, max_images=1)
    names = {path.name for path in report.render(points, tmp_path)}
    assert {"scale-invariance.png", "scale-invariance.csv"} <= names
    table = report.table(points)
    assert len(table.body) == 12
    assert table.body[3][1:4] == ("1", "64 px", "100.0")
    assert "of 1 images" in table.note
    assert [ax.get_title(loc="left") for ax in report.figure(points).axes] == list(
        report.TITLES.values()
    )


def test_the_command_refuses_all_that_is_wrong_and_writes_the_curves(
    tmp_path, run_cli, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    internimage.save_weights(internimage.InternImage(TINY.config(10)), tmp_path / "c.safetensors")
    built = Built(TINY, RECIPE, 10, TASK)
    model = TASK.build(TINY, TASK.describe(DATA, RECIPE), RECIPE)
    write_weights(built, model.state_dict(), tmp_path / "d.safetensors")
    code, _, err = run_cli("scale-invariance", "nothing", "d.safetensors", "--device", "tpu")
    assert code == 2
    for part in ("'nothing' is none of them", "give data", "tpu"):
        assert part in err
    split = ("--size", "32", "--split", "test", "--device", "cpu")
    code, _, err = run_cli("scale-invariance", "c.safetensors", "--data", "digits", *split)
    assert (code, "c is no detector" in err) == (2, True)
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"] * 2
    options = ("--data", DATA, *split, "--images", "1", "--format", "json")
    code, out, err = run_cli("scale-invariance", "d.safetensors", *options)
    assert code == 0, err
    assert [row["shorter_side"] for row in json.loads(out)] == list(range(8, 97, 8))
    assert (tmp_path / "runs/scale-invariance/scale-invariance.svg").exists()
