"""Predictions on images: which objects are drawn, where, and with which words."""

import re
from dataclasses import replace

import numpy as np
import pytest

from archsearch.reports.predictions import PREDICTIONS as PREDICTIONS_CARD
from archsearch.reports.predictions import figure, render, write_page
from archsearch.reports.provenance import verify
from archsearch.reports.render import render_all
from archsearch.reports.report import compute_report
from archsearch.scenes.predicted import MAX_OBJECTS, Predicted, to_bytes
from archsearch.scenes.scene import IGNORED
from archsearch.storage.publish import publish
from archsearch.storage.trial_folder import PREDICTIONS
from tests.golden import scale_results, write_run
from tests.scenes.examples import rectangles, scene_of

CLASSES = ("cat", "dog", "$owl_")


def objects_of(*boxes, labels):
    return scene_of(rectangles(40, 60, *boxes), labels).objects


def words(ax):
    return [text.get_text() for text in ax.texts]


def boxes(ax):
    return [patch.get_bbox().extents.tolist() for patch in ax.patches]


def scene():
    return scene_of(rectangles(40, 60, (2, 15, 20, 30), (30, 20, 50, 40)), [0, 2])


def test_annotated_objects_are_at_the_left_and_predicted_ones_with_scores_at_the_right():
    found = objects_of((3, 16, 21, 31), (30, 20, 50, 40), (0, 0, 5, 5), labels=[0, 2, 1])
    scores = np.array([0.9, 0.456, 0.1], np.float32)
    left, right = figure([Predicted(scene(), found, scores)], CLASSES).axes
    assert (words(left), words(right)) == (["cat", "$owl_"], ["$owl_ 0.46", "cat 0.90"])
    assert boxes(left) == [[2, 15, 20, 30], [30, 20, 50, 40]]
    assert boxes(right) == [[30, 20, 50, 40], [3, 16, 21, 31]]
    drawn = right.images[0].get_array()
    assert not np.allclose(drawn[20, 10], scene().pixels[20, 10] / 255), "the mask"
    assert np.allclose(drawn[1, 1], scene().pixels[1, 1] / 255), "its score is too low"


def test_the_best_of_many_objects_are_drawn():
    found = objects_of(*[(0, 0, 5 + i % 9, 5) for i in range(50)], labels=[0] * 50)
    scores = np.linspace(0.4, 0.9, 50, dtype=np.float32)
    _, right = figure([Predicted(scene(), found, scores)], CLASSES).axes
    assert len(right.patches) == MAX_OBJECTS
    assert words(right)[-1] == "cat 0.90"


def test_crowd_regions_and_boxes_without_masks_are_drawn():
    one = scene()
    objects = replace(one.objects, masks=None, crowd=np.array([False, True]))
    left, right = figure(
        [Predicted(replace(one, objects=objects), objects[:0], None)], CLASSES
    ).axes
    assert words(left) == ["cat", "$owl_ (crowd)"]
    assert words(right) == []


def test_regions_of_a_label_map_are_named_inside():
    one = scene_of(rectangles(40, 60, (2, 15, 20, 30), (30, 20, 50, 40)), [1, 2])
    predicted = one.label_map.copy()
    predicted[:, 55:] = IGNORED
    left, right = figure(
        [Predicted(one, label_map=predicted)], ("background", "dog", "$owl_")
    ).axes  # label maps number classes from the background
    assert words(left) == words(right) == ["dog", "$owl_"]
    for text in right.texts:
        x, y = text.get_position()
        assert predicted[int(y), int(x)] == ("background", "dog", "$owl_").index(text.get_text())
    assert np.allclose(right.images[0].get_array()[:, 55:], one.pixels[:, 55:] / 255)


@pytest.mark.parametrize("num", [1, 3])
def test_the_same_predictions_give_the_same_files(tmp_path, num):
    images = [Predicted(scene(), scene().objects, np.ones(2, np.float32))] * num
    paths = render(images, CLASSES, tmp_path)
    assert [path.name for path in paths] == ["predictions.png", "predictions.svg"]
    first = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in render(images, CLASSES, tmp_path)] == first
    width, height = figure(images, CLASSES).get_size_inches()
    assert width < 7
    assert height == pytest.approx(0.32 + num * 2.1)


def test_a_report_draws_the_predictions_of_the_best_network(tmp_path):
    results = scale_results(2)
    run = write_run(results, tmp_path / "scale")
    best = results.network(results.compare().ranking.best)
    second = max(best.trials, key=lambda trial: trial.trial.seed).trial
    found = objects_of((3, 16, 21, 31), labels=[0])
    content = to_bytes([Predicted(scene(), found, np.array([0.9], np.float32))], CLASSES)
    (run / "trials" / second.id / PREDICTIONS).write_bytes(content)
    report = render_all([run], run / "reports")
    title = f"Predictions of {best.label}, seed {second.seed}"
    html = (run / "reports/report.html").read_text()
    assert f"<figcaption>{title}</figcaption>" in html
    assert "data:image/png;base64" in html, "the image is in the page"
    assert {"predictions.png", "predictions.svg"} <= report.files.keys()
    assert verify(run).differences == ()
    publish(run, tmp_path / "copy")
    assert (tmp_path / "copy/trials" / second.id / PREDICTIONS).read_bytes() == content


def test_other_reports_say_why_they_draw_none():
    report = compute_report([scale_results(1)], cards=[PREDICTIONS_CARD])
    reason = "no training of the best network kept predictions"
    assert report.runs[0].skipped == {"predictions": reason}


def test_a_training_has_a_page_that_loads_nothing(tmp_path):
    file, out = tmp_path / PREDICTIONS, tmp_path / "predictions.html"
    file.write_bytes(to_bytes([Predicted(scene(), scene().objects, np.ones(2))], CLASSES))
    write_page(file, "T on <pasted>", out)
    html = out.read_text()
    assert "<h2>T on &lt;pasted&gt;</h2>" in html
    assert "data:image/png;base64" in html
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", html)
