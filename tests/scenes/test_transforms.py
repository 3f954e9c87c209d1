"""Boxes, masks, label maps and pixels stay together under every transform."""

import colorsys

import numpy as np
import pytest

from archsearch.scenes.data import load
from archsearch.scenes.scene import Scene, tight_boxes
from archsearch.scenes.transforms import cropped, distorted, fitted, flipped, resized
from archsearch.scenes.views import CROP_SIDES, MULTI_SCALE, DetectionView, SegmentationView
from tests.scenes.examples import rectangles, scene_of


def drawn(number):
    return load("pasted:images=50").train[number]


def assert_together(scene, within=1.0):
    """Boxes are tight around masks within a pixel, and masks and label map are of one drawing."""
    objects = scene.objects
    assert objects.masks.shape == (len(objects), *scene.size)
    assert scene.label_map.shape == scene.size
    assert objects.masks.any((1, 2)).all()
    assert np.abs(objects.boxes - tight_boxes(objects.masks)).max(initial=0) <= within
    for mask, label in zip(objects.masks, objects.labels, strict=True):
        assert set(scene.label_map[mask]) == {label + 1}
    assert (scene.label_map > 0).sum() == objects.masks.sum()


@pytest.mark.parametrize(
    ("size", "sides"),
    [((480, 640), (800, 1067)), ((427, 640), (800, 1199)), ((300, 600), (667, 1333)),
     ((600, 300), (1333, 667)), ((800, 800), (800, 800))],
)  # fmt: skip
def test_images_are_fitted_to_the_shorter_or_the_longer_side(size, sides):
    assert fitted(*size, 800, 1333) == sides


def test_a_resized_scene_by_hand():
    scene = scene_of(rectangles(4, 6, (0, 0, 3, 2), (4, 1, 6, 4)))
    large = resized(scene, 8, 18)
    assert large.objects.boxes.tolist() == [[0, 0, 9, 4], [12, 2, 18, 8]]
    assert np.array_equal(large.objects.masks, scene.objects.masks.repeat(2, 1).repeat(3, 2))
    assert np.array_equal(large.label_map, scene.label_map.repeat(2, 0).repeat(3, 1))
    assert large.pixels.shape == (8, 18, 3)
    assert resized(scene, 4, 6) is scene
    middle = resized(scene, 2, 2)  # pixel centers fall on rows 1 and 3, columns 1 and 4
    assert np.array_equal(middle.label_map, scene.label_map[[1, 3]][:, [1, 4]])
    assert np.array_equal(large.objects.areas, scene.objects.areas), "of the original image"


@pytest.mark.parametrize("size", [(64, 80), (97, 211), (300, 320), (128, 160)])
def test_boxes_stay_tight_at_any_size(size):
    pixel = max(size[0] / 128, size[1] / 160)  # the one at the tip of a digit may not be sampled
    assert_together(resized(drawn(2), *size), 1 + pixel)


def test_a_flipped_scene_is_mirrored_and_twice_the_same():
    scene = scene_of(rectangles(4, 6, (0, 0, 3, 2), (4, 1, 6, 4)))
    mirrored = flipped(scene)
    assert mirrored.objects.boxes.tolist() == [[3, 0, 6, 2], [0, 1, 2, 4]]
    assert np.array_equal(mirrored.pixels, scene.pixels[:, ::-1])
    assert_together(flipped(drawn(2)), 0)
    twice = flipped(mirrored)
    assert np.array_equal(twice.objects.boxes, scene.objects.boxes)
    assert np.array_equal(twice.objects.masks, scene.objects.masks)
    assert np.array_equal(twice.label_map, scene.label_map)


def test_a_cropped_scene_by_hand():
    masks = rectangles(10, 10, (0, 0, 4, 4), (5, 5, 9, 9), (3, 3, 5, 10))
    masks[2, 3:6, 4] = False  # the crop shows one column of this object from row 3 to 5
    part = cropped(scene_of(masks), 2, 1, 6, 5)
    assert part.objects.labels.tolist() == [0, 1, 2]
    assert part.objects.boxes.tolist() == [[0, 0, 3, 2], [4, 3, 5, 6], [2, 1, 4, 6]]
    assert cropped(scene_of(masks), 0, 0, 3, 3).objects.labels.tolist() == [0]
    assert len(cropped(scene_of(masks), 0, 6, 4, 4).objects) == 0


def test_a_crop_of_the_box_may_hold_nothing_of_the_object():
    mask = np.eye(8, dtype=bool)[None]
    assert len(cropped(scene_of(mask), 0, 4, 4, 4).objects) == 0
    boxes_only = cropped(scene_of(mask, masked=False), 0, 4, 4, 4).objects
    assert boxes_only.boxes.tolist() == [[0, 0, 4, 4]]
    sliver = scene_of(rectangles(8, 8, (0, 0, 4, 4)), masked=False)
    assert len(cropped(sliver, 0, 4, 4, 4).objects) == 0


def test_random_crops_keep_boxes_tight():
    random = np.random.default_rng(0)
    for number in range(20):
        height, width = random.integers(30, 128), random.integers(30, 160)
        top, left = random.integers(128 - height + 1), random.integers(160 - width + 1)
        assert_together(cropped(drawn(number), top, left, height, width), 0)


def test_scenes_without_objects_pass_through_every_transform():
    empty = scene_of(np.zeros((0, 20, 30), bool))
    for changed in (resized(empty, 7, 9), flipped(empty), cropped(empty, 2, 3, 7, 9)):
        assert changed.objects.masks.shape == (0, *changed.size)
        assert changed.objects.boxes.shape == (0, 4)
    only_pixels = flipped(cropped(resized(Scene(empty.pixels), 40, 60), 0, 0, 8, 9))
    assert (only_pixels.size, only_pixels.objects, only_pixels.label_map) == ((8, 9), None, None)


class Draws:
    """A generator whose numbers are given, with 0.9 (a "no") for each other chance."""

    def __init__(self, chances, uniform):
        self.chances, self.values = iter(chances), iter(uniform)

    def random(self):
        return next(self.chances)

    def uniform(self, low, high):
        value = next(self.values)
        assert low <= value <= high
        return value


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("chances", "values", "expected"),
    [
        ((0.9, 0.9, 0.9, 0.9, 0.9), (), lambda x: x),
        ((0.9, 0.1, 0.9, 0.9, 0.9), (20,), lambda x: np.clip(x + 20.0, 0, 255)),
        ((0.1, 0.9, 0.1, 0.9, 0.9), (1.5,), lambda x: np.clip(x * 1.5, 0, 255)),
        ((0.1, 0.1, 0.1, 0.9, 0.9), (32, 0.5), lambda x: 0.5 * np.clip(x + 32.0, 0, 255)),
    ],
)  # fmt: skip
def test_brightness_and_contrast(chances, values, expected):
    assert np.array_equal(distorted(PIXELS, Draws(chances, values)), np.rint(expected(PIXELS)))


def test_saturation_and_hue_are_those_of_hsv():
    saturated = distorted(PIXELS, Draws((0.9, 0.9, 0.9, 0.1, 0.9), (0.5,)))
    turned = distorted(PIXELS, Draws((0.9, 0.9, 0.9, 0.9, 0.1), (18,)))
    colors = (image.reshape(-1, 3) for image in (PIXELS, saturated, turned))
    for pixel, pale, other in zip(*colors, strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(pixel / 255.0))
        assert np.abs(np.array(colorsys.hsv_to_rgb(h, s / 2, v)) * 255 - pale).max() <= 1
        assert np.abs(np.array(colorsys.hsv_to_rgb(h + 0.05, s, v)) * 255 - other).max() <= 8


def test_views_for_detection():
    random = np.random.default_rng(0)
    plain = DetectionView(shorter=(64,), longer=1000, test_shorter=256)
    assert plain(drawn(0), None).size == (256, 320)
    views = [plain(drawn(2), random) for _ in range(12)]
    assert {view.size for view in views} == {(64, 80)}
    assert len({view.pixels.tobytes() for view in views}) == 2, "as it is and mirrored"
    several = DetectionView(shorter=(64, 96), longer=100)
    assert {several(drawn(0), random).size for _ in range(12)} == {(64, 80), (80, 100)}
    assert MULTI_SCALE[0] == 480
    assert MULTI_SCALE[-1] == 800
    for number in range(4):
        view = DetectionView(MULTI_SCALE, crop=True, distort=True)(drawn(number), random)
        assert min(view.size) >= 480
        assert max(view.size) <= 1333
        assert_together(view, 4)  # masks of enlarged pixels


def test_a_crop_between_two_resizes_has_the_usual_sides(monkeypatch):
    sizes = []
    monkeypatch.setattr(
        "archsearch.scenes.views.cropped",
        lambda scene, *window: sizes.append((scene.size, window[2:])) or cropped(scene, *window),
    )
    view, random = DetectionView((64,), crop=True), np.random.default_rng(0)
    for _ in range(40):
        view(drawn(0), random)
    assert 10 < len(sizes) < 30, "half of the images"
    assert {min(size) for size, _ in sizes} == {400, 500, 600}
    low, high = CROP_SIDES
    assert all(low <= side <= high for _, window in sizes for side in window)


def test_views_for_segmentation():
    random = np.random.default_rng(0)
    view = SegmentationView(crop=96, shorter=128, distort=False)
    assert view(drawn(0), None).size == (128, 160)
    sizes = set()
    for number in range(30):
        part = view(drawn(number), random)
        sizes.add(part.size)
        assert max(part.size) <= 96
        assert set(np.unique(part.label_map)) <= {0, *(1 + drawn(number).objects.labels)}
    assert (96, 96) in sizes
    assert min(min(size) for size in sizes) < 96, "an image at half its size is smaller"


def test_a_crop_of_mostly_one_class_is_drawn_again():
    label_map = np.zeros((100, 100), np.uint8)
    label_map[:, 60:] = 1
    label_map[:50] = 255  # not annotated: does not count
    scene = Scene(np.zeros((100, 100, 3), np.uint8), None, label_map)
    random = np.random.default_rng(0)

    def worst(max_share):
        view = SegmentationView(40, 100, 100, (1.0, 1.0), max_share, False)
        parts = [view(scene, random).label_map for _ in range(60)]
        counts = [
            np.bincount(part[part < 255], minlength=2) for part in parts if (part < 255).any()
        ]
        return np.mean([count.max() / count.sum() > 0.75 for count in counts])

    assert worst(0.75) < 0.1 < 0.4 < worst(1.0)
