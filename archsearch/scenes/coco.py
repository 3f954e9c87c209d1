"""`coco:DIR`: images with boxes and masks in COCO's layout, of any categories. No torch.

``annotations/instances_train2017.json`` and ``..._val2017.json`` describe the images in
``train2017/`` and ``val2017/``. The second split is the test split.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archsearch.scenes.coco_file import (
    CocoFile,
    ImageRow,
    ObjectRow,
    boxes_of,
    read_coco_file,
)
from archsearch.scenes.coco_masks import mask, parsed
from archsearch.scenes.pixels import other_size, read_pixels
from archsearch.scenes.scene import Objects, Scene, SceneSet
from archsearch.training.decoding import read_header
from archsearch.training.file_tree import FileTree, file_tree
from archsearch.training.image_folder import MAX_HEADERS
from archsearch.training.images import DataError, printable, refuse
from archsearch.training.listing import is_image

TRAIN, TEST = "train2017", "val2017"

MIN_SIDE = 1.0
"""Objects with a smaller side of their box, in pixels, are left out of training, as is usual."""

MAX_NAMES = 5
"""Names of classes that a note lists."""


def coco(name: str, path: str) -> SceneSet:
    """The data set in the folder ``path``.

    Images without objects, and objects without an area, are kept out of training and counted in
    the notes; in the test split they count as COCO's tools count them.

    Raises:
        DataError: files are missing or damaged, or annotations contradict each other or the
            images; the message lists the problems.
    """
    source = Path(path).expanduser()
    files = _annotation_files(source, name)
    trees = {split: file_tree(source / split) for split in files}
    problems = [text for file in files.values() for text in file.problems]
    for split, file in files.items():
        problems += _missing_images(trees[split], file)
    refuse([*problems, *_different_categories(*files.values())])
    refuse([t for split, file in files.items() for t in _different_sizes(source / split, file)])
    train, notes = _trainable(files[TRAIN])
    if not train:
        raise DataError(f"{files[TRAIN].name} has no objects to train on")
    used = {TRAIN: train, TEST: files[TEST].by_image()}
    scenes = {split: _scenes(source / split, files[split], used[split]) for split in files}
    return SceneSet(
        name,
        printable(source),
        tuple(category.name for category in files[TRAIN].categories.values()),
        (),
        all(file.has_masks for file in files.values()),
        scenes[TRAIN].inside(),
        scenes[TEST],
        _fingerprint(trees, files),
        (*notes, *(n for split in files for n in _notes(trees[split], split, files[split]))),
        in_files=True,
    )


def _annotation_files(source: Path, name: str) -> dict[str, CocoFile]:
    paths = {split: source / "annotations" / f"instances_{split}.json" for split in (TRAIN, TEST)}
    wanted = [*paths.values(), source / TRAIN, source / TEST]
    if missing := [p for p in wanted if not (p.is_file() if p.suffix else p.is_dir())]:
        raise DataError(
            f"{printable(name)} lacks {', '.join(printable(p) for p in missing)}: wanted a folder "
            f"in COCO's layout, with images in {TRAIN}/ and {TEST}/ and annotations in "
            "annotations/instances_*.json"
        )
    return {split: read_coco_file(path) for split, path in paths.items()}


def _missing_images(tree: FileTree, file: CocoFile) -> list[str]:
    """Problems with the image files that the annotations list."""
    problems = []
    for image in file.images.values():
        size = tree.sizes.get(image.file_name)
        if not size:
            state = "missing" if size is None else "empty"
            problems.append(f"{tree.name(image.file_name)} (image {image.id}) is {state}")
    return problems


def _different_categories(train: CocoFile, test: CocoFile) -> list[str]:
    pairs = [{(c.id, c.name) for c in file.categories.values()} for file in (train, test)]
    names = [printable(f"{name} ({key})") for key, name in sorted(pairs[0] ^ pairs[1])]
    return [
        f"{train.name} and {test.name} must have the same categories; only one has {_listed(names)}"
    ][: len(names)]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _different_sizes(folder: Path, file: CocoFile) -> list[str]:
    """Problems with images whose headers cannot be read, or give another size."""
    problems, images = [], list(file.images.values())
    for image in images[:: math.ceil(len(images) / MAX_HEADERS)]:
        try:
            size = read_header(folder / image.file_name).size
        except DataError as error:
            problems.append(str(error))
            continue
        wanted = image.height, image.width
        if sorted(size) != sorted(wanted):
            problems.append(other_size(folder / image.file_name, size, _owner(image), wanted))
    return problems


def _owner(image: ImageRow) -> str:
    return f"the annotation of image {image.id}"


def _trainable(file: CocoFile) -> tuple[dict[int, list[ObjectRow]], list[str]]:
    """The objects of each image to train on by its id, and notes on what is left out."""
    groups, small, outside = {}, 0, 0
    for key, rows in file.by_image().items():
        visible = [_visible_sides(row, file.images[key]) for row in rows]
        large = [row for row, sides in zip(rows, visible, strict=True) if min(sides) >= MIN_SIDE]
        small += len(rows) - len(large)
        outside += sum(
            row.bbox[2] - sides[0] > 1 or row.bbox[3] - sides[1] > 1
            for row, sides in zip(rows, visible, strict=True)
        )
        if any(not row.iscrowd for row in large):
            groups[key] = large
    counts = {
        "left out of training: {:,} images without objects": len(file.images) - len(groups),
        "left out of training: {:,} objects that are narrower than a pixel": small,
        "{:,} boxes of training images reach outside of the image: they end at its edge": outside,
    }
    return groups, [text.format(count) for text, count in counts.items() if count]


def _visible_sides(row: ObjectRow, image: ImageRow) -> tuple[float, float]:
    """Width and height of the part of the box that is inside of the image."""
    x, y, width, height = row.bbox
    return min(x + width, image.width) - max(x, 0), min(y + height, image.height) - max(y, 0)


def _notes(tree: FileTree, split: str, file: CocoFile) -> list[str]:
    """Images that are not listed, and classes without objects."""
    names = {image.file_name for image in file.images.values()}
    notes = []
    if unlisted := sum(is_image(key) and key not in names for key in tree.sizes):
        notes.append(f"left out of {split}/: {unlisted:,} images that the annotations do not list")
    counts = Counter(row.category_id for row in file.objects.values() if not row.iscrowd)
    if absent := [printable(c.name) for c in file.categories.values() if not counts[c.id]]:
        notes.append(f"classes without objects in {split}/: {_listed(absent)}")
    return notes


def _fingerprint(trees: dict[str, FileTree], files: dict[str, CocoFile]) -> str:
    """Covers the annotations, and the names and sizes of the image files."""
    digest = hashlib.sha256()
    for split, file in files.items():
        digest.update(hashlib.sha256(file.content).digest())
        for image in file.images.values():
            name = image.file_name
            digest.update(f"{split}/{name} {trees[split].sizes[name]}\n".encode())
    return digest.hexdigest()[:16]


def _scenes(folder: Path, file: CocoFile, objects: dict[int, list[ObjectRow]]) -> "CocoScenes":
    """The images with these objects by the id of the image."""
    numbers = {category: i for i, category in enumerate(file.categories)}
    rows = [row for group in objects.values() for row in group]
    texts = [bytes(row.segmentation) if file.has_masks else b"" for row in rows]
    areas = [row.bbox[2] * row.bbox[3] if row.area is None else row.area for row in rows]
    return CocoScenes(
        folder,
        [file.images[key] for key in objects],
        boxes_of(rows),
        np.array([numbers[row.category_id] for row in rows], np.int64),
        np.array([bool(row.iscrowd) for row in rows], bool),
        np.array(areas, np.float32),
        b"".join(texts),
        np.cumsum([0, *map(len, objects.values())]),
        np.cumsum([0, *map(len, texts)]),
    )


@dataclass(frozen=True, eq=False)
class CocoScenes:
    """The images of one split. Arrays hold the objects of all images, one image after the other.

    ``segmentations`` is the JSON of all objects in one text. Plain arrays reach other processes
    fast, which a list of a million objects would not.
    """

    folder: Path
    images: list[ImageRow]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    areas: NDArray[np.float32]
    segmentations: bytes
    object_ends: NDArray[np.int64]
    """``(N + 1,)``: the objects of image ``i`` are those from entry ``i`` to ``i + 1``."""
    text_ends: NDArray[np.int64]

    def inside(self) -> "CocoScenes":
        """The same images; boxes that reach outside of them end at their edge."""
        corners = np.array([[image.width, image.height] * 2 for image in self.images], np.float32)
        limits = np.repeat(corners, np.diff(self.object_ends), axis=0)
        return replace(self, boxes=np.clip(self.boxes, 0, limits))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Scene:
        image = self.images[index]
        first, last = self.object_ends[index : index + 2]
        part = slice(first, last)
        return Scene(
            read_pixels(self.folder / image.file_name, (image.height, image.width), _owner(image)),
            Objects(
                self.boxes[part],
                self.labels[part],
                self._masks(first, last, image),
                self.crowd[part],
                self.areas[part],
            ),
        )

    def _masks(self, first: int, last: int, image: ImageRow) -> NDArray[np.bool_] | None:
        if not self.segmentations:
            return None
        masks = np.zeros((last - first, image.height, image.width), bool)
        for i in range(first, last):
            text = self.segmentations[self.text_ends[i] : self.text_ends[i + 1]]
            masks[i - first] = mask(parsed(text), image.height, image.width)
        return masks
