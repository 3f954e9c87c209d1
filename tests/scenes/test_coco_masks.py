"""Masks from polygons and run lengths: by hand, and equal to pycocotools' to the pixel."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsearch.scenes.coco_masks import RunLengths, mask, parsed, problem


def test_a_rectangle_covers_its_pixels():
    rectangle = mask([[2, 1, 6, 1, 6, 4, 2, 4]], 6, 8)
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True
    assert np.array_equal(rectangle, expected)


def test_several_polygons_are_one_object():
    parts = [[0, 0, 3, 0, 3, 3, 0, 3], [2, 2, 5, 2, 5, 5, 2, 5]]
    both = mask(parts, 6, 8)
    assert np.array_equal(both, mask(parts[:1], 6, 8) | mask(parts[1:], 6, 8))
    assert both.sum() == 17


def test_run_lengths_go_column_by_column_and_begin_outside():
    covered = mask(RunLengths((3, 4), [1, 2, 4, 1, 4]), 3, 4)
    assert covered.astype(int).tolist() == [[0, 0, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0]]


def test_segmentations_are_read_from_json():
    assert parsed(b"[[1, 2.5, 3, 4, 5, 6]]") == [[1, 2.5, 3, 4, 5, 6]]
    assert parsed(b'{"size": [2, 3], "counts": [6]}') == RunLengths((2, 3), [6])
    assert parsed(b'{"size": [2, 3], "counts": "6", "more": 1}').counts == "6"
    for wrong in (b'"text"', b"[1, 2]", b'{"counts": [6]}', b'{"size": [2], "counts": [6]}'):
        with pytest.raises(msgspec.MsgspecError):
            parsed(wrong)


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[1, 1, 5, 5]], "a polygon has 4 numbers"),
        ([[1, 1, 5, 5, 1, 5, 2]], "a polygon has 7 numbers"),
        ([[1, 1, 5, 5, 1, 1e9]], "far outside the image: it has the coordinate 1e\\+09"),
        ([[1, 1, 5, 5, -21, 5]], "far outside the image: it has the coordinate -21"),
        (RunLengths((20, 10), [200]), r"of an image of size \[20, 10\], not \[10, 20\]"),
        (RunLengths((10, 20), [199]), "cover 199 pixels, the image has 200"),
        (RunLengths((10, 20), [210, -10]), "cover 200 pixels, the image has 200"),
        (RunLengths((10, 20), "\x01"), "cut or have other characters"),
        (RunLengths((10, 20), "é"), "cut or have other characters"),
        (RunLengths((10, 20), "P"), "cut or have other characters"),
        (RunLengths((10, 20), ""), "cut or have other characters"),
    ],
)
def test_broken_segmentations_are_described(segmentation, words):
    assert problem([[0, 0, 20, 0, 20, 10]], 10, 20) is None
    with pytest.raises(ValueError, match=words):
        raise ValueError(problem(segmentation, 10, 20))


def coco(polygons, height, width):
    from pycocotools import mask as tools

    return tools.decode(tools.merge(tools.frPyObjects(polygons, height, width))).astype(bool)


# Of pycocotools with numpy 2; computing average precision decodes nothing.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

coordinates = st.one_of(
    st.integers(-8, 40).map(float),
    st.integers(-80, 400).map(lambda v: v / 10),
    st.floats(-10, 40, width=32),
)
polygon = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9).map(
    lambda points: [v for point in points for v in point]
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(polygon, min_size=1, max_size=2), st.integers(1, 33), st.integers(1, 33))
def test_polygons_are_filled_as_pycocotools_fills_them(polygons, height, width):
    pytest.importorskip("pycocotools")
    assert np.array_equal(mask(polygons, height, width), coco(polygons, height, width))


def test_large_polygons_are_filled_as_pycocotools_fills_them():
    pytest.importorskip("pycocotools")
    random = np.random.default_rng(0)
    for _ in range(20):
        height, width = random.integers(100, 700, 2).tolist()
        angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 60)))
        radius = random.uniform(0.1, 0.7, len(angles))[:, None] * [width, height]
        points = np.stack([np.cos(angles), np.sin(angles)], 1) * radius + [width / 2, height / 2]
        polygons = [np.round(points, 2).ravel().tolist(), [1, 1, 90.5, 2, 40, 77.25]]
        assert np.array_equal(mask(polygons, height, width), coco(polygons, height, width))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 90), st.integers(1, 90), st.floats(0, 1))
def test_run_lengths_are_read_as_pycocotools_reads_them(seed, height, width, share):
    tools = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(seed)
    stripes = random.random((height, width)) < share
    blocks = np.kron(random.random((3, 3)) < share, np.ones((height, width), bool))
    for covered in (stripes, blocks[:height, :width] > 0, np.ones((height, width), bool)):
        encoded = tools.encode(np.asfortranarray(covered, np.uint8))
        compressed = RunLengths((height, width), encoded["counts"].decode())
        assert problem(compressed, height, width) is None
        assert np.array_equal(mask(compressed, height, width), covered)
        ends = np.flatnonzero(np.diff(covered.T.ravel(), prepend=False, append=~covered[-1, -1]))
        plain = RunLengths((height, width), np.diff(ends, prepend=0).tolist())
        assert np.array_equal(mask(plain, height, width), covered)
