"""Read CIFAR-10, or another small set of images of one size, into memory."""

import io
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from archsearch.training.image_folder import classes_of, group_by_class
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
    """CIFAR-10 from Python batches, image folders, or a tar archive of either.

    Image folders may hold any other small set whose images all have one size.
    """
    source = Path(path).expanduser() if path else _find_cifar10(root)
    if not source.exists():
        raise DataError(f"no such file or folder: {source}")
    members = dict(sorted(_members(source)))
    if not members:
        raise DataError(f"{source} is empty")
    if any(key.rpartition("/")[2].startswith("data_batch") for key in members):
        classes, train, test = _python_batches(members, source)
    else:
        classes, train, test = _image_tree(members, source)
    return in_memory(name, str(source), classes, train, test)


def _find_cifar10(root: Path) -> Path:
    names = ("cifar10", "cifar-10-batches-py", "cifar10.tar.gz", "cifar-10-python.tar.gz")
    for candidate in (root / n for n in names):
        if candidate.exists():
            return candidate
    raise DataError(
        f"cifar10 is not in {root}/ ({', '.join(names)}): give its path as cifar10:PATH, or set "
        f"the environment variable {DATA_FOLDER_VARIABLE} to the folder that holds it"
    )


def _members(source: Path) -> Iterator[tuple[str, bytes]]:
    """Path and content of every visible file in a folder or tar archive."""
    if source.is_dir():
        for file in source.rglob("*"):
            if file.is_file() and not file.name.startswith("."):
                yield file.relative_to(source).as_posix(), read_file(file)
        return
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None
                if stream and not member.name.rpartition("/")[2].startswith("."):
                    yield member.name.removeprefix("./"), stream.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"cannot read {source}: {error}") from error


def _image_tree(members: dict[str, bytes], source: Path) -> tuple[tuple[str, ...], Images, Images]:
    """Classes, training and test images of ``train/CLASS/*`` and ``test/CLASS/*`` (or ``val``)."""
    keys = group_by_class((key for key in members if key.lower().endswith(SUFFIXES)), source)
    classes = classes_of(keys, source)
    train, test = (_decode_all(keys[part], members, classes, source) for part in ("train", "test"))
    return classes, train, test


def _decode_all(
    keys: dict[str, list[str]], members: dict[str, bytes], classes: tuple[str, ...], source: Path
) -> Images:
    labeled = [(key, label) for label, name in enumerate(classes) for key in keys[name]]
    pixels = [np.asarray(decode(members[key], f"{source}/{key}")) for key, _ in labeled]
    for (key, _), image in zip(labeled, pixels, strict=True):
        if image.shape != pixels[0].shape:
            sizes = " and ".join(f"{p.shape[1]}x{p.shape[0]}" for p in (image, pixels[0]))
            raise DataError(
                f"{source}/{key}: the images have different sizes ({sizes}); use imagefolder:PATH"
            )
    labels = np.array([label for _, label in labeled], np.int64)
    return Images(np.stack(pixels).transpose(0, 3, 1, 2).copy(), (), labels)


class _ArraysOnly(pickle.Unpickler):
    """Loads pickles of byte strings and arrays, as CIFAR's batches are; refuses everything else."""

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
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is not allowed")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _python_batches(
    members: dict[str, bytes], source: Path
) -> tuple[tuple[str, ...], Images, Images]:
    """Classes, training and test images of data_batch_1..5, test_batch and batches.meta.

    The layout is described at cs.toronto.edu/~kriz/cifar.html.
    """
    by_name = {key.rpartition("/")[2]: key for key in members}
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]
    if missing := [n for n in names if n not in by_name]:
        raise DataError(f"{source} lacks {', '.join(missing)}")
    batches = {n: _batch(members[by_name[n]], f"{source}/{by_name[n]}") for n in names}
    classes = tuple(name.decode() for name in batches["batches.meta"][b"label_names"])
    train = [_batch_images(batches[n], f"{source}/{n}") for n in names[:5]]
    pixels = np.concatenate([part.pixels for part in train if part.pixels is not None])
    labels = np.concatenate([part.labels for part in train])
    return classes, Images(pixels, (), labels), _batch_images(batches["test_batch"], str(source))


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
