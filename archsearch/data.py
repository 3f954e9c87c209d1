"""Images to train on: found, checked, fingerprinted and split. No torch here, and no download.

A new data set is a function that returns a `Dataset` and a row in `SOURCES`.
"""

import hashlib
import io
import math
import os
import pickle
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsearch.study import Data

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

DATA_FOLDER_VARIABLE = "ARCHSEARCH_DATA"
"""Environment variable that names the folder where `cifar10` is looked for; ./data otherwise."""

SPLIT_SEED = 20230417
"""One split for all trials, whatever their seeds, so that their accuracies can be compared."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
MAX_HEADERS = 20_000
"""Image headers read before training; larger folders are checked at even steps."""


class DataError(ValueError):
    """Data that cannot be trained on; the message names the file or folder."""


@dataclass(frozen=True)
class Images:
    """Labelled images of one split: pixels ``(N, C, H, W)`` in memory, or files to decode."""

    pixels: Pixels | None
    files: tuple[Path, ...]
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A data set as it lies on disk, before a validation split is held out of ``train``.

    ``mean`` and ``std`` are per channel, of pixels scaled to 0..1.
    """

    name: str
    source: str
    classes: tuple[str, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Images
    test: Images
    fingerprint: str


def load(name: str) -> Dataset:
    """The data set ``digits``, ``cifar10``, ``cifar10:PATH`` or ``imagefolder:PATH``.

    It is kept for the life of the process: workers train many trials on the same data.

    Raises:
        DataError: no such data set, or missing, empty or unreadable files, named.
    """
    return _load(name, os.environ.get(DATA_FOLDER_VARIABLE, "data"))


@lru_cache(maxsize=1)
def _load(name: str, root: str) -> Dataset:
    kind, _, path = name.partition(":")
    if kind not in SOURCES:
        raise DataError(f"no data set is called {name!r}: wanted {_KNOWN}")
    return SOURCES[kind](name, path, Path(root))


def describe(name: str, val_fraction: float) -> Data:
    """What ``name`` turns out to be, for records: counts after ``val_fraction`` is held out.

    Raises:
        DataError: as `load`, or a class too small to hold anything out of it.
    """
    dataset = load(name)
    train, val = split(dataset.train.labels, val_fraction)
    return Data(
        name=name,
        fingerprint=dataset.fingerprint,
        num_classes=len(dataset.classes),
        channels=dataset.channels,
        num_train=len(train),
        num_val=len(val),
        num_test=len(dataset.test),
        source=dataset.source,
    )


def split(
    labels: Labels, val_fraction: float, data_fraction: float = 1.0
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices to train on and to validate on, stratified by class and the same for every trial.

    ``val_fraction`` of each class is held out; of the rest, ``data_fraction`` is trained on. A
    smaller fraction is a subset of a larger one, and the validation split is not touched by it.

    Raises:
        DataError: a class has too few images to hold one out and keep one.
    """
    train, val = [], []
    for label in range(int(labels.max()) + 1):
        members = _shuffled(np.flatnonzero(labels == label), label)
        held = max(1, round(val_fraction * len(members))) if val_fraction else 0
        if held >= len(members):
            raise DataError(f"class {label} has {len(members)} images: too few to hold out {held}")
        kept = max(1, round(data_fraction * (len(members) - held)))
        val.append(members[:held])
        train.append(members[held : held + kept])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(val))


def _shuffled(indices: NDArray[np.intp], label: int) -> NDArray[np.intp]:
    # RandomState: numpy promises that its stream never changes; Generator's may.
    return np.random.RandomState((SPLIT_SEED + label) % 2**32).permutation(indices)


# --- digits


def _digits(name: str, path: str, root: Path) -> Dataset:  # noqa: ARG001
    """UCI's handwritten digits, 8x8 in 16 grey levels, from inside scikit-learn.

    They come without an official test split: a fifth of each class is set aside, always the same.
    """
    if path:
        raise DataError(f"digits are built in and take no path, got {name!r}")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    rest, test = split(labels, val_fraction=0.2)
    return _in_memory(
        name,
        "scikit-learn's copy of the UCI handwritten digits; a fixed fifth is the test split",
        tuple("0123456789"),
        Images(pixels[rest], (), labels[rest]),
        Images(pixels[test], (), labels[test]),
    )


# --- cifar10


def _cifar10(name: str, path: str, root: Path) -> Dataset:
    """CIFAR-10, or any other small set of its shape: python batches or image folders, or a
    ``.tar.gz`` of either."""
    place = Path(path).expanduser() if path else _find_cifar10(root)
    if not place.exists():
        raise DataError(f"no such file or folder: {place}")
    members = dict(sorted(_members(place)))
    if not members:
        raise DataError(f"{place} is empty")
    if any(key.rpartition("/")[2].startswith("data_batch") for key in members):
        classes, train, test = _python_batches(members, place)
    else:
        classes, train, test = _image_tree(members, place)
    return _in_memory(name, str(place), classes, train, test)


def _find_cifar10(root: Path) -> Path:
    names = ("cifar10", "cifar-10-batches-py", "cifar10.tar.gz", "cifar-10-python.tar.gz")
    for candidate in (root / n for n in names):
        if candidate.exists():
            return candidate
    raise DataError(
        f"cifar10 is not in {root}/ ({', '.join(names)}): give its place as cifar10:PATH, or the "
        f"folder that holds it in the environment variable {DATA_FOLDER_VARIABLE}"
    )


def _members(place: Path) -> Iterator[tuple[str, bytes]]:
    """Every visible file under a folder or in a tar archive: its path and content."""
    if place.is_dir():
        for file in place.rglob("*"):
            if file.is_file() and not file.name.startswith("."):
                yield file.relative_to(place).as_posix(), read_file(file)
        return
    try:
        with tarfile.open(place) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None
                if stream and not member.name.rpartition("/")[2].startswith("."):
                    yield member.name.removeprefix("./"), stream.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"cannot read {place}: {error}") from error


def read_file(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error


def _image_tree(members: dict[str, bytes], place: Path) -> tuple[tuple[str, ...], Images, Images]:
    """Small images in ``train/CLASS/*`` and ``test/CLASS/*`` (or ``val``), decoded."""
    names = _layout((key for key in members if key.lower().endswith(SUFFIXES)), place)
    classes = _classes(names, place)
    train, test = (_decoded(names[part], members, classes, place) for part in ("train", "test"))
    return classes, train, test


def _decoded(
    names: dict[str, list[str]], members: dict[str, bytes], classes: tuple[str, ...], place: Path
) -> Images:
    pixels, labels = [], []
    for label, name in enumerate(classes):
        for key in names[name]:
            pixels.append(np.asarray(decode(members[key], f"{place}/{key}")))
            labels.append(label)
            if pixels[-1].shape != pixels[0].shape:
                raise DataError(
                    f"{place}/{key} is {pixels[-1].shape[1]}x{pixels[-1].shape[0]} pixels, others "
                    f"are {pixels[0].shape[1]}x{pixels[0].shape[0]}: for mixed sizes use "
                    "imagefolder:PATH"
                )
    return Images(np.stack(pixels).transpose(0, 3, 1, 2).copy(), (), np.array(labels, np.int64))


def decode(content: bytes, name: str) -> Any:
    """A pillow image in RGB of a file's content.

    Raises:
        DataError: not an image, or cut short; names ``name``.
    """
    from PIL import Image

    if not content:
        raise DataError(f"{name} is empty")
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be read as an image: {error}") from error


class _ArraysOnly(pickle.Unpickler):
    """CIFAR's batches are pickles of byte strings and one array; nothing else may be built."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _python_batches(
    members: dict[str, bytes], place: Path
) -> tuple[tuple[str, ...], Images, Images]:
    """The layout of cs.toronto.edu/~kriz/cifar.html: data_batch_1..5, test_batch, batches.meta."""
    by_name = {key.rpartition("/")[2]: key for key in members}
    wanted = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]
    if missing := [n for n in wanted if n not in by_name]:
        raise DataError(f"{place} lacks {', '.join(missing)}")
    batches = {n: _batch(members[by_name[n]], f"{place}/{by_name[n]}") for n in wanted}
    classes = tuple(name.decode() for name in batches["batches.meta"][b"label_names"])
    train = [_batch_images(batches[n], f"{place}/{n}") for n in wanted[:5]]
    pixels = np.concatenate([part.pixels for part in train if part.pixels is not None])
    labels = np.concatenate([part.labels for part in train])
    return classes, Images(pixels, (), labels), _batch_images(batches["test_batch"], str(place))


def _batch(content: bytes, name: str) -> dict[bytes, Any]:
    try:
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{name} is not a CIFAR batch: {error}") from error
    if not isinstance(batch, dict):
        raise DataError(f"{name} is not a CIFAR batch: it holds a {type(batch).__name__}")
    return batch


def _batch_images(batch: dict[bytes, Any], name: str) -> Images:
    try:
        pixels = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
        labels = np.asarray(batch[b"labels"], np.int64)
    except (KeyError, ValueError) as error:
        raise DataError(f"{name} is not a CIFAR batch: {error}") from error
    if len(pixels) != len(labels):
        raise DataError(f"{name} has {len(pixels)} images and {len(labels)} labels")
    return Images(pixels, (), labels)


# --- imagefolder


def _imagefolder(name: str, path: str, root: Path) -> Dataset:  # noqa: ARG001
    """ImageNet's layout, ``train/CLASS/*`` and ``val/CLASS/*``; images of any size, decoded while
    training. Fingerprinted by the names and sizes of the files, not by their content."""
    place = Path(path).expanduser()
    if not path or not place.is_dir():
        raise DataError(f"imagefolder wants a folder, imagefolder:PATH, got {name!r}")
    found = sorted(p for p in place.glob("*/*/*") if p.suffix.lower() in SUFFIXES)
    names = _layout((p.relative_to(place).as_posix() for p in found), place)
    classes = _classes(names, place)
    train, test = (_files(names[part], classes, place) for part in ("train", "test"))
    sizes = _checked_sizes((*train.files, *test.files))
    listing = "\n".join(f"{p.relative_to(place).as_posix()} {s}" for p, s in sizes.items())
    return Dataset(
        name,
        str(place),
        classes,
        3,
        (0.485, 0.456, 0.406),  # ImageNet's, as everyone has them
        (0.229, 0.224, 0.225),
        train,
        test,
        hashlib.sha256(listing.encode()).hexdigest()[:16],
    )


def _files(names: dict[str, list[str]], classes: tuple[str, ...], place: Path) -> Images:
    files = tuple(place / key for name in classes for key in names[name])
    counts = [len(names[name]) for name in classes]
    return Images(None, files, np.repeat(np.arange(len(classes), dtype=np.int64), counts))


def _checked_sizes(files: tuple[Path, ...]) -> dict[Path, int]:
    """Sizes in bytes, after a look at each file (its header only, and not all of a large set)."""
    from PIL import Image

    sizes = {file: file.stat().st_size for file in files}
    if empty := [file for file, size in sizes.items() if size == 0]:
        raise DataError(f"empty image files ({len(empty)}), the first is {empty[0]}")
    for file in files[:: math.ceil(len(files) / MAX_HEADERS)]:
        try:
            Image.open(file).close()
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{file} cannot be read as an image: {error}") from error
    return sizes


# --- what the layouts share


def _layout(keys: Iterable[str], place: Path) -> dict[str, dict[str, list[str]]]:
    """Image paths by split (train, test) and class, from their last three parts."""
    found: dict[str, dict[str, list[str]]] = {}
    for key in keys:
        parts = key.split("/")
        if len(parts) >= 3:
            found.setdefault(parts[-3], {}).setdefault(parts[-2], []).append(key)
    test = found.get("test") or found.get("val")
    if not found.get("train") or not test:
        raise DataError(
            f"wrong layout in {place}: wanted images in train/CLASS/ and in test/CLASS/ or "
            f"val/CLASS/, got {', '.join(f'{f}/' for f in sorted(found)) or 'no images there'}"
        )
    return {"train": found["train"], "test": test}


def _classes(names: dict[str, dict[str, list[str]]], place: Path) -> tuple[str, ...]:
    only = {p: sorted(set(names[p]) - set(names[q])) for p, q in _BOTH_WAYS}
    problems = [f"only in {part}: {', '.join(found[:5])}" for part, found in only.items() if found]
    if problems:
        raise DataError(f"{place} has classes without images on one side: {'; '.join(problems)}")
    return tuple(sorted(names["train"]))


_BOTH_WAYS = (("train", "test"), ("test", "train"))


def _in_memory(
    name: str, source: str, classes: tuple[str, ...], train: Images, test: Images
) -> Dataset:
    """A small set, fingerprinted by its pixels and labels: the same images are the same data."""
    assert train.pixels is not None
    assert test.pixels is not None
    digest = hashlib.sha256()
    for array in (train.pixels, train.labels, test.pixels, test.labels):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    mean, std = _statistics(train.pixels)
    return Dataset(
        name,
        source,
        classes,
        train.pixels.shape[1],
        mean,
        std,
        train,
        test,
        digest.hexdigest()[:16],
    )


def _statistics(pixels: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of pixels scaled to 0..1, from a histogram."""
    values = np.arange(256) / 255
    counts = [np.bincount(pixels[:, c].ravel(), minlength=256) for c in range(pixels.shape[1])]
    means = [float(n @ values / n.sum()) for n in counts]
    return tuple(means), tuple(
        float(np.sqrt(n @ (values - m) ** 2 / n.sum())) or 1.0
        for n, m in zip(counts, means, strict=True)
    )


SOURCES: dict[str, Callable[[str, str, Path], Dataset]] = {
    "digits": _digits,
    "cifar10": _cifar10,
    "imagefolder": _imagefolder,
}
_KNOWN = "digits, cifar10, cifar10:PATH or imagefolder:PATH"
