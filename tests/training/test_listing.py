"""Which images of a folder or archive are read: all that a person sees, and nothing disappears."""

import hashlib
import os
import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from archsearch.storage.study_folder import StudyFolder
from archsearch.training.data import DataError, describe, load, load_verified
from archsearch.training.decoding import suffixes
from tests.golden import DATA, grid_study
from tests.stored import edit
from tests.training.test_data import python_batches, tar, write_tree

KINDS = ("imagefolder", "cifar10", "archive")
"""A folder that is decoded during training, one in memory, and a tar archive in memory."""


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def tree(tmp_path):
    """Eight training and three test images in each of the classes cat and dog."""
    return write_tree(tmp_path / "set", {"train": 8, "test": 3})


def name_of(kind, tree):
    if kind != "archive":
        return f"{kind}:{tree}"
    return f"cifar10:{tar(tree, tree.parent / 'set.tar.gz', inside='data/set')}"


def read(kind, tree):
    load.__globals__["_load"].cache_clear()
    return load(name_of(kind, tree))


def counts(kind, tree):
    data = read(kind, tree)
    return data.classes, len(data.train), len(data.test)


def picture(path, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def both(tree, name, **options):
    """Write a picture of this name into both splits."""
    for seed, part in enumerate(("train", "test")):
        picture(tree / part / name, seed, **options)


def test_the_listing_of_a_plain_folder_has_the_fingerprint_and_order_of_earlier_versions(tree):
    for name in ("a b/9.png", "a/10.JPG", "Z/1.png", "a/9.png"):
        both(tree, name)
    files = sorted(path for path in tree.glob("*/*/*"))
    ordered = [
        path
        for part in ("train", "test")
        for name in sorted({path.parent.name for path in files})
        for path in files
        if path.parts[-3:-1] == (part, name)
    ]
    lines = [f"{path.relative_to(tree).as_posix()} {path.stat().st_size}" for path in ordered]
    photos = read("imagefolder", tree)
    assert (*photos.train.files, *photos.test.files) == tuple(ordered)
    assert photos.fingerprint == hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    assert photos.notes == ()

    small = read("cifar10", tree)
    pixels = [np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1) for path in ordered]
    assert np.array_equal([*small.train.pixels, *small.test.pixels], pixels)
    assert small.train.labels.tolist() == photos.train.labels.tolist()


def test_all_suffixes_and_subfolders_are_read(tree, kind):
    for suffix in ("gif", "jfif", "avif", "jp2", "pgm", "PNG", "tiff", "qoi", "tga"):
        if f".{suffix.lower()}" in suffixes():
            both(tree, f"bird/1.{suffix}", format={"jfif": "JPEG"}.get(suffix))
    both(tree, "cat/2023/may/1.png")
    num_birds = len(list((tree / "train" / "bird").iterdir()))
    assert num_birds >= 7
    assert counts(kind, tree) == (("bird", "cat", "dog"), 17 + num_birds, 7 + num_birds)
    assert read(kind, tree).notes == ("images in sub-folders of a class belong to it: 2 in cat",)


def test_what_pillow_cannot_decode_by_itself_is_no_image():
    assert not suffixes() & {".eps", ".ps", ".h5", ".mpg", ".wmf", ".pdf", ".txt", ""}


def test_hidden_files_and_folders_are_left_out_and_counted(tree, kind):
    both(tree, ".ipynb_checkpoints/0.png")
    both(tree, "cat/.cache/deep/0.png")
    both(tree, "__MACOSX/0.png")
    (tree / "train" / "cat" / "._0.png").write_bytes(b"Mac OS X")
    (tree / "train" / "dog" / "Thumbs.db").write_bytes(b"x")
    (tree / ".git").mkdir()
    assert counts(kind, tree) == (("cat", "dog"), 16, 6)
    assert read(kind, tree).notes == (
        "left out of train/: 5 hidden",
        "left out of test/: 3 hidden",
    )


def test_what_is_left_out_is_counted_by_kind_and_split(tree, kind):
    for name in ("cat/a.txt", "cat/sub/b.TXT", "dog/README", "list.csv"):
        (tree / "train" / name).parent.mkdir(exist_ok=True)
        (tree / "train" / name).write_text("x")
    picture(tree / "test" / "1.png")
    picture(tree / "extra" / "cat" / "1.png")
    (tree / "README.md").write_text("about")
    data = read(kind, tree)
    assert (len(data.train), len(data.test)) == (16, 6)
    prefix = "data/set/" if kind == "archive" else ""
    assert data.notes == (
        "left out of train/: 2 .txt, 1 without suffix, 1 .csv",
        "left out of test/: 1 outside of a class",
        f"left out, images outside of the splits: 1 in {prefix}extra/cat",
    )


def test_the_note_names_the_split_that_is_not_used(tree, kind):
    write_tree(tree, {"val": 2})
    assert counts(kind, tree) == (("cat", "dog"), 16, 6)
    assert read(kind, tree).notes == ("left out: 4 files in val/; the test split is test/",)
    for file in tree.glob("test/*/*"):  # a test split without classes, as contests have it
        file.rename(tree / "test" / f"{file.parent.name}{file.name}")
    for folder in tree.glob("test/*/"):
        folder.rmdir()
    assert counts(kind, tree) == (("cat", "dog"), 16, 4)
    assert read(kind, tree).notes == ("left out: 6 files in test/; the test split is val/",)


def test_every_class_needs_an_image_in_both_splits(tree, kind):
    (tree / "train" / "dog").rename(tree / "train" / "fox")
    for part in ("train", "test"):
        (tree / part / "bird").mkdir()
        (tree / part / "owl").mkdir()
        (tree / part / "owl" / "1.heic").write_bytes(b"x")
    with pytest.raises(DataError) as error:
        read(kind, tree)
    assert [line.partition(": class ")[2] for line in str(error.value).splitlines()] == [
        "'bird' has no image in train/ and test/",
        "'dog' has no image in train/",
        "'fox' has no image in test/",
        "'owl' has no image in train/ and test/; it has other files: 2 .heic",
    ]


@pytest.mark.parametrize("kind", ["imagefolder", "cifar10"])
def test_links_are_followed(tree, kind, tmp_path):
    linked = tmp_path / "linked"
    for part in ("train", "test"):
        (linked / part).mkdir(parents=True)
        (linked / part / "cat").symlink_to(tree / part / "cat")
        (linked / part / "dog").mkdir()
        (linked / part / "dog" / "1.png").symlink_to(tree / part / "dog" / "0.png")
    assert counts(kind, linked) == (("cat", "dog"), 9, 4)
    splits = tmp_path / "splits"
    splits.mkdir()
    for part in ("train", "test"):
        (splits / part).symlink_to(tree / part)
    assert counts(kind, splits) == (("cat", "dog"), 16, 6)


@pytest.mark.parametrize("kind", ["imagefolder", "cifar10"])
def test_broken_links_and_loops_are_named_together(tree, kind):
    cat = tree / "train" / "cat"
    (cat / "broken.png").symlink_to("/nonexistent")
    (cat / "self.png").symlink_to("self.png")
    (cat / "loop").symlink_to(tree / "train")
    with pytest.raises(DataError) as error:
        read(kind, tree)
    lines = sorted(str(error.value).splitlines())
    assert lines[0].startswith(f"{cat}/broken.png is a link that leads nowhere: ")
    assert lines[1] == f"{cat}/loop is a link to a folder that contains it"
    assert lines[2].startswith(f"{cat}/self.png is a link that leads nowhere: ")


def test_links_in_an_archive_are_followed_or_named(tree, tmp_path):
    def packed(name, target, kind=tarfile.SYMTYPE):
        link = tarfile.TarInfo(name)
        link.type, link.linkname = kind, target
        with tarfile.open(path := tmp_path / "set.tar", "w") as archive:
            archive.add(tree, arcname="")
            archive.addfile(link)
        load.__globals__["_load"].cache_clear()
        return load(f"cifar10:{path}")

    assert len(packed("train/cat/x.png", "0.png").train) == 17
    assert len(packed("train/cat/x.png", "train/cat/0.png", tarfile.LNKTYPE).train) == 17
    with pytest.raises(DataError, match=r"train/cat/x.png is a link that leads nowhere"):
        packed("train/cat/x.png", "gone.png")
    with pytest.raises(DataError, match="train/bird is a link to a folder: unpack the archive"):
        packed("train/bird", "cat")


def test_pipes_are_left_out_and_counted(tree, kind):
    os.mkfifo(tree / "train" / "cat" / "pipe.png")
    assert counts(kind, tree) == (("cat", "dog"), 16, 6)
    assert read(kind, tree).notes == ("left out of train/: 1 no regular file",)


def test_two_data_sets_in_one_folder_are_not_mixed(tree, kind, tmp_path):
    write_tree(tmp_path / "both" / "other", {"train": 8, "test": 3})
    tree = tree.rename(tmp_path / "both" / "set")
    with pytest.raises(DataError, match=r"several folders train/: .*other/train, .*set/train"):
        read(kind, tmp_path / "both")


def test_names_that_are_not_utf8_are_read_and_printable(tree, kind):
    file = tree / "train" / "cat" / "caf\udce9\x1b.png"  # the byte e9 and an escape character
    (tree / "train" / "cat" / "0.png").rename(file)
    assert counts(kind, tree) == (("cat", "dog"), 16, 6)
    file.write_bytes(b"junk")
    with pytest.raises(DataError) as error:
        read(kind, tree)
    assert r"caf\xe9\x1b.png cannot be read as an image" in str(error.value)
    str(error.value).encode()


def test_all_unreadable_images_are_named_at_once(tree, kind):
    for i in range(8):
        (tree / "train" / "cat" / f"{i}.png").write_bytes(b"junk" if i % 2 else b"")
    with pytest.raises(DataError) as error:
        read(kind, tree)
    assert str(error.value).count("0.png is empty") == 1
    for i in (0, 2, 4, 6):
        (tree / "train" / "cat" / f"{i}.png").unlink()
    with pytest.raises(DataError) as error:
        read(kind, tree)
    assert str(error.value).count("cannot be read as an image") == 4


def test_notes_are_in_the_description_and_no_part_of_identity(tree, kind):
    before = describe(name_of(kind, tree), 0.25)
    (tree / "train" / "cat" / "a.txt").write_text("x")
    load.__globals__["_load"].cache_clear()
    after = describe(name_of(kind, tree), 0.25)
    assert (before.notes, after.notes) == ((), ("left out of train/: 1 .txt",))
    assert after.record_notes == ("data: left out of train/: 1 .txt",)
    assert before.fingerprint == after.fingerprint


def test_a_folder_with_more_images_than_planned_is_refused_with_both_numbers(tree, kind):
    planned = describe(name_of(kind, tree), 0.25)
    both(tree, "cat/2023/1.png")
    load.__globals__["_load"].cache_clear()
    name_of(kind, tree)
    with pytest.raises(DataError, match=r"had 16 training and 6 test images, now 17 and 7"):
        load_verified(planned)


def test_a_class_of_python_batches_without_images_is_named(tmp_path):
    folder = python_batches(tmp_path / "b")
    meta = {b"label_names": [b"cat", b"dog", b"owl"]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    with pytest.raises(DataError, match="class 'owl' has no training image"):
        load(f"cifar10:{folder}")


def test_study_json_of_earlier_versions_has_no_notes(tmp_path):
    data = replace(DATA, notes=("left out of train/: 1 .txt",))
    folder = StudyFolder(tmp_path / "run").create(grid_study(1), data)
    assert folder.data() == data
    file = folder.path / "study.json"
    edit(file, lambda values: values["data"].pop("notes"))
    assert folder.data() == DATA
