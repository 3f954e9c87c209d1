"""Changing stored files on purpose: with a checksum that fits, as a program writes them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from archsearch.storage.files import write_json
from archsearch.storage.record_file import HEAD_KEY, with_head_checksum
from archsearch.storage.stored_json import read_json


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Apply ``change`` to the values in ``path`` and store them with checksums that fit."""
    values = read_json(path)
    change(values)
    if values.pop(HEAD_KEY, None):
        values = with_head_checksum(values)
    write_json(path, values)
