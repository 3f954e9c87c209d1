"""The pixels of an annotated image, at the size that its annotation has. Does not import torch."""

from pathlib import Path

import numpy as np

from archsearch.scenes.scene import Pixels
from archsearch.training.decoding import decode
from archsearch.training.images import DataError, printable, read_file

Size = tuple[int, ...]
"""Height and width."""


def read_pixels(path: Path, size: Size, annotation: str) -> Pixels:
    """The image ``(H, W, 3)`` as a viewer shows it, or as stored if it has this size only then.

    ``annotation`` names what has the size, for messages.

    Raises:
        DataError: the file cannot be decoded, or has another size.
    """
    content = read_file(path)
    for turned in (True, False):
        pixels = np.asarray(decode(content, str(path), turned))
        if pixels.shape[:2] == size:
            return pixels
    raise DataError(other_size(path, pixels.shape[:2], annotation, size))


def other_size(path: Path, size: Size, annotation: str, wanted: Size) -> str:
    """The problem of an image with another size than its annotation."""
    return f"{printable(path)} has {size[1]}x{size[0]} pixels, {annotation} {wanted[1]}x{wanted[0]}"
