"""CIFAR-10, or any other small set of images of one size, read whole into memory."""

import io
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from archsearch.training.image_folder import classes_of, layout
from archsearch.training.images import (
    DATA_FOLDER_VARIABLE,
    SUFFIXES,
    DataError,
    Dataset,
    Images,
    decode,
    in_memory,
    read_file,
)


def cifar10(name: str, path: str, root: Path) -> Dataset:
    """CIFAR-10 as python batches, as image folders, or a tar archive of either.

    Image folders may hold any other small set, too, if all its images have one size.
    """
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
    return in_memory(name, str(place), classes, train, test)


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


def _image_tree(members: dict[str, bytes], place: Path) -> tuple[tuple[str, ...], Images, Images]:
    """Small images in ``train/CLASS/*`` and ``test/CLASS/*`` (or ``val``), decoded."""
    names = layout((key for key in members if key.lower().endswith(SUFFIXES)), place)
    classes = classes_of(names, place)
    train, test = (_decoded(names[part], members, classes, place) for part in ("train", "test"))
    return classes, train, test


def _decoded(
    names: dict[str, list[str]], members: dict[str, bytes], classes: tuple[str, ...], place: Path
) -> Images:
    keys = [(key, label) for label, name in enumerate(classes) for key in names[name]]
    pixels = [np.asarray(decode(members[key], f"{place}/{key}")) for key, _ in keys]
    for (key, _), image in zip(keys, pixels, strict=True):
        if image.shape != pixels[0].shape:
            sizes = " and ".join(f"{p.shape[1]}x{p.shape[0]}" for p in (image, pixels[0]))
            raise DataError(
                f"{place}/{key}: images of two sizes ({sizes}), which imagefolder:PATH can take"
            )
    labels = np.array([label for _, label in keys], np.int64)
    return Images(np.stack(pixels).transpose(0, 3, 1, 2).copy(), (), labels)


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
