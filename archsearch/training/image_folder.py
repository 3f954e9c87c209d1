"""Image folders in ImageNet's layout: ``train/CLASS/*`` and ``test/CLASS/*`` or ``val/CLASS/*``."""

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from archsearch.training.images import SUFFIXES, DataError, Dataset, Images

MAX_HEADERS = 20_000
"""Image headers read before training; larger folders are looked at in even steps."""


def image_folder(name: str, path: str, root: Path) -> Dataset:  # noqa: ARG001
    """Images of any size, decoded while training; ``test`` is preferred to ``val`` as test split.

    Fingerprinted by the names and sizes of the files, not by their content.
    """
    place = Path(path).expanduser()
    if not path or not place.is_dir():
        raise DataError(f"imagefolder wants a folder, imagefolder:PATH, got {name!r}")
    found = sorted(p for p in place.glob("*/*/*") if p.suffix.lower() in SUFFIXES)
    names = layout((p.relative_to(place).as_posix() for p in found), place)
    classes = classes_of(names, place)
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


def layout(keys: Iterable[str], place: Path) -> dict[str, dict[str, list[str]]]:
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


def classes_of(names: dict[str, dict[str, list[str]]], place: Path) -> tuple[str, ...]:
    """Names of the classes, sorted: a class's label is its place in them."""
    train, test = set(names["train"]), set(names["test"])
    only = {"train": sorted(train - test), "test": sorted(test - train)}
    problems = [f"only in {part}: {', '.join(found[:5])}" for part, found in only.items() if found]
    if problems:
        raise DataError(f"{place} has classes without images on one side: {'; '.join(problems)}")
    return tuple(sorted(train))
