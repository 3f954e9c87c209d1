"""Data in ADE20K's layout: what is read, and that everything wrong is reported with its file."""

import shutil

import numpy as np
import pytest
from PIL import Image

from archsearch.scenes import data
from archsearch.scenes.data import describe, load
from archsearch.scenes.scene import IGNORED
from archsearch.training.images import DataError
from tests.scenes.folders import picture, write_ade20k


@pytest.fixture
def folder(tmp_path):
    return write_ade20k(tmp_path / "set")


def read(folder):
    data._load.cache_clear()
    return load(f"ade20k:{folder}")


def error_of(folder):
    with pytest.raises(DataError) as error:
        read(folder)
    return str(error.value)


def write_map(path, values):
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def test_classes_begin_at_zero_and_what_is_not_annotated_is_ignored(folder):
    values = np.zeros((20, 30), np.uint8)
    values[:, :3] = 0, 1, 150
    values[0, 0] = 255
    write_map(folder / "annotations" / "training" / "1.png", values)
    scenes = read(folder)
    assert (len(scenes.train), len(scenes.test)) == (3, 2)
    scene = scenes.train[1]
    assert scene.label_map[0].tolist() == [255, 0, 149, *[IGNORED] * 27]
    assert scene.label_map[1].tolist() == [IGNORED, 0, 149, *[IGNORED] * 27]
    assert scene.objects is None
    image = Image.open(folder / "images" / "training" / "1.jpg")
    assert np.array_equal(scene.pixels, np.asarray(image))


def test_maps_with_a_palette_are_read_by_their_indices(folder):
    picture_ = Image.fromarray(np.full((20, 30), 7, np.uint8), "L").convert("P")
    picture_.putpalette([9, 200, 3] * 256)
    picture_.save(folder / "annotations" / "training" / "0.png")
    assert set(np.unique(read(folder).train[0].label_map)) == {6}


def test_its_description_fingerprint_and_class_names(folder, tmp_path):
    described = describe(f"ade20k:{folder}", 0.34, "label maps")
    assert (described.num_classes, described.num_train, described.num_val) == (150, 2, 1)
    assert read(folder).map_classes[149] == "class 150"
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert read(moved).fingerprint == described.fingerprint
    names = [f"{i}\t0.1\t9\t9\t0\tthing {i}, object" for i in range(1, 151)]
    (moved / "objectInfo150.txt").write_text(
        "\n".join(["Idx\tRatio\tTrain\tVal\tStuff\tName", *names])
    )
    scenes = read(moved)
    assert scenes.map_classes[:2] == ("thing 1, object", "thing 2, object")
    assert len(scenes.map_classes) == 150
    assert scenes.fingerprint != described.fingerprint
    with pytest.raises(DataError, match="has no boxes to train on: wanted pasted or coco:DIR"):
        describe(f"ade20k:{folder}", 0.34, "boxes")


def test_other_classes_are_named_in_a_file(folder):
    (folder / "classes.txt").write_text("road\n\nsky\r\ncar\n")
    message = error_of(folder)
    assert "wanted 1 to 3, and 0 for pixels that are not annotated" in message
    for path in folder.glob("annotations/*/*.png"):
        write_map(path, np.full((20, 30), 3))
    assert read(folder).map_classes == ("road", "sky", "car")
    (folder / "classes.txt").write_text("road\n")
    assert "classes.txt must name 2 to 254 classes, got 1" in error_of(folder)


def test_files_without_a_partner_and_empty_files_are_listed(folder):
    (folder / "images" / "training" / "0.jpg").unlink()
    (folder / "annotations" / "validation" / "1.png").unlink()
    (folder / "images" / "training" / "1.jpg").write_bytes(b"")
    (folder / "annotations" / "training" / "notes.txt").write_text("left out")
    assert error_of(folder).splitlines() == [
        f"{folder}/images/training/1.jpg is empty",
        f"{folder}/annotations/training/0.png has no image",
        f"{folder}/images/validation/1.jpg has no label map",
    ]


def test_images_of_one_name_and_maps_without_classes_are_refused(folder):
    for number in range(2):
        write_map(folder / "annotations" / "validation" / f"{number}.png", np.zeros((20, 30)))
    assert error_of(folder) == (
        f"{folder}/annotations/validation has no annotated pixel: wanted classes from 1 in the "
        "label maps"
    )
    picture(folder / "images" / "training" / "1.png")
    assert error_of(folder) == (
        f"{folder}/images/training/1.jpg and {folder}/images/training/1.png have one label map"
    )


def test_damaged_files_other_sizes_and_unknown_classes_are_listed(folder):
    picture(folder / "images" / "training" / "0.jpg", 21, 30)
    (folder / "images" / "training" / "1.jpg").write_bytes(b"no image")
    write_map(folder / "annotations" / "training" / "2.png", np.full((20, 30), 200))
    picture(folder / "annotations" / "validation" / "0.png")
    (folder / "annotations" / "validation" / "1.png").write_bytes(b"no image")
    lines = error_of(folder).splitlines()
    assert len(lines) == 5
    for line, words in zip(
        lines,
        ("0.jpg has 30x21 pixels, its label map", "1.jpg cannot be read as an image",
         "2.png has the class 200: wanted 1 to 150", "1.png cannot be read as an image",
         "0.png has pixels of mode RGB: a label map must have one channel"),
        strict=True,
    ):  # fmt: skip
        assert words in line


def test_a_map_that_changes_during_training_is_refused_as_it_is_read(folder):
    scenes = read(folder)
    write_map(folder / "annotations" / "training" / "0.png", np.full((20, 30), 151))
    with pytest.raises(DataError, match="has the class 151"):
        scenes.train[0]
    write_map(folder / "annotations" / "training" / "0.png", np.full((20, 31), 1))
    with pytest.raises(DataError, match=r"0.jpg has 30x20 pixels, its label map .* 31x20"):
        scenes.train[0]


def test_missing_folders_and_no_images_are_refused(folder, tmp_path):
    message = error_of(tmp_path / "nowhere")
    assert message.count("nowhere") == 5
    assert "wanted ADE20K's layout" in message
    for path in folder.glob("*/validation/*"):
        path.unlink()
    assert error_of(folder) == f"{folder}/images/validation has no images with label maps"
