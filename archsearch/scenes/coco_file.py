"""One annotation file in COCO's layout, read and checked. Does not import torch.

All problems of a file are listed together, each with the id of its image or annotation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from archsearch.scenes.coco_masks import parsed, problem
from archsearch.training.images import DataError, printable, read_file

MAX_PIXELS = 178_956_970
"""The largest image that pillow decodes."""


class _File(msgspec.Struct):
    """Rows are read one by one, so that every wrong one is reported."""

    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]


class ImageRow(msgspec.Struct):
    id: int
    file_name: str
    width: int
    height: int


class CategoryRow(msgspec.Struct):
    id: int
    name: str


class ObjectRow(msgspec.Struct):
    """``bbox`` is x, y, width and height; ``segmentation`` is empty without a mask."""

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0
    area: float | None = None
    segmentation: msgspec.Raw = msgspec.Raw(b"")


Row = TypeVar("Row", ImageRow, CategoryRow, ObjectRow)


@dataclass
class CocoFile:
    """The rows of an annotation file by id; categories in the order of their ids.

    ``problems`` lists what is wrong with them, and ``content`` is the file as read.
    """

    name: str
    content: bytes
    problems: list[str] = field(default_factory=list)
    images: dict[int, ImageRow] = field(default_factory=dict)
    categories: dict[int, CategoryRow] = field(default_factory=dict)
    objects: dict[int, ObjectRow] = field(default_factory=dict)

    @cached_property
    def has_masks(self) -> bool:
        """Whether any object has a mask; then each must have one."""
        return any(map(has_mask, self.objects.values()))

    def by_image(self) -> dict[int, list[ObjectRow]]:
        """The objects of every image, by the id of the image."""
        groups: dict[int, list[ObjectRow]] = {image: [] for image in self.images}
        for row in self.objects.values():
            groups[row.image_id].append(row)
        return groups


def read_coco_file(path: Path) -> CocoFile:
    """The annotation file at ``path``, with its problems.

    Raises:
        DataError: it cannot be read, is no JSON, or lacks one of the three lists.
    """
    content = read_file(path)
    try:
        rows = msgspec.json.decode(content, type=_File)
    except msgspec.MsgspecError as error:
        raise DataError(
            f"{printable(path)} is no annotation file in COCO's layout "
            f"({len(content):,} bytes): {error}"
        ) from error
    file = CocoFile(printable(path), content)
    file.images = _rows(file, "images", rows.images, ImageRow)
    categories = _rows(file, "categories", rows.categories, CategoryRow)
    file.categories = dict(sorted(categories.items()))
    file.objects = _rows(file, "annotations", rows.annotations, ObjectRow)
    file.problems += [f"{file.name}: {text}" for text in _problems(file)]
    return file


def _rows(file: CocoFile, key: str, rows: Sequence[msgspec.Raw], kind: type[Row]) -> dict[int, Row]:
    """The rows by id; wrong rows and ids that occur twice become problems."""
    decoder, by_id = msgspec.json.Decoder(kind), dict[int, Row]()
    for i, raw in enumerate(rows):
        try:
            row = decoder.decode(raw)
        except msgspec.MsgspecError as error:
            file.problems.append(f"{file.name}: {key}[{i}] {_start(raw)}: {error}")
            continue
        if row.id in by_id:
            file.problems.append(f"{file.name}: {key} has the id {row.id} twice")
        by_id[row.id] = row
    return by_id


def _start(raw: msgspec.Raw) -> str:
    text = printable(bytes(raw).decode("utf-8", "backslashreplace"))
    return text if len(text) <= 60 else f"{text[:60]}..."


def _problems(file: CocoFile) -> Iterable[str]:
    """What is wrong with rows that could be read."""
    if not file.categories:
        yield "there are no categories"
    if not file.images:
        yield "there are no images"
    names = [image.file_name for image in file.images.values()]
    yield from (f"the file {printable(name)!r} is listed twice" for name in _repeated(names))
    names = [category.name for category in file.categories.values()]
    yield from (f"the category {printable(name)!r} is listed twice" for name in _repeated(names))
    for image in file.images.values():
        if min(image.height, image.width) < 1 or image.height * image.width > MAX_PIXELS:
            yield f"image {image.id} has the size {image.width}x{image.height}"
    for row in file.objects.values():
        if text := _object_problem(file, row):
            yield f"annotation {row.id} of image {row.image_id}: {text}"


def _repeated(names: Sequence[str]) -> list[str]:
    seen = set[str]()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]


def _object_problem(file: CocoFile, row: ObjectRow) -> str | None:
    if row.image_id not in file.images:
        return "no image has this id"
    if row.category_id not in file.categories:
        return f"no category has the id {row.category_id}"
    if row.iscrowd not in (0, 1):
        return f"iscrowd must be 0 or 1, got {row.iscrowd}"
    image = file.images[row.image_id]
    x, y, width, height = row.bbox
    if width < 0 or height < 0:
        return f"the box has the size {width:g}x{height:g}"
    if x > image.width or y > image.height or x + width < 0 or y + height < 0:
        return f"the box {list(row.bbox)} is outside of the {image.width}x{image.height} image"
    if not has_mask(row):
        return "there is no segmentation, but others have one" if file.has_masks else None
    return _mask_problem(row, image)


def has_mask(row: ObjectRow) -> bool:
    return bytes(row.segmentation).translate(None, b" \n\t\r") not in (b"", b"[]", b"null")


def _mask_problem(row: ObjectRow, image: ImageRow) -> str | None:
    try:
        return problem(parsed(bytes(row.segmentation)), image.height, image.width)
    except msgspec.MsgspecError as error:
        return f"the segmentation is neither polygons nor run lengths: {error}"


def boxes_of(rows: Sequence[ObjectRow]) -> NDArray[np.float32]:
    """``(M, 4)`` as ``x1, y1, x2, y2``."""
    boxes = np.array([row.bbox for row in rows], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes
