"""Read CIFAR-10, or another small set of images of one size, into memory."""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsearch.training.decoding import decode
from archsearch.training.file_tree import FileTree, file_tree
from archsearch.training.images import (
    DATA_FOLDER_VARIABLE,
    DataError,
    Dataset,
    Images,
    in_memory,
    printable,
    refuse,
)
from archsearch.training.listing import listing

ClassesAndSplits = tuple[tuple[str, ...], Images, Images]
"""Class names, training and test images."""


def cifar10(name: str, path: str, root: Path) -> Dataset:
    """CIFAR-10 from Python batches, image folders, or a tar archive of either.

    Image folders may hold any other small set whose images all have one size.
    """
    tree = file_tree(Path(path).expanduser() if path else _find_cifar10(root))
    source = printable(tree.source)
    if not tree.sizes:
        raise DataError(f"{source} is empty")
    if any(key.rpartition("/")[2].startswith("data_batch") for key in tree.sizes):
        return in_memory(name, source, *_python_batches(tree))
    images = listing(tree)
    train, test = (
        Images(_decode_all(tree, images.keys(split)), (), images.labels(split))
        for split in (images.train, images.test)
    )
    return in_memory(name, source, images.classes, train, test, images.notes)


def _find_cifar10(root: Path) -> Path:
    names = ("cifar10", "cifar-10-batches-py", "cifar10.tar.gz", "cifar-10-python.tar.gz")
    for candidate in (root / n for n in names):
        if candidate.exists():
            return candidate
    raise DataError(
        f"cifar10 is not in {root}/ ({', '.join(names)}): give its path as cifar10:PATH, or set "
        f"the environment variable {DATA_FOLDER_VARIABLE} to the folder that holds it"
    )


def _decode_all(tree: FileTree, keys: Sequence[str]) -> NDArray[np.uint8]:
    """The pixels ``(N, 3, H, W)`` of images of one size."""
    pixels, problems = list[NDArray[np.uint8]](), list[str]()
    for key in keys:
        try:
            image = np.asarray(decode(tree.read(key), f"{tree.source}/{key}"))
        except DataError as error:
            problems.append(str(error))
            continue
        pixels.append(image)
        if image.shape != pixels[0].shape:
            sizes = " and ".join(f"{p.shape[1]}x{p.shape[0]}" for p in (image, pixels[0]))
            raise DataError(
                f"{tree.name(key)}: the images have different sizes ({sizes}); use imagefolder:PATH"
            )
    refuse(problems)
    return np.stack(pixels).transpose(0, 3, 1, 2).copy()


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


def _python_batches(tree: FileTree) -> ClassesAndSplits:
    """The images of data_batch_1..5 and test_batch, and the class names of batches.meta.

    The layout is described at cs.toronto.edu/~kriz/cifar.html.
    """
    by_name = {key.rpartition("/")[2]: key for key in tree.sizes}
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]
    if missing := [n for n in names if n not in by_name]:
        raise DataError(f"{printable(tree.source)} lacks {', '.join(missing)}")
    batches = {n: _batch(tree.read(by_name[n]), tree.name(by_name[n])) for n in names}
    classes = tuple(name.decode() for name in batches["batches.meta"][b"label_names"])
    *train, test = (_batch_images(batches[n], tree.name(by_name[n])) for n in names[:6])
    pixels = np.concatenate([part.pixels for part in train if part.pixels is not None])
    labels = np.concatenate([part.labels for part in train])
    return classes, Images(pixels, (), labels), test


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
        pixels = np.asarray(batch[b"data"]).reshape(-1, 3, 32, 32)
        labels = np.asarray(batch[b"labels"])
    except (KeyError, ValueError) as error:
        raise DataError(f"{name} is not a CIFAR batch: {error}") from error
    if pixels.dtype != np.uint8 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{name} is not a CIFAR batch: wanted pixels uint8 and whole numbers as labels, got "
            f"{pixels.dtype} and {labels.dtype}"
        )
    if len(pixels) != len(labels):
        raise DataError(f"{name} has {len(pixels)} images and {len(labels)} labels")
    return Images(pixels, (), labels.astype(np.int64))
