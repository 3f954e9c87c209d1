"""A checksum in every stored file and line, so that a flipped digit is noticed.

The last key, `KEY`, is the CRC-32 of the canonical JSON of all other keys: the same values in
another layout have the same checksum. It protects from accidents, not from intent. Files that were
written before there were checksums have none, and are accepted.
"""

import zlib
from collections.abc import Mapping
from typing import Any

from archsearch.storage.plain_file import Damaged
from archsearch.study import canonical_json

KEY = "crc32"


def checksum(value: object) -> str:
    """Eight hexadecimal digits for a plain JSON value."""
    return f"{zlib.crc32(canonical_json(value).encode()):08x}"


def protected(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain JSON values with their checksum."""
    return {**values, KEY: checksum(values)}


def verified(values: dict[str, Any]) -> dict[str, Any]:
    """The values without their checksum, after a comparison with it if there is one.

    Raises:
        Damaged: the values are not those that the checksum was made of.
    """
    if KEY not in values:
        return values
    others = {name: value for name, value in values.items() if name != KEY}
    if values[KEY] != checksum(others):
        raise Damaged("its checksum does not fit: a part of it was changed after it was written")
    return others
