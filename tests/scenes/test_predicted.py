"""The file of predictions: what is written is read, and nothing else."""

import numpy as np
import pytest

from archsearch.scenes.predicted import MAX_OBJECTS, Predicted, read, to_bytes
from archsearch.scenes.scene import Scene
from tests.scenes.examples import rectangles, scene_of


def same(one, other):
    """Whether two values, or all their fields, are equal arrays or both None."""
    if one is None or isinstance(one, np.ndarray):
        return (one is None) == (other is None) and np.array_equal(one, other)
    return all(same(getattr(one, name), getattr(other, name)) for name in vars(one))


def test_predictions_are_read_as_they_were_written(tmp_path):
    scene = scene_of(rectangles(20, 30, (2, 5, 9, 12), (10, 3, 25, 15)), [0, 1])
    scores = np.array([0.4, 0.9], np.float32)
    boxes_only = scene_of(rectangles(8, 9, (0, 0, 4, 4)), [1], masked=False)
    images = [
        Predicted(scene, scene.objects, scores),
        Predicted(scene, scene.objects[:0], scores[:0]),
        Predicted(boxes_only, boxes_only.objects, scores[:1]),
        Predicted(Scene(scene.pixels, None, scene.label_map), label_map=scene.label_map),
    ]
    path = tmp_path / "predictions.npz"
    path.write_bytes(to_bytes(images, ("cat", "dog")))
    again, classes = read(path)
    assert classes == ("cat", "dog")
    assert len(again) == len(images)
    assert all(same(one, other) for one, other in zip(again, images, strict=True))
    assert to_bytes(images, classes) == path.read_bytes(), "no time stamp"


def test_the_objects_of_the_best_scores_are_kept(tmp_path):
    scene = scene_of(rectangles(20, 30, *[(0, 0, 1 + i % 20, 5) for i in range(50)]))
    scores = np.random.default_rng(0).permutation(50).astype(np.float32) / 50
    path = tmp_path / "predictions.npz"
    path.write_bytes(to_bytes([Predicted(scene, scene.objects, scores)], ("cat",)))
    (one,), _ = read(path)
    assert one.scores.tolist() == sorted(scores.tolist())[-MAX_OBJECTS:]
    assert one.objects.labels[-1] == scores.argmax()


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "predictions.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"predictions\.npz is no file of predictions"):
        read(path)
