"""Numbers that users write: parsed exactly, and within a range that every computation holds."""

import re

LARGEST = 10**9
"""The largest number that an option takes; a larger one is a mistake, and overflows somewhere."""

_WHOLE = re.compile(r"[+-]?\d{1,15}(_\d{1,15})*", re.ASCII)
_SIZE = re.compile(r"\s*(\d{1,9})\s*(?:[x×]\s*(\d{1,9})\s*)?", re.ASCII | re.IGNORECASE)

ImageSize = str | int | tuple[int, int]
"""An image size as a user gives it: a side, (height, width), or a text such as ``800x1333``."""


def quoted(value: object) -> str:
    """Return a value as an error shows it, shortened if it is long."""
    if isinstance(value, int) and abs(value) > LARGEST**2:
        return f"a number above {LARGEST:,}" if value > 0 else f"a number below -{LARGEST:,}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:45]}... ({len(text)} characters)"


def whole_number(value: object) -> int:
    """Return a whole number, or the one in a text such as ``16`` or ``30_000``.

    Raises:
        ValueError: it is no such number, or beyond `LARGEST`.
    """
    is_text = isinstance(value, str) and _WHOLE.fullmatch(value.strip())
    if is_text or type(value) is int:
        number = int(value)  # type: ignore[call-overload]
        if abs(number) <= LARGEST:
            return int(number)
    raise ValueError(f"wanted a whole number up to {LARGEST:,}, got {quoted(value)}")


def parse_image_size(size: ImageSize, name: str = "image_size") -> tuple[int, int]:
    """Return (height, width) of ``224``, ``800x1333`` (height x width), 224 or (800, 1333).

    Raises:
        ValueError: it is no size, or a side is below 1.
    """
    sides: object = size
    if isinstance(size, str):
        match = _SIZE.fullmatch(size)
        sides = (match[1], match[2] or match[1]) if match else size
    height, width = sides if isinstance(sides, tuple) and len(sides) == 2 else (sides, sides)
    try:
        pair = whole_number(height), whole_number(width)
    except ValueError:
        pair = (0, 0)
    if min(pair) < 1:
        raise ValueError(
            f"{name} must be a side in pixels (224) or height x width (800x1333), each at least 1, "
            f"got {quoted(size)}"
        )
    return pair


def size_text(image_size: int | tuple[int, int]) -> str:
    """Return ``224²``, or ``800 × 1333`` (height × width) for an image that is not square."""
    if isinstance(image_size, int):
        return f"{image_size}²"
    height, width = image_size
    return f"{height} × {width}"
