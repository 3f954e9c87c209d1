"""`ade20k:DIR`: images with label maps in ADE20K's layout. Does not import torch.

Images are in ``images/training/`` and ``images/validation/``, label maps of the same names in
``annotations/training/`` and ``annotations/validation/``: PNG with 0 for pixels that are not
annotated, and classes from 1. The second split is the test split.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from archsearch.scenes.pixels import other_size, read_pixels
from archsearch.scenes.scene import IGNORED, Pixels, Scene, SceneSet
from archsearch.training.decoding import decode_values, read_header
from archsearch.training.file_tree import FileTree, file_tree
from archsearch.training.image_folder import MAX_HEADERS
from archsearch.training.images import DataError, printable, read_file, refuse
from archsearch.training.listing import is_image

TRAIN, TEST = "training", "validation"

NAME_FILES = ("objectInfo150.txt", "classes.txt")
"""Names of the classes: ADE20K's own table, or one name per line."""

NUM_CLASSES, MAX_CLASSES = 150, 254
"""The number of classes without a file of names, and the largest number: 255 is not annotated."""

MAX_DECODED = 200
"""Label maps of a split that are decoded before training; every map is checked as it is read."""


def ade20k(name: str, path: str) -> SceneSet:
    """The data set in the folder ``path``.

    Raises:
        DataError: files are missing or damaged, or maps have other sizes than their images or
            unknown classes; the message lists the problems.
    """
    source = Path(path).expanduser()
    trees = _trees(source, name)
    keys = {split: _keys(*trees[split]) for split in trees}
    refuse([text for split in trees for text in _problems(*trees[split], keys[split])])
    classes = _classes(source)
    scenes = {split: _scenes(trees[split], keys[split], classes) for split in trees}
    refuse(list(dict.fromkeys(text for part in scenes.values() for text in part.problems())))
    lines = [f"{len(classes)} classes", *classes]
    lines += [
        f"{split} {key} {images.sizes[key]} {maps.sizes[map_key]}"
        for split, (images, maps) in trees.items()
        for key, map_key in keys[split].items()
    ]
    return SceneSet(
        name,
        printable(source),
        (),
        classes,
        False,
        scenes[TRAIN],
        scenes[TEST],
        hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16],
        in_files=True,
    )


def _trees(source: Path, name: str) -> dict[str, tuple[FileTree, FileTree]]:
    """The files of the images and of the label maps of each split."""
    folders = [
        source / kind / split for kind in ("images", "annotations") for split in (TRAIN, TEST)
    ]
    if missing := [printable(folder) for folder in folders if not folder.is_dir()]:
        raise DataError(
            f"{printable(name)} lacks the folders {', '.join(missing)}: wanted ADE20K's layout, "
            "with images in images/training/ and images/validation/ and a label map of the same "
            "name in annotations/"
        )
    trees = [file_tree(folder) for folder in folders]
    return {TRAIN: (trees[0], trees[2]), TEST: (trees[1], trees[3])}


def _keys(images: FileTree, maps: FileTree) -> dict[str, str]:
    """The key of each image, sorted, and that of its label map."""
    by_stem = {_stem(key): key for key in maps.sizes if is_image(key)}
    keys = sorted(filter(is_image, images.sizes))
    return {key: by_stem[_stem(key)] for key in keys if _stem(key) in by_stem}


def _problems(images: FileTree, maps: FileTree, keys: dict[str, str]) -> Iterable[str]:
    """Images and label maps that are empty or have no partner, and images that share one."""
    for tree, used, partner in ((images, keys, "label map"), (maps, keys.values(), "image")):
        names, paired = sorted(filter(is_image, tree.sizes)), {*used}
        yield from (f"{tree.name(key)} has no {partner}" for key in names if key not in paired)
        yield from (f"{tree.name(key)} is empty" for key in names if not tree.sizes[key])
    owners: dict[str, str] = {}
    for key, label_map in keys.items():
        if (owner := owners.setdefault(label_map, key)) != key:
            yield f"{images.name(owner)} and {images.name(key)} have one label map"
    if not keys:
        yield f"{printable(images.source)} has no images with label maps"


def _stem(key: str) -> str:
    return key.rpartition(".")[0]


def _classes(source: Path) -> tuple[str, ...]:
    """The names of the classes, from `NAME_FILES` or numbers.

    Raises:
        DataError: a file of names cannot be read, or has too few or too many.
    """
    file = next((source / name for name in NAME_FILES if (source / name).exists()), None)
    if file is None:
        return tuple(f"class {number}" for number in range(1, NUM_CLASSES + 1))
    lines = read_file(file).decode("utf-8", "backslashreplace").splitlines()
    rows = [line.strip() for line in lines if line.strip()]
    names = [row.split("\t")[-1] for row in (rows[1:] if file.name == NAME_FILES[0] else rows)]
    if not 2 <= len(names) <= MAX_CLASSES:
        raise DataError(f"{printable(file)} must name 2 to {MAX_CLASSES} classes, got {len(names)}")
    return tuple(names)


def _scenes(
    trees: tuple[FileTree, FileTree], keys: dict[str, str], classes: tuple[str, ...]
) -> "MapScenes":
    images, maps = trees
    paths = [(images.source / key, maps.source / map_key) for key, map_key in keys.items()]
    return MapScenes(tuple(paths), len(classes))


@dataclass(frozen=True)
class MapScenes:
    """Images with label maps, as paths of both."""

    paths: tuple[tuple[Path, Path], ...]
    num_classes: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Scene:
        image, label_map = self.paths[index]
        values = self._values(label_map)
        return Scene(read_pixels(image, values.shape, _owner(label_map)), None, values)

    def _values(self, path: Path) -> Pixels:
        """The label map with classes from 0."""
        values = decode_values(read_file(path), str(path))
        unknown = np.unique(values[(values > self.num_classes) & (values != IGNORED)])
        if len(unknown):
            raise DataError(
                f"{printable(path)} has the class {unknown[0]}: wanted 1 to {self.num_classes}, "
                "and 0 for pixels that are not annotated"
            )
        return np.where(values == IGNORED, values, values - np.uint8(1))  # 0 becomes 255

    def problems(self) -> Iterable[str]:
        """Problems of headers and of label maps, of which some are read."""
        for image, label_map in self._some(MAX_HEADERS):
            try:
                size, wanted = (read_header(path).size for path in (image, label_map))
                if sorted(size) != sorted(wanted):
                    yield other_size(image, size, _owner(label_map), wanted)
            except DataError as error:
                yield str(error)
        annotated = False
        for _, label_map in self._some(MAX_DECODED):
            try:
                annotated = bool((self._values(label_map) != IGNORED).any()) or annotated
            except DataError as error:
                annotated = True
                yield str(error)
        if not annotated:
            yield (
                f"{printable(self.paths[0][1].parent)} has no annotated pixel: wanted classes from "
                "1 in the label maps"
            )

    def _some(self, most: int) -> tuple[tuple[Path, Path], ...]:
        return self.paths[:: math.ceil(len(self) / most)]


def _owner(label_map: Path) -> str:
    return f"its label map {printable(label_map)}"
