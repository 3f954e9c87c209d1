"""Data in COCO's layout: what is read, and that everything wrong is reported with file and id."""

import contextlib
import io
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from archsearch.heads.instances import Detections
from archsearch.scenes import data
from archsearch.scenes.average_precision import average_precision, image_result
from archsearch.scenes.data import describe, load, load_verified
from archsearch.scenes.loader import reader
from archsearch.scenes.views import DetectionView
from archsearch.training.images import DataError
from tests.scenes.folders import CROWD, TRIANGLE, annotations, picture, row, split, write_coco


@pytest.fixture
def folder(tmp_path):
    return write_coco(tmp_path / "set")


def read(folder):
    data._load.cache_clear()
    return load(f"coco:{folder}")


def rewritten(folder, content):
    for name, part in content.items():
        path = folder / "annotations" / f"instances_{name}.json"
        path.write_text(part if isinstance(part, str) else json.dumps(part))
    return folder


def error_of(folder):
    with pytest.raises(DataError) as error:
        read(folder)
    return str(error.value)


def test_boxes_masks_crowds_and_classes_are_read(folder):
    scenes = read(folder)
    assert scenes.classes == ("cat", "dog", "owl"), "in the order of their ids"
    assert (len(scenes.train), len(scenes.test), scenes.has_masks) == (2, 2, True)
    first = scenes.train[0]
    assert np.array_equal(first.pixels, np.asarray(Image.open(folder / "train2017" / "11.png")))
    assert first.objects.boxes.tolist() == [[2, 2, 12, 14], [5, 0, 8, 20]]
    assert first.objects.labels.tolist() == [1, 0]
    assert first.objects.crowd.tolist() == [False, True]
    assert first.objects.areas.tolist() == [60, 60]
    assert np.flatnonzero(first.objects.masks[1].T.ravel()).tolist() == [*range(100, 140)]
    assert first.objects.masks[0].sum() == pytest.approx(60, abs=6)
    assert scenes.train[1].objects.labels.tolist() == [2]
    assert scenes.train[1].objects.masks[0, 4:14, 5:25].all()
    empty = scenes.test[0].objects
    assert (len(empty), empty.masks.shape) == (0, (0, 20, 30))
    assert scenes.notes == (
        "left out of training: 1 images without objects",
        "classes without objects in train2017/: cat",
        "classes without objects in val2017/: cat, owl",
    )


# Of pycocotools with numpy 2
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_it_is_what_cocos_tools_read(folder):
    tools = pytest.importorskip("pycocotools.coco")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = tools.COCO(folder / "annotations" / "instances_train2017.json")
    objects = read(folder).train[0].objects
    masks = [coco.annToMask(a) for a in coco.imgToAnns[11]]
    assert np.array_equal(objects.masks, np.array(masks, bool))


def test_its_description_and_fingerprint(folder, tmp_path):
    described = describe(f"coco:{folder}", 0.5, "masks")
    assert (described.num_train, described.num_val, described.num_test) == (1, 1, 2)
    assert (described.num_classes, described.source) == (3, str(folder))
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert read(moved).fingerprint == described.fingerprint
    assert load_verified(described).fingerprint == described.fingerprint
    changed = annotations()
    changed["val2017"]["annotations"][0]["bbox"][0] += 1
    assert read(rewritten(moved, changed)).fingerprint != described.fingerprint
    picture(folder / "train2017" / "11.png", format="BMP")
    data._load.cache_clear()
    with pytest.raises(DataError, match="not the data this trial was planned with"):
        load_verified(described)


def test_boxes_without_masks_are_read(folder):
    content = annotations()
    for part in content.values():
        for entry in part["annotations"]:
            entry["segmentation"] = []
            del entry["area"], entry["iscrowd"]
    scenes = read(rewritten(folder, content))
    assert scenes.has_masks is False
    assert scenes.train[0].objects.masks is None
    assert scenes.train[0].objects.areas.tolist() == [120, 60], "those of the boxes"
    describe(f"coco:{folder}", 0.5, "boxes")
    for annotation in ("masks", "label maps"):
        with pytest.raises(DataError, match=f"has no {annotation} to train on: wanted pasted"):
            describe(f"coco:{folder}", 0.5, annotation)


def test_the_truth_as_a_prediction_is_perfect(folder):
    pytest.importorskip("pycocotools")
    results = []
    for scene in read(folder).train:
        kept = scene.objects[~scene.objects.crowd]
        arrays = (kept.boxes, np.ones(len(kept), np.float32), kept.labels, kept.masks)
        results.append(image_result(scene, Detections(*map(torch.from_numpy, arrays))))
    for kind in ("box", "mask"):
        assert average_precision(results, kind)["ap"] == pytest.approx(100)


def test_objects_and_boxes_at_the_edge_are_counted_in_notes(folder):
    content = annotations()
    content["train2017"]["annotations"] += [
        row(4, 11, bbox=(5, 5, 0.5, 8)),
        row(5, 11, bbox=(30, 5, 4, 4)),
        row(6, 12, bbox=(20, 5, 14, 10)),
        row(7, 13, bbox=(3, 3, 0, 0)),
    ]
    content["val2017"]["annotations"].append(row(10, 22, bbox=(20, 5, 14, 0)))
    scenes = read(rewritten(folder, content))
    assert scenes.notes[:3] == (
        "left out of training: 1 images without objects",
        "left out of training: 3 objects that are narrower than a pixel",
        "2 boxes of training images reach outside of the image: they end at its edge",
    )
    assert [len(scene.objects) for scene in scenes.train] == [2, 2]
    assert scenes.train[1].objects.boxes[1].tolist() == [20, 5, 30, 15]
    assert scenes.test[1].objects.boxes[1].tolist() == [20, 5, 34, 5], "as COCO's tools count it"


def test_images_that_are_not_listed_are_counted_and_hidden_ones_are_not(folder):
    for name in ("more/8.png", "9.jpg", ".10.png", "notes.txt"):
        (folder / "train2017" / name).parent.mkdir(exist_ok=True)
        (folder / "train2017" / name).write_bytes(b"?")
    assert "left out of train2017/: 2 images that the annotations do not list" in read(folder).notes


def test_images_turned_by_exif_fit_their_annotation_either_way(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = annotations()
    for image, (height, width) in zip(content["train2017"]["images"], [(20, 30)] * 2, strict=False):
        image["file_name"] = f"{image['id']}.jpg"
        stored = (width, height) if image["id"] == 11 else (height, width)
        picture(folder / "train2017" / image["file_name"], *stored, exif=exif)
    scenes = read(rewritten(folder, content))
    assert [scene.size for scene in scenes.train] == [(20, 30), (20, 30)]
    stored = np.asarray(Image.open(folder / "train2017" / "11.jpg"))
    assert np.array_equal(scenes.train[0].pixels, np.rot90(stored, -1)), "as a viewer shows it"
    stored = np.asarray(Image.open(folder / "train2017" / "12.jpg"))
    assert np.array_equal(scenes.train[1].pixels, stored), "only so it has the annotated size"
    exif[0x0112] = 3
    picture(folder / "train2017" / "12.jpg", exif=exif)
    assert np.array_equal(scenes.train[1].pixels, np.rot90(stored, 2)), "as a viewer shows it"


WRONG_ROWS = {
    "an image that is not listed": (row(4, 99), "annotation 4 of image 99: no image has this id"),
    "an unknown class": (row(4, 11, 5), "annotation 4 of image 11: no category has the id 5"),
    "a box outside": (
        row(4, 11, bbox=(31, 2, 5, 5)),
        "[31.0, 2.0, 5.0, 5.0] is outside of the 30x20 image",
    ),
    "a negative box": (row(4, 11, bbox=(3, 2, -5, 5)), "the box has the size -5x5"),
    "a box of three numbers": (row(4, 11, bbox=(3, 2, 5)), "`array` of length 4"),
    "an id twice": (row(3, 12), "annotations has the id 3 twice"),
    "no id": ({"image_id": 11}, "missing required field `id`"),
    "a broken polygon": (
        row(4, 11, segmentation=[[1, 2, 3, 4]]),
        "annotation 4 of image 11: a polygon has 4 numbers",
    ),
    "no segmentation": (
        row(4, 11, segmentation=[]),
        "there is no segmentation, but others have one",
    ),
    "text as a segmentation": (row(4, 11, segmentation="x"), "is neither polygons nor run lengths"),
    "run lengths of another size": (
        row(4, 11, segmentation={**CROWD, "size": [30, 20]}),
        "of an image of size [30, 20]",
    ),
    "run lengths that end early": (
        row(4, 11, segmentation={**CROWD, "counts": [9]}),
        "cover 9 pixels, the image has 600",
    ),
    "a crowd of 2": (row(4, 11, iscrowd=2), "iscrowd must be 0 or 1, got 2"),
    "a text as a class": (row(4, 11, "dog"), "Expected `int`, got `str` - at `$.category_id`"),
}


@pytest.mark.parametrize("name", WRONG_ROWS)
def test_a_wrong_annotation_is_refused_with_file_and_id(folder, name):
    wrong, words = WRONG_ROWS[name]
    content = annotations()
    content["train2017"]["annotations"].append(wrong)
    message = error_of(rewritten(folder, content))
    assert words in message
    assert "instances_train2017.json" in message
    assert len(message.splitlines()) == 1


def test_all_problems_are_listed_together_and_counted_when_there_are_many(folder):
    content = annotations()
    content["train2017"]["annotations"] += [wrong for wrong, _ in WRONG_ROWS.values()]
    content["val2017"]["annotations"].append(row(5, 77))
    (folder / "val2017" / "21.png").unlink()
    lines = error_of(rewritten(folder, content)).splitlines()
    assert len(lines) == 11
    assert lines[-1] == f"and {len(WRONG_ROWS) + 2 - 10} more problems"


def test_wrong_images_and_categories_are_refused(folder):
    content = annotations()
    train = content["train2017"]
    # fmt: off
    train["images"] += [{**train["images"][0], "id": 14}, {"id": 15, "file_name": "x.png"},
                        {"id": 16, "file_name": "../11.png", "width": 30, "height": 20},
                        {"id": 17, "file_name": "17.png", "width": 10**9, "height": 20}]
    # fmt: on
    train["categories"] = [*train["categories"], {"id": 4, "name": "cat"}]
    picture(folder / "train2017" / "17.png")
    (folder / "train2017" / "13.png").write_bytes(b"")
    message = error_of(rewritten(folder, content))
    for words in ("the file '11.png' is listed twice", "missing required field `width`",
                  "../11.png (image 16) is missing", "image 17 has the size 1000000000x20",
                  "the category 'cat' is listed twice", "13.png (image 13) is empty",
                  "must have the same categories; only one has cat (4)"):  # fmt: skip
        assert words in message


def test_an_image_of_another_size_is_refused_before_training_and_when_it_is_read(folder):
    scenes = read(folder)
    picture(folder / "train2017" / "11.png", 25, 30)
    words = "11.png has 30x25 pixels, the annotation of image 11 30x20"
    assert words in error_of(folder)
    with pytest.raises(DataError, match=words):
        scenes.train[0]
    (folder / "train2017" / "12.png").write_bytes(b"no image")
    assert "12.png cannot be read as an image" in error_of(folder)


@pytest.mark.parametrize(
    "text",
    ["", "[1, 2]", "{}", '{"images": []}', '{"images": [{"id": 1', "\x00\x01", "[" * 100_000,
     '{"images": 3, "annotations": [], "categories": []}'],
)  # fmt: skip
def test_a_file_that_is_cut_or_of_another_kind_is_refused(folder, text):
    message = error_of(rewritten(folder, {"val2017": text}))
    assert "instances_val2017.json is no annotation file in COCO's layout" in message


def test_a_file_cut_anywhere_is_refused(folder):
    path = folder / "annotations" / "instances_val2017.json"
    content = path.read_bytes()
    for end in range(0, len(content), 37):
        path.write_bytes(content[:end])
        assert "instances_val2017.json" in error_of(folder)


def test_empty_and_missing_parts_are_refused(folder, tmp_path):
    for content, words in (
        (split((), []), "there are no images"),
        ({**split((11,), []), "categories": []}, "there are no categories"),
        (split((11,), []), "has no objects to train on"),
        (split((11,), [row(1, 11, iscrowd=1)]), "has no objects to train on"),
    ):
        assert words in error_of(rewritten(folder, {"train2017": content}))
    shutil.rmtree(folder / "val2017")
    assert f"lacks {folder / 'val2017'}: wanted a folder in COCO's layout" in error_of(folder)
    message = error_of(tmp_path / "nowhere")
    assert message.count("nowhere") == 5
    with pytest.raises(DataError, match="lacks"):
        load("coco:")


def test_a_few_bytes_of_a_mask_reach_other_processes(folder):
    scenes = read(folder)
    copied = pickle.loads(pickle.dumps(scenes.train))
    assert np.array_equal(copied[0].objects.masks, scenes.train[0].objects.masks)
    assert json.loads(copied.segmentations[: copied.text_ends[1]]) == TRIANGLE
    read_batches = reader(scenes.train, DetectionView((40,), 100), torch.device("cpu"), False)
    ((images, targets),) = read_batches([torch.tensor([0, 1])], 1)
    assert images.shape == (2, 3, 64, 64)
    assert [target.instances.crowd.tolist() for target in targets] == [[False, True], [False]]
