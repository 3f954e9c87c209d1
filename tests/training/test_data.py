"""Data: lookup, errors, repeatable splits, and fingerprints of the content."""

import json
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from archsearch.training.data import DataError, describe, load, split
from archsearch.training.images import DATA_FOLDER_VARIABLE
from archsearch.training.loader import (
    center_box,
    epoch_batches,
    even_parts,
    num_parts,
    random_box,
    reader,
    readers,
)

CLASSES = ("cat", "dog")


@pytest.fixture
def tree(tmp_path):
    """A small set of image folders, eight training and three test images per class."""
    return write_tree(tmp_path / "set", {"train": 8, "test": 3})


def write_tree(root, counts, size=(32, 32)):
    random = np.random.default_rng(0)
    for part, count in counts.items():
        for name in CLASSES:
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def tar(folder, path, inside=""):
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname=inside)
    return path


def test_digits_are_complete():
    data = describe("digits", 0.2)
    assert data.num_train + data.num_val + data.num_test == 1797
    assert (data.num_classes, data.channels) == (10, 1)
    pixels = load("digits").train.pixels
    assert (pixels.shape[1:], pixels.dtype, pixels.max()) == ((1, 8, 8), np.uint8, 255)


def test_digits_are_those_of_scikit_learn_and_are_read_without_importing_it():
    program = (
        "import sys\n"
        "from archsearch.training.data import digits_table\n"
        "table = digits_table().tolist()\n"
        "print(table if 'sklearn' not in sys.modules else 'imported')\n"
    )
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    expected = load_digits()
    table = np.array(json.loads(output.stdout))
    assert np.array_equal(table[:, :-1], expected.data)
    assert np.array_equal(table[:, -1], expected.target)


def test_a_split_is_stratified_disjoint_and_always_the_same():
    labels = np.repeat(np.arange(5), (100, 50, 30, 20, 10))
    train, val = split(labels, 0.2)
    assert np.bincount(labels[val]).tolist() == [20, 10, 6, 4, 2]
    assert sorted([*train, *val]) == list(range(210))
    assert [a.tolist() for a in split(labels, 0.2)] == [train.tolist(), val.tolist()]


def test_smaller_fractions_are_subsets_of_larger_ones_with_the_same_validation_split():
    labels = np.repeat(np.arange(4), 250)
    parts = {f: split(labels, 0.1, f) for f in (0.01, 0.1, 0.5, 1.0)}
    trains = [set(train.tolist()) for train, _ in parts.values()]
    assert [len(t) for t in trains] == [8, 88, 448, 900]
    assert trains[0] < trains[1] < trains[2] < trains[3]
    assert len({tuple(val.tolist()) for _, val in parts.values()}) == 1


def test_a_class_too_small_to_split_is_refused():
    with pytest.raises(DataError) as error:
        split(np.array([0, 0, 0, 1, 2, 3, 3]), 0.1, classes=("cat", "dog", "fox", "owl"))
    assert str(error.value).splitlines() == [
        "class 'dog' has 1 image: too few to hold out 1",
        "class 'fox' has 1 image: too few to hold out 1",
    ]
    assert len(split(np.array([0, 0, 0, 1]), 0.0)[1]) == 0


def test_equal_images_are_equal_data_in_folders_and_archives(tree, tmp_path):
    packed = tar(tree, tmp_path / "set.tar.gz", inside="some/where")
    names = [f"cifar10:{tree}", f"cifar10:{packed}"]
    folder, archive = (describe(name, 0.25) for name in names)
    assert folder.fingerprint == archive.fingerprint
    assert (folder.num_train, folder.num_val, folder.num_test) == (12, 4, 6)
    changed = tree / "train" / "cat" / "0.png"
    Image.fromarray(255 - np.asarray(Image.open(changed))).save(changed)
    load.__globals__["_load"].cache_clear()
    assert describe(names[0], 0.25).fingerprint != folder.fingerprint


def test_cifar10_is_found_by_the_environment_variable_which_the_error_names(
    tree, tmp_path, monkeypatch
):
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=rf"nowhere.*cifar10:PATH.*{DATA_FOLDER_VARIABLE}"):
        load("cifar10")
    tar(tree, tmp_path / "cifar10.tar.gz")
    monkeypatch.setenv(DATA_FOLDER_VARIABLE, str(tmp_path))
    assert load("cifar10").classes == CLASSES


def python_batches(folder, content=None):
    """CIFAR's own layout, two images a batch."""
    folder.mkdir()
    pixels = np.arange(2 * 3072, dtype=np.uint32).reshape(2, 3072).astype(np.uint8)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for i, name in enumerate(names):
        batch = {b"data": pixels + np.uint8(i), b"labels": [0, 1]}
        (folder / name).write_bytes(content or pickle.dumps(batch, protocol=2))
    meta = {b"label_names": [name.encode() for name in CLASSES]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return folder


def test_python_batches_are_read_as_planes_of_red_green_and_blue(tmp_path):
    data = load(f"cifar10:{python_batches(tmp_path / 'b')}")
    assert data.train.pixels.shape == (10, 3, 32, 32)
    assert data.train.pixels[0].ravel().tolist() == [v % 256 for v in range(3072)]
    assert (data.train.labels.tolist(), data.classes) == ([0, 1] * 5, CLASSES)


class Malicious:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps(Malicious()), r"refers to builtins\.print, which is not allowed"),
        (b"junk", "is not a CIFAR batch"),
        (pickle.dumps([1]), "holds a list"),
        (pickle.dumps({b"data": np.zeros((2, 5), np.uint8), b"labels": [0, 1]}), "not a CIFAR"),
        (pickle.dumps({b"data": np.ones((2, 3072)), b"labels": [0, 1]}), "got float64 and int64"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 7]}), r"0 to 1.*7"),
        (
            pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 0]}),
            r"class 'dog' has no training image\n.*class 'dog' has no test image",
        ),
    ],
    ids=["malicious", "junk", "list", "misshapen", "floats", "labels", "class"],
)
def test_a_damaged_python_batch_is_refused_and_never_executed(tmp_path, capsys, content, reason):
    with pytest.raises(DataError, match=reason):
        load(f"cifar10:{python_batches(tmp_path / 'b', content=content)}")
    assert "executed" not in capsys.readouterr().out


def test_missing_batches_are_named(tmp_path):
    folder = python_batches(tmp_path / "b")
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match="lacks data_batch_3"):
        load(f"cifar10:{folder}")


@pytest.mark.parametrize("kind", ["cifar10", "imagefolder"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: f.write_bytes(b""), "empty"),
        (lambda f: f.write_bytes(b"not an image"), "cannot be read as an image"),
    ],
    ids=["empty", "junk"],
)
def test_a_damaged_image_is_named_before_training(tree, kind, damage, reason):
    file = tree / "train" / "dog" / "3.png"
    damage(file)
    with pytest.raises(DataError, match=reason) as error:
        load(f"{kind}:{tree}")
    assert str(file) in str(error.value)


def test_a_truncated_image_is_named(tree):
    file = tree / "train" / "dog" / "3.png"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match=f"{file} cannot be read as an image"):
        load(f"cifar10:{tree}")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mnist", "no data set is called 'mnist': wanted digits, cifar10"),
        ("digits:there", "digits are built in"),
        ("cifar10:nowhere", "no such file or folder: nowhere"),
        ("imagefolder", "imagefolder:PATH"),
        ("imagefolder:nowhere", "imagefolder:PATH"),
        ("imagefolder:caf\udce9", r"caf\\xe9 has other bytes than printable UTF-8: rename"),
        ("cifar10:no\x1b[31m", r"no\\x1b\[31m has other bytes than printable UTF-8: rename"),
    ],
)
def test_missing_data_is_reported(name, reason):
    with pytest.raises(DataError, match=reason):
        load(name)


@pytest.mark.parametrize("kind", ["cifar10", "imagefolder"])
def test_a_wrong_layout_is_reported(tmp_path, kind):
    write_tree(tmp_path / "set", {"training": 1, "test": 1})
    with pytest.raises(DataError, match=r"wanted images in train/CLASS/.*got test/, training/"):
        load(f"{kind}:{tmp_path / 'set'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        load(f"{kind}:{tmp_path / 'empty'}")
    (tmp_path / "empty" / "photo.heic").touch()
    with pytest.raises(DataError, match=r"got no images there \(1 \.heic\)"):
        load(f"{kind}:{tmp_path / 'empty'}")


def test_the_error_for_images_of_two_sizes_recommends_imagefolder(tree):
    Image.new("RGB", (20, 32)).save(tree / "train" / "cat" / "0.png")
    with pytest.raises(DataError, match=r"20x32 and 32x32.*imagefolder:PATH|32x32 and 20x32"):
        load(f"cifar10:{tree}")


def test_a_damaged_archive_is_named(tree, tmp_path):
    packed = tar(tree, tmp_path / "set.tar.gz")
    packed.write_bytes(packed.read_bytes()[:2000])
    with pytest.raises(DataError, match=f"cannot read {packed}"):
        load(f"cifar10:{packed}")


def test_photographs_of_any_size_are_decoded_square_and_repeatably(tmp_path):
    import torch

    root = write_tree(tmp_path / "set", {"train": 2, "val": 1}, size=(40, 60))
    data = load(f"imagefolder:{root}")
    files = data.train
    read, read_test = readers(files, data.test, 24, torch.device("cpu"))
    batches = even_parts(torch.arange(4), 3)
    plain, first, again, other = (list(read(batches, seed)) for seed in (None, 1, 1, 2))
    assert [x.shape for x, _ in plain] == [(2, 3, 24, 24)] * 2
    assert torch.cat([y for _, y in plain]).tolist() == [0, 0, 1, 1]
    assert torch.equal(first[0][0], again[0][0])
    assert not torch.equal(first[0][0], other[0][0])
    photo = Image.open(files.files[0])
    middle = photo.resize((24, 24), Image.Resampling.BICUBIC, box=center_box(60, 40))
    assert np.array_equal(plain[0][0][0].permute(1, 2, 0).numpy(), np.asarray(middle))

    decoders = len(multiprocessing.active_children())
    (test,) = read_test([torch.arange(2)])
    assert test[1].tolist() == [0, 1]
    assert len(multiprocessing.active_children()) == decoders  # both splits have one pool
    (alone,) = reader(data.test, 24, torch.device("cpu"))([torch.arange(2)])
    assert torch.equal(test[0], alone[0])

    # As Ctrl-C in a terminal does, and a batch system that ends a process group.
    for decoder in multiprocessing.active_children():
        os.kill(decoder.pid, signal.SIGINT)
        os.kill(decoder.pid, signal.SIGTERM)
    assert torch.equal(torch.cat([x for x, _ in read(batches)])[:2], plain[0][0])

    files.files[1].write_bytes(b"damaged")  # the error of a decoding process keeps type and message
    with pytest.raises(DataError) as error:
        list(read(batches))
    assert str(error.value).startswith(f"{files.files[1]} cannot be read as an image: ")
    assert "\n" not in str(error.value)


def test_random_crops_are_inside_the_image_and_vary():
    boxes = [random_box(60, 40, seed) for seed in range(200)]
    assert all(0 <= x0 < x1 <= 60 and 0 <= y0 < y1 <= 40 for x0, y0, x1, y1 in boxes)
    areas = [(x1 - x0) * (y1 - y0) / 2400 for x0, y0, x1, y1 in boxes]
    assert min(areas) >= 0.08
    assert max(areas) > 0.8
    assert random_box(10, 1000, 0) == center_box(10, 1000)  # no random box fits: the center


def test_seed_and_epoch_determine_the_order_of_images():
    import torch

    indices = torch.arange(100, 200)
    first, again, later, other = (
        torch.cat(epoch_batches(indices, 32, seed, epoch)).tolist()
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    )
    assert first == again
    assert len({tuple(order) for order in (first, later, other)}) == 3
    assert sorted(later) == indices.tolist()


def test_batches_are_even_so_that_none_has_one_image():
    import torch

    assert [len(b) for b in epoch_batches(torch.arange(129), 64, 0, 0)] == [43, 43, 43]
    assert [len(b) for b in even_parts(torch.arange(5), 2)] == [3, 2]
    assert [len(b) for b in even_parts(torch.arange(6), 2)] == [2, 2, 2]
    assert even_parts(torch.arange(0), 4) == []
    for num in range(2, 40):  # otherwise no more parts than needed
        assert [num_parts(num, most) for most in range(3, 41)] == [
            math.ceil(num / most) for most in range(3, 41)
        ]
