"""Decode image files with pillow, as a viewer shows them. Does not import torch.

Animations give their first frame. Pictures are turned as their EXIF orientation says, transparent
pixels are composited on white, and 16-bit gray is scaled to 8 bits by its range.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from archsearch.training.images import DataError, printable

NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
"""Formats that pillow recognizes, but decodes only with another program or not at all."""

READ_AS_JPEG = "MPO"
"""The format of several JPEG pictures in one file has no reader of its own."""

SIXTEEN_BIT_FORMATS = frozenset({"JPEG2000", "PNG", "PPM", "TIFF"})
"""Formats whose 16-bit gray has a range; pillow gives it as mode I;16, or I from 0 to 65535."""

_UNDECODABLE = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError,
    ArithmeticError, NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
"""What pillow raises for damaged files."""

_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION = 258, 262, 274
"""Tags of TIFF, the last one also of EXIF."""


@dataclass(frozen=True)
class Header:
    """How an image is decoded, from the first bytes of its file.

    ``adjusted`` if pixels are scaled or turned; ``transparent`` if it may have transparent pixels.
    ``size`` is height and width as stored.
    """

    adjusted: bool
    transparent: bool
    size: tuple[int, int]


@cache
def formats() -> tuple[str, ...]:
    """The formats that the installed pillow decodes, the most common ones first."""
    from PIL import Image

    Image.preinit()
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_DECODED)


@cache
def suffixes() -> frozenset[str]:
    """The suffixes of `formats`, in lower case with their dot."""
    from PIL import Image

    known = {*formats(), READ_AS_JPEG}
    return frozenset(s for s, name in Image.registered_extensions().items() if name in known)


def decode(content: bytes, name: str, turned: bool = True) -> Any:
    """The RGB pillow image encoded in ``content``, as a viewer shows it; as it is stored if not
    ``turned``.

    Raises:
        DataError: it is not an image, truncated, too large, or has no known range of pixels; the
            message names ``name``.
    """
    if not content:
        raise DataError(f"{printable(name)} is empty")
    with _opened(io.BytesIO(content), name) as image:
        image.load()
        picture = _composited(_eight_bits(image)).convert("RGB")
        return _turned(picture, _orientation(image)) if turned else picture


def decode_values(content: bytes, name: str) -> NDArray[np.uint8]:
    """The values ``(H, W)`` of an image of one channel, as stored: gray levels or palette indices.

    Raises:
        DataError: as `decode`, or it has several channels or more than 8 bits.
    """
    if not content:
        raise DataError(f"{printable(name)} is empty")
    with _opened(io.BytesIO(content), name) as image:
        if image.mode not in ("L", "P"):
            raise DataError(
                f"{printable(name)} has pixels of mode {image.mode}: a label map must have one "
                "channel of 8 bits, with the number of a class in each pixel"
            )
        return np.array(image)


def has_transparent_pixels(content: bytes, name: str) -> bool:
    """Whether any pixel is not opaque; raises as `decode`."""
    with _opened(io.BytesIO(content), name) as image:
        alpha = image.convert("RGBA").getchannel("A")
        return bool(alpha.getextrema()[0] < 255)


def read_header(file: Path) -> Header:
    """The header of an image file; raises as `decode`, but pixels are not read."""
    from PIL import Image

    try:
        stream = file.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {printable(file)}: {error.strerror}") from error
    with stream, _opened(stream, str(file)) as image:
        turned = image.format != "TIFF" and _orientation(image, Image.Image.getexif) != 1
        size = image.height, image.width
        return Header(_is_deep(image) or turned, _may_be_transparent(image), size)


@contextmanager
def _opened(stream: IO[bytes], name: str) -> Iterator[Any]:
    """The image in ``stream``, while it is decoded; errors of pillow become DataError."""
    from PIL import Image, UnidentifiedImageError

    name = printable(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, and of sizes below the limit
            with Image.open(stream, formats=formats()) as image:
                _check_mode(image, name)
                yield image
    except DataError:
        raise
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise DataError(
            f"{name} cannot be read as an image: it has more than {limit:,} pixels; make it smaller"
        ) from None
    except UnidentifiedImageError:
        raise DataError(
            f"{name} cannot be read as an image: its content is of no known format"
        ) from None
    except _UNDECODABLE as error:
        raise DataError(f"{name} cannot be read as an image: {printable(str(error))}") from error


def _check_mode(image: Any, name: str) -> None:
    if image.mode == "LAB":
        raise DataError(f"{name} has LAB colors, which are not supported: convert it to RGB")
    if _is_deep(image) and (image.mode == "F" or not _has_range(image)):
        raise DataError(
            f"{name} has pixels of mode {image.mode}, and the file does not state their range: "
            "convert it to 8 bits, or to 16-bit gray in PNG or TIFF"
        )


def _is_deep(image: Any) -> bool:
    """Whether pixels have more than 8 bits per channel."""
    return str(image.mode).startswith(("F", "I"))


def _has_range(image: Any) -> bool:
    signed_or_long = image.format == "TIFF" and image.mode == "I"
    return image.format in SIXTEEN_BIT_FORMATS and not signed_or_long


def _eight_bits(image: Any) -> Any:
    """16-bit gray scaled to 8 bits, as pillow scales 16-bit colors: by the high byte."""
    from PIL import Image

    if not _is_deep(image):
        return image
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    gray = (values >> (tags.get(_BITS_PER_SAMPLE, (16,))[0] - 8)).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero
        gray = 255 - gray
    gray[values == image.info.get("transparency", -1)] = 255
    return Image.fromarray(gray)


def _composited(image: Any) -> Any:
    """The image on white, if it has transparency."""
    from PIL import Image

    if not _may_be_transparent(image):
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA"))


def _may_be_transparent(image: Any) -> bool:
    if _is_deep(image):  # becomes opaque gray
        return False
    in_palette = image.mode == "P" and image.palette and image.palette.mode.endswith("A")
    in_info = "transparency" in image.info
    return bool(image.mode in ("LA", "PA", "RGBA", "RGBa") or in_info or in_palette)


def _orientation(image: Any, getexif: Any = None) -> int:
    """The EXIF orientation from 1 to 8, 1 if there is none.

    Viewers show an image whose EXIF data is damaged as it is stored. ``getexif`` replaces the
    image's own method, which may decode all pixels in search of EXIF data at the end.
    """
    try:
        exif = image.getexif() if getexif is None else getexif(image)
        return int(exif.get(_ORIENTATION, 1))
    except _UNDECODABLE:
        return 1


def _turned(image: Any, orientation: int) -> Any:
    from PIL.Image import Transpose

    methods = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(methods[orientation]) if orientation in methods else image
