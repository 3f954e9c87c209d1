"""Image folders in ImageNet's layout, of any size: decoded during training."""

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path

from archsearch.training.decoding import has_transparent_pixels, read_header
from archsearch.training.file_tree import file_tree
from archsearch.training.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    DataError,
    Dataset,
    Images,
    printable,
    read_file,
    refuse,
)
from archsearch.training.listing import listing

MAX_HEADERS = 20_000
"""Image headers that are checked before training; of larger folders every n-th file is checked."""

MAX_DECODED = 64
"""Images that are decoded before training to see whether transparent pixels occur."""

DIFFERENT_PIXELS = "pixels as seen"
"""Line in the fingerprint of folders whose images an earlier version decoded differently."""

ON_WHITE = "transparent pixels are composited on white"


def image_folder(name: str, path: str, root: Path) -> Dataset:  # noqa: ARG001
    """The images that `archsearch.training.listing` describes, without their content.

    The fingerprint covers the names and sizes of the files, not their content.
    """
    source = Path(path).expanduser()
    if not path or not source.is_dir():
        raise DataError(f"imagefolder needs a folder, imagefolder:PATH, got {printable(name)!r}")
    tree = file_tree(source)
    images = listing(tree)
    keys = [images.keys(split) for split in (images.train, images.test)]
    train, test = (
        Images(None, tuple(source / key for key in split_keys), images.labels(split))
        for split_keys, split in zip(keys, (images.train, images.test), strict=True)
    )
    adjusted, transparent = _check_headers((*train.files, *test.files))
    lines = [f"{key} {tree.sizes[key]}" for split_keys in keys for key in split_keys]
    lines += [DIFFERENT_PIXELS] if adjusted or transparent else []
    return Dataset(
        name,
        printable(source),
        images.classes,
        3,
        IMAGENET_MEAN,
        IMAGENET_STD,
        train,
        test,
        hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()[:16],
        (*images.notes, ON_WHITE) if transparent else images.notes,
    )


def _check_headers(files: Sequence[Path]) -> tuple[bool, bool]:
    """Whether any image is scaled or turned, and whether any has transparent pixels.

    Raises:
        DataError: headers are not readable; the message lists the files.
    """
    adjusted, transparent, problems = False, list[Path](), list[str]()
    for file in files[:: math.ceil(len(files) / MAX_HEADERS)]:
        try:
            header = read_header(file)
        except DataError as error:
            problems.append(str(error))
            continue
        adjusted |= header.adjusted
        transparent += [file] if header.transparent else []
    refuse(problems)
    some = transparent[:: math.ceil(len(transparent) / MAX_DECODED) or 1]
    return adjusted, any(has_transparent_pixels(read_file(f), str(f)) for f in some)
