"""The reader of every stored JSON file and line: bounded, strict, verified, named in its errors.

It refuses what strict JSON does not have (NaN, infinity), numbers beyond 64 bits, and values nested
deeper than `MAX_DEPTH`.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from archsearch.core.visible import visible
from archsearch.storage.checksum import KEY, verified
from archsearch.storage.files import log
from archsearch.storage.plain_file import Damaged, read_plain
from archsearch.study import SCHEMA

T = TypeVar("T")

MAX_DEPTH = 64
"""Deepest nesting that is read; a study has six levels."""

MAX_DIGITS = 19
"""Longest whole number that is read: 64 bits."""

MAX_REASON = 300
"""Longest reason in a message, in characters."""

Check = Callable[[dict[str, Any]], object]
"""Raises ValueError if the values of a line are wrong."""


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number in JSON")


def _whole_number(text: str) -> int:
    if len(text) > MAX_DIGITS + (text[0] == "-"):
        raise ValueError(f"a number of {len(text)} digits, wanted at most {MAX_DIGITS}")
    return int(text)


def _fraction(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text:.40} is too large")
    return value


DECODER = json.JSONDecoder(
    parse_constant=_no_constant, parse_int=_whole_number, parse_float=_fraction
)


def parse_object(content: bytes) -> dict[str, Any]:
    """The JSON object in ``content``, with its checksum if it has one.

    Raises:
        Damaged: it is no such object; the message says why.
    """
    try:
        value = DECODER.decode(content.decode())
        if _depth_exceeds(value):
            raise RecursionError
    except RecursionError:
        raise Damaged(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise Damaged(_reason(error)) from None
    if not isinstance(value, dict):
        raise Damaged(f"wanted a JSON object, got {type(value).__name__}")
    return value


def _reason(error: BaseException) -> str:
    text = visible(str(error))
    return text if len(text) <= MAX_REASON else text[:MAX_REASON] + " ..."


def _depth_exceeds(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)  # type: ignore[attr-defined]
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``, without its checksum.

    Raises:
        FileNotFoundError: there is no such file.
        Damaged: it is no plain file, does not hold a complete JSON object, or does not fit its
            checksum.
    """
    content = read_plain(path)
    with well_formed(path):
        return verified(parse_object(content))


def read_checked(path: Path, schemas: tuple[int, ...] = (SCHEMA,)) -> dict[str, Any]:
    """The content of one of our files, if this version can read its layout.

    Raises:
        ValueError: the layout is newer; the message advises what to do.
    """
    values = read_json(path)
    if (schema := values.get("schema")) not in schemas:
        raise ValueError(
            f"{path} has layout {schema}, this archsearch reads {max(schemas)}: "
            "use the version that wrote it, or another folder"
        )
    return values


@contextmanager
def well_formed(path: Path) -> Iterator[None]:
    """Convert errors about missing or wrong values of the file ``path`` to Damaged, with its name.

    An error that names a file already, such as one of `read_plain`, is not changed.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, LookupError, ValueError, OverflowError) as error:
        if str(path) in str(error):
            raise
        missing = f"it lacks {error}" if isinstance(error, KeyError) else _reason(error)
        raise Damaged(f"{path} is damaged: {missing}") from error


def read_typed(path: Path, kind: type[T]) -> T:
    """The JSON object in ``path`` as a value of ``kind``; raises as `read_json`."""
    values = read_json(path)
    with well_formed(path):
        return msgspec.convert(values, kind)


def parse_lines(content: bytes, path: Path, check: Check | None = None) -> list[dict[str, Any]]:
    """The JSON objects in ``content``, one per line, in order.

    A damaged line is left out, with a warning that names ``path``. The last line may be incomplete,
    because it is being written or its writer was killed; that is no damage.
    """
    lines = content.split(b"\n")
    objects = []
    for number, line in enumerate(lines, 1):
        try:
            values = verified(parse_object(line))
            if check is not None:
                check(values)
        except ValueError as error:
            if line.strip() and number < len(lines):
                warn_once(f"{path}: line {number} is damaged and not used: {_reason(error)}")
        else:
            objects.append(values)
    return objects


def read_lines(path: Path, check: Check | None = None) -> list[dict[str, Any]]:
    """The JSON objects in the file ``path``, as `parse_lines`; none if it is absent.

    A file that cannot be read as a whole gives none, with a warning.
    """
    try:
        content = read_plain(path)
    except FileNotFoundError:
        return []
    except Damaged as error:
        warn_once(str(error))
        return []
    return parse_lines(content, path, check)


def has_checksum(path: Path) -> bool:
    """Whether the stored file, and each line of a ``.jsonl``, has a checksum; a damaged one has."""
    try:
        content = read_plain(path)
    except Damaged:
        return True
    parts = content.splitlines() if path.suffix == ".jsonl" else [content]
    return all(f'"{KEY}":'.encode() in part for part in parts)


@lru_cache(maxsize=1000)
def warn_once(message: str) -> None:
    """Log a warning, unless this process logged the same one before."""
    log.warning("%s", message)
