"""What the numbers of records and events may be: a record with other ones is damaged."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from archsearch.study import Record

NOT_NEGATIVE = ("seconds", "bytes", "per_second", "per_image", "epoch", "epochs", "step", "steps")
"""Endings of names whose numbers are never negative."""

MEASURED = ("seconds", "images_per_second", "peak_memory_bytes", "versions")
"""Keys of a record whose values no two trainings share, and the versions that trained it."""


def without_times(value: Any) -> Any:
    """``value`` without the keys in `MEASURED` and the seconds of the parts, at any depth."""
    if isinstance(value, Mapping):
        kept = {k: v for k, v in value.items() if k not in MEASURED and not k.endswith("_seconds")}
        return {key: without_times(inner) for key, inner in kept.items()}
    return [without_times(v) for v in value] if isinstance(value, list | tuple) else value


def number_problems(values: Mapping[str, Any]) -> list[str]:
    """A message for each value that is no number in its range; None means not measured.

    The unit is in the name: an accuracy is in percent, seconds and counts are never negative.
    """
    return [
        f"{name}: wanted {wanted}, got {value!r:.60}"
        for name, value in values.items()
        if value is not None and (wanted := _unmet(name, value))
    ]


def _unmet(name: str, value: object) -> str:
    """What was wanted of a number of that name; empty if it is met."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "a number"
    if name.endswith("accuracy"):
        return "" if 0 <= value <= 100 else "0 to 100 percent"
    return "0 or more" if value < 0 and name.endswith(NOT_NEGATIVE) else ""


def epoch_problems(row: Mapping[str, Any]) -> list[str]:
    """What is wrong with the numbers of one epoch."""
    epoch = row.get("epoch")
    if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 1:
        return [f"epoch: wanted a whole number of 1 or more, got {epoch!r:.60}"]
    return number_problems(row)


def check_event(event: Mapping[str, Any]) -> None:
    """Check a line of events.jsonl: an epoch, a heartbeat within an epoch, or a note.

    Raises:
        ValueError: its numbers are wrong.
    """
    problems = []
    if "epoch" in event:
        problems = epoch_problems(event)
    elif "in_epoch" in event:
        counts = {name: event.get(name) for name in ("in_epoch", "step", "steps")}
        problems = [f"{name} is missing" for name, value in counts.items() if value is None]
        problems += number_problems(event)
        if event.get("steps") == 0:
            problems.append("steps: wanted 1 or more, got 0")
    _raise(problems)


def check_record(record: Record, trial_id: str) -> None:
    """Check that the record is of this trial, and that its numbers are in their ranges.

    Raises:
        ValueError: it is not; the message lists every problem.
    """
    counts = {} if record.cost is None else vars(record.cost)
    own = {"seconds": record.seconds, "attempts": record.attempts}
    problems = number_problems(record.metrics) + number_problems(own)
    problems += [problem for row in record.curve for problem in epoch_problems(row)]
    problems += [f"{name}: wanted 0 or more, got {n}" for name, n in counts.items() if _negative(n)]
    if record.trial_id != trial_id:
        problems.insert(0, f"it is the record of the trial {record.trial_id!r}, not {trial_id!r}")
    _raise(problems)


def _negative(count: int | tuple[int, int]) -> bool:
    return min(count if isinstance(count, tuple) else (count,)) < 0


def _raise(problems: Iterable[str]) -> None:
    if text := "; ".join(problems):
        raise ValueError(text)
