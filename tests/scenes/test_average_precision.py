"""COCO's average precision: cases that are known by hand, and COCO's own way through files."""

import contextlib
import io
import pickle

import numpy as np
import pytest
import torch

from archsearch.heads.instances import Detections
from archsearch.scenes import average_precision as module
from archsearch.scenes.average_precision import (
    MissingPackageError,
    average_precision,
    check_installed,
    image_result,
)
from archsearch.scenes.data import load
from archsearch.scenes.scene import Objects, Scene, tight_boxes
from tests.scenes.examples import rectangles, scene_of

pytest.importorskip("pycocotools")

LEFT, RIGHT = (0, 0, 40, 20), (50, 10, 90, 60)
HALF_FOUND = 100 * 51 / 101
"""Precision 1 up to recall 0.5: 51 of the 101 points at which COCO's tools read the curve."""


def detections(masks, labels, scores, masked=True):
    masks = np.asarray(masks, bool)
    return Detections(
        torch.from_numpy(tight_boxes(masks)),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int64),
        torch.from_numpy(masks) if masked else None,
    )


def ap(scene, boxes, labels=(0, 1), scores=(0.9, 0.8), kind="box"):
    found = detections(rectangles(*scene.size, *boxes), labels[: len(boxes)], scores[: len(boxes)])
    return average_precision([image_result(scene, found)], kind)


def two(labels=(0, 1)):
    return scene_of(rectangles(80, 100, LEFT, RIGHT), labels)


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_known_cases(kind):
    assert ap(two(), [LEFT, RIGHT], kind=kind)["ap"] == pytest.approx(100)
    assert ap(two(), [], kind=kind)["ap"] == 0
    assert ap(two(), [LEFT], kind=kind)["ap"] == pytest.approx(50), "one of two classes"
    one_class = two((0, 0))
    assert ap(one_class, [LEFT], kind=kind)["ap"] == pytest.approx(HALF_FOUND)
    assert ap(two(), [RIGHT, LEFT], kind=kind)["ap"] == 0, "the classes are mixed up"
    assert ap(one_class, [LEFT, RIGHT], (0, 0), kind=kind)["ap"] == pytest.approx(100)


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_an_overlap_counts_up_to_its_iou(kind):
    scene = scene_of(rectangles(50, 100, (0, 0, 100, 50)), [0])
    numbers = ap(scene, [(0, 0, 72, 50)], kind=kind)  # IoU 0.72
    assert numbers["ap"] == pytest.approx(50), "0.5, 0.55, 0.6, 0.65 and 0.7 of ten thresholds"
    assert (numbers["ap50"], numbers["ap75"]) == (pytest.approx(100), 0)


def test_a_better_score_of_a_wrong_box_halves_the_precision():
    scene = scene_of(rectangles(80, 100, LEFT), [0])
    wrong_first = ap(scene, [RIGHT, LEFT], (0, 0), (0.9, 0.8))
    assert wrong_first["ap"] == pytest.approx(50)
    assert ap(scene, [LEFT, RIGHT], (0, 0), (0.9, 0.8))["ap"] == pytest.approx(100)
    assert ap(scene, [LEFT, LEFT, RIGHT], (0, 0, 3), (0.9, 0.8, 1))["ap"] == pytest.approx(100)


def test_masks_are_measured_apart_from_boxes():
    mask = np.eye(40, dtype=bool)[None]
    whole = np.ones((1, 40, 40), bool)
    result = image_result(scene_of(mask, [0]), detections(whole, [0], [0.9]))
    assert average_precision([result], "box")["ap"] == pytest.approx(100)
    assert average_precision([result], "mask")["ap"] == 0


def test_predictions_in_a_crowd_region_are_not_wrong():
    scene = two((0, 0))
    objects = Objects(*(getattr(scene.objects, n) for n in ("boxes", "labels", "masks")),
                      np.array([False, True]), scene.objects.areas)  # fmt: skip
    crowd = Scene(scene.pixels, objects)
    inside = [(50, 10, 60, 20), (70, 30, 80, 40), LEFT]
    for kind in ("box", "mask"):
        numbers = ap(crowd, inside, (0, 0, 0), (0.9, 0.8, 0.7), kind)
        assert numbers["ap"] == pytest.approx(100)
        assert ap(scene, inside, (0, 0, 0), (0.9, 0.8, 0.7), kind)["ap"] < 40


def test_sizes_go_by_the_annotated_area():
    sides = {"small": 20, "medium": 60, "large": 100}
    for name, side in sides.items():
        numbers = ap(scene_of(rectangles(120, 120, (0, 0, side, side))), [(0, 0, side, side)])
        present = [key for key, value in numbers.items() if value is not None]
        assert present == ["ap", "ap50", "ap75", f"ap_{name}"]
    scene = scene_of(rectangles(120, 120, (0, 0, 100, 100)))
    annotated = Objects(*(getattr(scene.objects, n) for n in ("boxes", "labels", "masks", "crowd")),
                        np.array([1000], np.float32))  # fmt: skip
    numbers = ap(Scene(scene.pixels, annotated), [(0, 0, 100, 100)])
    assert (numbers["ap_small"], numbers["ap_large"]) == (pytest.approx(100), None)


def test_nothing_annotated_has_no_average_precision():
    empty = scene_of(np.zeros((0, 80, 100), bool))
    assert set(ap(empty, [LEFT]).values()) == {None}
    assert set(average_precision([], "mask").values()) == {None}
    both = [
        image_result(empty, detections(rectangles(80, 100, RIGHT), [0], [0.95])),
        image_result(two((0, 0)), detections(rectangles(80, 100, LEFT, RIGHT), [0, 0], [0.9, 0.8])),
    ]
    assert average_precision(both, "box")["ap"] == pytest.approx(100 * 2 / 3), "one more is wrong"


def test_at_most_100_predictions_of_an_image_count():
    scene = two((0, 0))
    wrong = [(0, 60, 10, 70)] * 99
    boxes, scores = [*wrong, LEFT, RIGHT], np.linspace(0.9, 0.1, 101)
    found = detections(rectangles(80, 100, *boxes), [0] * 101, scores)
    first = average_precision([image_result(scene, found)], "box")["ap"]
    assert first == pytest.approx(HALF_FOUND / 100)


def noisy(scene, random):
    """Predictions near the objects: moved, some missing, some of another class."""
    moves = random.integers(-4, 5, (len(scene.objects), 2))
    pairs = zip(scene.objects.masks, moves, strict=True)
    masks = np.stack([np.roll(mask, move, (0, 1)) for mask, move in pairs])
    labels = np.where(random.random(len(masks)) < 0.8, scene.objects.labels, 0)
    kept = random.random(len(masks)) < 0.9
    return detections(masks[kept], labels[kept], random.random(kept.sum()))


def test_the_numbers_are_those_of_cocos_tools_with_files():
    from pycocotools import mask
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    random, results = np.random.default_rng(0), []
    truth = {"images": [], "annotations": [], "categories": [{"id": i + 1} for i in range(10)]}
    answers = []
    for image in range(30):
        scene = load("pasted:images=50").train[image]
        found = noisy(scene, random)
        results.append(image_result(scene, found))
        truth["images"].append({"id": image + 7, "height": 128, "width": 160})
        for k in range(len(scene.objects)):
            x1, y1, x2, y2 = scene.objects.boxes[k].tolist()
            encoded = mask.encode(np.asfortranarray(scene.objects.masks[k], np.uint8))
            truth["annotations"].append(
                {"id": len(truth["annotations"]) + 1, "image_id": image + 7, "iscrowd": 0,
                 "category_id": int(scene.objects.labels[k]) + 1, "segmentation": encoded,
                 "bbox": [x1, y1, x2 - x1, y2 - y1], "area": float(mask.area(encoded))}
            )  # fmt: skip
        for k in range(len(found)):
            x1, y1, x2, y2 = found.boxes[k].tolist()
            encoded = mask.encode(np.asfortranarray(found.masks[k].numpy(), np.uint8))
            answers.append(
                {"image_id": image + 7, "category_id": int(found.labels[k]) + 1,
                 "bbox": [x1, y1, x2 - x1, y2 - y1], "score": float(found.scores[k]),
                 "segmentation": encoded}
            )  # fmt: skip
    for kind, name in (("box", "bbox"), ("mask", "segm")):
        other = "segmentation" if kind == "box" else "bbox"
        only = [{k: v for k, v in answer.items() if k != other} for answer in answers]
        with contextlib.redirect_stdout(io.StringIO()):
            gt = COCO()
            gt.dataset = truth
            gt.createIndex()
            evaluation = COCOeval(gt, gt.loadRes(only), name)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        expected = [None if v < 0 else 100 * v for v in evaluation.stats[:6]]
        numbers = average_precision(results, kind)
        assert list(numbers.values()) == [v and pytest.approx(v) for v in expected]
        assert 5 < numbers["ap"] < 95


def test_results_travel_between_processes_and_print_nothing(capfd):
    results = [image_result(two(), detections(rectangles(80, 100, LEFT), [0], [0.9]))]
    copied = pickle.loads(pickle.dumps(results))
    assert average_precision(copied, "mask") == average_precision(results, "mask")
    assert capfd.readouterr().out == ""


def test_boxes_without_masks_are_measured():
    scene = scene_of(rectangles(80, 100, LEFT), masked=False)
    found = detections(rectangles(80, 100, LEFT), [0], [0.9], masked=False)
    assert average_precision([image_result(scene, found)], "box")["ap"] == pytest.approx(100)


def test_a_missing_pycocotools_is_reported_with_its_command(monkeypatch):
    check_installed()
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match="pip install pycocotools"):
        check_installed()
    with pytest.raises(ValueError, match="not installed"):
        average_precision([], "box")
