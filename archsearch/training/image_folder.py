"""Image folders in ImageNet's layout: ``train/CLASS/*`` and ``test/CLASS/*`` or ``val/CLASS/*``."""

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from archsearch.training.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    SUFFIXES,
    DataError,
    Dataset,
    Images,
)

MAX_HEADERS = 20_000
"""Image headers that are checked before training; of larger folders every n-th file is checked."""


def image_folder(name: str, path: str, root: Path) -> Dataset:  # noqa: ARG001
    """Images of any size, decoded during training; ``test`` is the test split, else ``val``.

    The fingerprint covers the names and sizes of the files, not their content.
    """
    source = Path(path).expanduser()
    if not path or not source.is_dir():
        raise DataError(f"imagefolder needs a folder, imagefolder:PATH, got {name!r}")
    files = sorted(p for p in source.glob("*/*/*") if p.suffix.lower() in SUFFIXES)
    keys = group_by_class((p.relative_to(source).as_posix() for p in files), source)
    classes = classes_of(keys, source)
    train, test = (_images(keys[part], classes, source) for part in ("train", "test"))
    sizes = _checked_sizes((*train.files, *test.files))
    listing = "\n".join(f"{p.relative_to(source).as_posix()} {s}" for p, s in sizes.items())
    return Dataset(
        name,
        str(source),
        classes,
        3,
        IMAGENET_MEAN,
        IMAGENET_STD,
        train,
        test,
        hashlib.sha256(listing.encode()).hexdigest()[:16],
    )


def _images(keys: dict[str, list[str]], classes: tuple[str, ...], source: Path) -> Images:
    files = tuple(source / key for name in classes for key in keys[name])
    counts = [len(keys[name]) for name in classes]
    return Images(None, files, np.repeat(np.arange(len(classes), dtype=np.int64), counts))


def _checked_sizes(files: tuple[Path, ...]) -> dict[Path, int]:
    """Sizes in bytes, after a check that no file is empty and that image headers are readable."""
    sizes = {file: _size(file) for file in files}
    if empty := [file for file, size in sizes.items() if size == 0]:
        raise DataError(f"empty image files ({len(empty)}), the first is {empty[0]}")
    for file in files[:: math.ceil(len(files) / MAX_HEADERS)]:
        _check_header(file)
    return sizes


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error


def _check_header(file: Path) -> None:
    from PIL import Image

    try:
        Image.open(file).close()
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{file} cannot be read as an image: {error}") from error


def group_by_class(keys: Iterable[str], source: Path) -> dict[str, dict[str, list[str]]]:
    """Image paths by split (train, test) and class, read from the last three parts of each path.

    Raises:
        DataError: there are no training or no test images.
    """
    groups: dict[str, dict[str, list[str]]] = {}
    for key in keys:
        parts = key.split("/")
        if len(parts) >= 3:
            groups.setdefault(parts[-3], {}).setdefault(parts[-2], []).append(key)
    test = groups.get("test") or groups.get("val")
    if not groups.get("train") or not test:
        raise DataError(
            f"wrong layout in {source}: wanted images in train/CLASS/ and in test/CLASS/ or "
            f"val/CLASS/, got {', '.join(f'{f}/' for f in sorted(groups)) or 'no images'}"
        )
    return {"train": groups["train"], "test": test}


def classes_of(keys: dict[str, dict[str, list[str]]], source: Path) -> tuple[str, ...]:
    """Sorted class names; a label is the index of its class among them.

    Raises:
        DataError: a class has images in one split only.
    """
    train, test = set(keys["train"]), set(keys["test"])
    only = {"train": sorted(train - test), "test": sorted(test - train)}
    problems = [f"only in {part}: {', '.join(names[:5])}" for part, names in only.items() if names]
    if problems:
        raise DataError(f"{source} has classes in one split only: {'; '.join(problems)}")
    return tuple(sorted(train))
