"""`pasted`: scikit-learn's handwritten digits on its two photographs. No download, no torch.

Each image shows one to six digits on a part of a photograph, with boxes, masks and a label map.
Training, held-out and test images share no writer and no part of a photograph.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.random import RandomState  # its stream never changes; that of Generator may
from numpy.typing import NDArray

from archsearch.scenes.scene import Masks, Objects, Pixels, Scene, SceneSet, tight_boxes
from archsearch.training.data import digits_table, sklearn_file
from archsearch.training.decoding import decode
from archsearch.training.images import DataError, read_file

HEIGHT, WIDTH = 128, 160

NUM_IMAGES = 1000
"""Training and held-out images of ``pasted`` without ``:images=N``; a fifth of it is for test."""

MAX_IMAGES = 1_000_000

DRAWING = 1
"""Part of the fingerprint: another number for every change of what is drawn."""

SEED = 20230417
PHOTOS = ("china", "flower")

PARTS = ("train", "held out", "test")
WRITERS = ((0, 1029), (1029, 1415), (1415, 1797))
"""Digits of each part: every writer's begin with 0 to 9 in order, twice; so 8, 3 and 3 writers."""
COLUMNS = ((0.0, 0.5), (0.5, 0.75), (0.75, 1.0))
"""Share of the width of each photograph that each part uses."""

MIN_CROP = 0.5
"""The smallest crop of a photograph as a share of `WIDTH` and `HEIGHT`; it is enlarged to them."""

MAX_DIGITS, SIDES = 6, (28, 64)
"""Most digits of an image, and the side of the square that a digit is enlarged to, in pixels."""

MAX_COVERED, TRIES = 0.3, 10
"""A digit covers at most this share of an earlier one; a digit without such a place is left out."""

COVER, INK = 0.2, 0.35
"""Gray levels, 0 to 1, from which an enlarged digit hides the photograph, and has ink."""

DARK, LIGHT = (0, 110), (145, 255)
"""Ranges of the channels of the two colors of a digit."""


def pasted(name: str, path: str) -> SceneSet:
    """The data set ``pasted`` or ``pasted:images=N``, drawn image by image as they are read.

    Raises:
        DataError: N is not a number of images, or scikit-learn lacks the digits or photographs.
    """
    match = re.fullmatch(r"images=(\d{1,9})", path) if path else None
    num = int(match[1]) if match else NUM_IMAGES
    if (path and not match) or not 10 <= num <= MAX_IMAGES:
        raise DataError(
            f"pasted takes a number of images from 10 to {MAX_IMAGES:,} (pasted:images=600), "
            f"got {name!r}"
        )
    return SceneSet(
        name,
        "scikit-learn's handwritten digits, pasted on its two photographs; training, held-out and "
        "test images share no writer and no part of a photograph",
        tuple("0123456789"),
        ("background", *"0123456789"),
        True,
        Pasted((0, 1), num),
        Pasted((2,), num // 5),
        _fingerprint(num),
        num_held_out=num,
    )


def _fingerprint(num: int) -> str:
    digest = hashlib.sha256(f"{DRAWING} {num}".encode())
    digest.update(digits_table().tobytes())
    for name in PHOTOS:
        digest.update(np.asarray(_photo(name)).tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Pasted:
    """``num`` images of each of the `PARTS` with these numbers, one part after the other."""

    parts: tuple[int, ...]
    num: int

    def __len__(self) -> int:
        return self.num * len(self.parts)

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part, number = divmod(index, self.num)
        return _draw(self.parts[part], RandomState([SEED, self.parts[part], number]))


def _draw(part: int, random: RandomState) -> Scene:
    pixels = _background(part, random)
    owners = np.full((HEIGHT, WIDTH), -1)
    labels: list[int] = []
    for _ in range(random.randint(1, MAX_DIGITS + 1)):
        if _paste(pixels, owners, len(labels), digit := random.randint(*WRITERS[part]), random):
            labels.append(int(digits_table()[digit, -1]))
    masks = owners == np.arange(len(labels))[:, None, None]
    values = np.array([0, *(1 + label for label in labels)], np.uint8)
    return Scene(pixels, _objects(labels, masks), values[owners + 1])


def _objects(labels: list[int], masks: Masks) -> Objects:
    areas = masks.sum((1, 2)).astype(np.float32)
    crowd = np.zeros(len(labels), bool)
    return Objects(tight_boxes(masks), np.array(labels, np.int64), masks, crowd, areas)


def _background(part: int, random: RandomState) -> Pixels:
    """A random crop ``(H, W, 3)`` of a photograph, in the part's columns; half of them mirrored."""
    from PIL import Image

    photo = _photo(PHOTOS[random.randint(len(PHOTOS))])
    first, last = (share * photo.width for share in COLUMNS[part])
    share = random.uniform(MIN_CROP, 1)
    left = random.uniform(first, last - share * WIDTH)
    top = random.uniform(0, photo.height - share * HEIGHT)
    box = (left, top, left + share * WIDTH, top + share * HEIGHT)
    crop = np.array(photo.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box))
    return crop[:, ::-1].copy() if random.randint(2) else crop


def _paste(
    pixels: Pixels, owners: NDArray[np.intp], number: int, digit: int, random: RandomState
) -> bool:
    """Paint a digit where it covers little of the earlier ones; False if there is no such place.

    ``owners`` holds the number of the digit that each pixel belongs to.
    """
    side = random.randint(*SIDES)
    mask, ink = _enlarged(digit, side)
    colors = _colors(random)
    sizes = np.bincount(owners.ravel() + 1, minlength=number + 1)
    for _ in range(TRIES):
        top, left = random.randint(HEIGHT - side + 1), random.randint(WIDTH - side + 1)
        window = slice(top, top + side), slice(left, left + side)
        covered = np.bincount(owners[window][mask] + 1, minlength=number + 1)
        if (covered[1:] <= MAX_COVERED * sizes[1:]).all():
            owners[window][mask] = number
            painted = colors[0] + ink[..., None] * (colors[1] - colors[0])
            pixels[window][mask] = np.rint(painted[mask]).astype(np.uint8)
            return True
    return False


def _colors(random: RandomState) -> NDArray[np.float64]:
    """Two colors ``(2, 3)``, of the rim and of the ink: one dark, one light."""
    colors = np.stack([random.uniform(*levels, 3) for levels in (DARK, LIGHT)])
    return colors[::-1] if random.randint(2) else colors


def _enlarged(digit: int, side: int) -> tuple[Masks, NDArray[np.float64]]:
    """The mask of a digit ``(side, side)``, and its ink from 0 to 1."""
    from PIL import Image

    gray, filled = (
        np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)) / 255
        for image in _gray_and_filled(digit)
    )
    return filled > COVER, np.clip(3 * (gray - INK), 0, 1)


@lru_cache(maxsize=2048)
def _gray_and_filled(digit: int) -> tuple[Any, Any]:
    """A digit with a margin, 24x24, as a gray pillow image, and the same with its holes filled."""
    from PIL import Image

    levels = np.rint(digits_table()[digit, :-1].reshape(8, 8) * (255 / 16)).astype(np.uint8)
    gray = Image.fromarray(np.pad(levels, 1)).resize((24, 24), Image.Resampling.BICUBIC)
    values = np.asarray(gray)
    hole = (values <= 255 * COVER) & ~_outside(values <= 255 * COVER)
    return gray, Image.fromarray(np.where(hole, np.uint8(255), values))


def _outside(free: Masks) -> Masks:
    """The pixels of ``free`` that are connected to the border through others, by their sides."""
    free = np.pad(free, 1, constant_values=True)
    reached, before = np.zeros_like(free), -1
    reached[0] = True
    while before != (before := int(reached.sum())):
        for axis in (0, 1):
            reached |= np.roll(reached, 1, axis) | np.roll(reached, -1, axis)
            reached &= free
    return reached[1:-1, 1:-1]


@lru_cache(maxsize=len(PHOTOS))
def _photo(name: str) -> Any:
    file = sklearn_file(f"datasets/images/{name}.jpg")
    return decode(read_file(file), str(file))
