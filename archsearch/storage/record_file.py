"""The file record.json of a trial: how it is read, in whole or only its head, and protected.

A record is one line that begins with its trial, status and metrics; its curve may be long. The head
has a checksum of its own, so that a status of 10,000 trials reads the heads only.
"""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, cast

from archsearch.storage.checksum import checksum
from archsearch.storage.plain_file import Damaged, open_plain
from archsearch.storage.record_values import check_record, number_problems
from archsearch.storage.request import typed
from archsearch.storage.stored_json import DECODER, read_checked, well_formed
from archsearch.study import SCHEMA, Record

State = Literal["pending", "running", "interrupted", "complete", "diverged", "failed"]
FINISHED: tuple[State, ...] = ("complete", "diverged", "failed")

RecordSummary = tuple[State, Mapping[str, float | int | None]]
"""Status and metrics of a record."""

HEAD_KEY = "head_crc32"
"""The checksum of a record's first keys, which `quick_summary` reads without the rest."""

_RECORD_HEAD = re.compile(
    rf'{{"schema":{SCHEMA},"trial_id":"([0-9a-f]{{16}})",'
    r'"status":"(complete|diverged|failed)","metrics":'
)
_HEAD_CHECKSUM = re.compile(rf',"{HEAD_KEY}":"([0-9a-f]{{8}})"')
_HEAD_BYTES = 4096


def quick_summary(folder: str) -> RecordSummary | None:
    """Status and metrics from the head of the record in ``folder``.

    None without a record, and if the whole record must be read to know.
    """
    try:
        head = _record_head(folder + "/record.json")
    except (FileNotFoundError, Damaged):
        return None
    if head and (begin := _RECORD_HEAD.match(head)) and folder.endswith("/" + begin[1]):
        with suppress(ValueError, RecursionError):
            return _summary(begin, head)
    return None


def _record_head(path: str) -> str | None:
    """The first characters of a record; None if its last ones show that it is incomplete."""
    fd = open_plain(path, os.O_RDONLY)
    try:
        head = os.pread(fd, _HEAD_BYTES, 0).decode(errors="replace")
        complete = os.pread(fd, 2, max(0, os.fstat(fd).st_size - 2)) == b"}\n"
    finally:
        os.close(fd)
    return head if complete else None


def _summary(begin: re.Match[str], head: str) -> RecordSummary:
    """Status and metrics from the head of a record.

    Raises:
        ValueError: the metrics are not all in the head, are out of range, or were changed.
    """
    metrics, end = DECODER.raw_decode(head, begin.end())
    stored = _HEAD_CHECKSUM.match(head, end)
    if stored is not None and stored[1] != checksum([begin[1], begin[2], metrics]):
        raise ValueError("the checksum does not fit")
    if not isinstance(metrics, dict) or number_problems(metrics):
        raise ValueError("the metrics are wrong")
    return cast(State, begin[2]), metrics


def read_record(path: Path, trial_id: str) -> Record:
    """The record in ``path``.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, of another trial, or has numbers that cannot be.
    """
    values = read_checked(path)
    with well_formed(path):
        record = typed(values, Record)
        check_record(record, trial_id)
    return record


def with_head_checksum(values: dict[str, Any]) -> dict[str, Any]:
    """A record's values with the checksum of its first keys after them."""
    names = ("schema", "trial_id", "status", "metrics")
    head = {name: values[name] for name in names}
    return {**head, HEAD_KEY: checksum([head[name] for name in names[1:]]), **values}
