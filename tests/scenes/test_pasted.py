"""`pasted`: what is drawn, that it is always the same, and that its parts share nothing."""

import hashlib

import numpy as np
import pytest

from archsearch.scenes import pasted
from archsearch.scenes.data import classes, describe, load, load_verified, split
from archsearch.scenes.scene import tight_boxes
from archsearch.training.data import digits_table
from archsearch.training.images import DataError

SOME = range(0, 1000, 97)


@pytest.fixture(scope="module")
def scenes():
    return load("pasted")


def test_images_are_always_the_same(scenes):
    """Apart from the photographs, which another version of pillow may decode differently."""
    digest = hashlib.sha256()
    for part, index in ((scenes.train, 0), (scenes.train, 1999), (scenes.test, 7)):
        scene, again = part[index], part[index]
        assert np.array_equal(scene.pixels, again.pixels)
        painted = scene.pixels[scene.label_map > 0]
        for array in (painted, scene.label_map, scene.objects.boxes, scene.objects.labels):
            digest.update(np.ascontiguousarray(array))
    assert digest.hexdigest()[:16] == "a2974d35c7914114", (
        "a change of what is drawn needs another DRAWING"
    )


def test_objects_agree_with_each_other_and_with_the_label_map(scenes):
    for index in SOME:
        scene = scenes.train[index]
        objects = scene.objects
        assert (scene.pixels.shape, scene.pixels.dtype) == ((128, 160, 3), np.uint8)
        assert 1 <= len(objects) <= pasted.MAX_DIGITS
        assert not objects.crowd.any()
        assert np.array_equal(objects.boxes, tight_boxes(objects.masks))
        assert np.array_equal(objects.areas, objects.masks.sum((1, 2)))
        drawn = (objects.masks * (1 + objects.labels)[:, None, None]).sum(0)  # none overlap
        assert np.array_equal(scene.label_map, drawn)


def test_every_digit_is_seen_and_differs_from_the_photograph(scenes, monkeypatch):
    scene = scenes.train[2]
    monkeypatch.setattr(pasted, "_paste", lambda *_: False)
    background = scenes.train[2]
    assert len(background.objects) == 0
    changed = (scene.pixels != background.pixels).any(-1)
    assert not changed[scene.label_map == 0].any()
    assert all(changed[mask].mean() > 0.95 for mask in scene.objects.masks)
    assert scene.objects.areas.min() > 100


def test_parts_share_no_writer_and_no_column_of_a_photograph(scenes, monkeypatch):
    labels = digits_table()[:, -1]
    digits, columns = [], []

    class Photo:
        width, height = 640, 427

        def resize(self, size, _, box):
            columns.extend((box[0], box[2]))
            return np.zeros((size[1], size[0], 3), np.uint8)

    enlarged = pasted._enlarged
    monkeypatch.setattr(pasted, "_photo", lambda _: Photo())
    monkeypatch.setattr(
        pasted, "_enlarged", lambda digit, side: digits.append(digit) or enlarged(digit, side)
    )
    starts = ((scenes.train, 0), (scenes.train, 1000), (scenes.test, 0))
    parts = zip(starts, pasted.WRITERS, pasted.COLUMNS, strict=True)
    for (part, start), (low, high), (left, right) in parts:
        digits.clear()
        columns.clear()
        _ = [part[index] for index in range(start, start + 40)]
        assert low <= min(digits) <= max(digits) < high
        assert 640 * left <= min(columns) <= max(columns) <= 640 * right
        assert labels[low : low + 20].tolist() == [*range(10)] * 2  # a writer begins
        assert set(labels[low:high]) == set(range(10))


def test_holes_are_filled_and_bays_are_not():
    ring = np.array([[0, 1, 1, 1], [1, 0, 1, 0], [1, 1, 1, 1]], bool)
    outside = pasted._outside(~ring)
    assert outside.tolist() == [
        [True, False, False, False],
        [False, False, False, True],
        [False] * 4,
    ]


def test_held_out_images_replace_as_many_training_images(scenes):
    train, val = split(scenes, 0.2)
    assert (len(train), len(val)) == (800, 200)
    assert max(train) < 1000 <= min(val)
    assert set(train) | set(val - 1000) == set(range(1000))
    less, same = split(scenes, 0.2, 0.1)
    assert set(less) < set(train)
    assert np.array_equal(same, val)
    assert [len(part) for part in split(scenes, 0.0)] == [1000, 0]


def test_its_description_and_its_number_of_images(scenes):
    data = describe("pasted", 0.1, "masks")
    assert (data.num_classes, data.num_train, data.num_val, data.num_test) == (10, 900, 100, 200)
    assert describe("pasted", 0.1, "label maps").num_classes == 11
    assert classes(scenes, "label maps")[0] == "background"
    assert load_verified(data).fingerprint == data.fingerprint
    less = describe("pasted:images=50", 0.1, "boxes")
    assert (less.num_train, less.num_val, less.num_test) == (45, 5, 10)
    assert less.fingerprint != data.fingerprint
    assert np.array_equal(load("pasted:images=50").train[3].pixels, scenes.train[3].pixels)


@pytest.mark.parametrize("name", ["pasted:", "pasted:600", "pasted:images=9", "pasted:images=1e3"])
def test_another_name_is_refused(name):
    if name == "pasted:":
        assert load(name).train  # no option is the default
        return
    with pytest.raises(DataError, match="number of images from 10 to 1,000,000"):
        load(name)


def test_an_unknown_data_set_is_refused():
    with pytest.raises(DataError, match="no data set is called 'digits': wanted pasted"):
        load("digits")
