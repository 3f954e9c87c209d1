"""Proof of a report: every number is computed again from the records, and every file drawn again.

Nothing of the report is trusted but the names of its runs and its metric.
"""

import json
import re
import tempfile
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

from reports.numbers import SCHEMA
from reports.render import NUMBERS, render_all

TEXTS = (".csv", ".md", ".tex", ".html", ".json")


def verify(run_dir: Path | str, out_dir: Path | str | None = None) -> list[str]:
    """Every difference between a report and its records, in words; none means it is proven.

    ``out_dir`` is where the report is, ``run_dir/reports`` by default. Numbers, tables and the text
    of page and SVGs are compared in any case; pixels (and the SVGs' shapes) only with the
    matplotlib that drew them, since another may draw the same numbers differently.

    Raises:
        ValueError: when there is no report, or it is not one of ours.
    """
    out = Path(out_dir) if out_dir is not None else Path(run_dir) / "reports"
    told = _told(out)
    runs = [out / run["path"] for run in told["runs"]]
    if Path(run_dir).resolve() not in {r.resolve() for r in runs}:
        raise ValueError(f"{out / NUMBERS} is no report of {run_dir}: it names other runs")
    with tempfile.TemporaryDirectory() as folder:
        # The same place, seen from the runs, would be `out`; paths are compared as told.
        fresh = Path(folder)
        written = render_all(runs, fresh, told["metric"])
        mine = _told(fresh)
        for run, stored in zip(mine["runs"], told["runs"], strict=True):
            run["path"] = stored["path"]
        same_artist = mine["drawn_with"] == told["drawn_with"]
        mine["drawn_with"] = told["drawn_with"]
        found = list(differences(told, mine))
        for path in written.values():
            name = path.relative_to(fresh).as_posix()
            if name != NUMBERS:
                found += _file_differences(out / name, path, name, same_artist)
    return found


def _told(out: Path) -> dict[str, Any]:
    path = out / NUMBERS
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"no report in {out}: {NUMBERS} is missing; draw it first") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no report of this version (layout {SCHEMA}): draw it again")
    return content


def differences(told: Any, computed: Any, where: str = "") -> Iterator[str]:
    """Where two JSON values differ, by path."""
    if isinstance(told, dict) and isinstance(computed, dict):
        for key in {**told, **computed}:
            place = f"{where}.{key}" if where else str(key)
            if key not in told or key not in computed:
                state = "is missing" if key not in told else "has nothing to do there"
                yield f"{place} {state}"
            else:
                yield from differences(told[key], computed[key], place)
    elif isinstance(told, list) and isinstance(computed, list) and len(told) == len(computed):
        for i, (a, b) in enumerate(zip(told, computed, strict=True)):
            yield from differences(a, b, f"{where}[{i}]")
    elif told != computed or type(told) is not type(computed):
        yield f"{where}: the report says {_short(told)}, the records give {_short(computed)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."


def _file_differences(stored: Path, fresh: Path, name: str, same_artist: bool) -> list[str]:
    try:
        old = stored.read_bytes()
    except FileNotFoundError:
        return [f"{name} is missing"]
    new = fresh.read_bytes()
    if old == new:
        return []
    if stored.suffix == ".png":
        return [f"{name} is not the picture of these records"] if same_artist else []
    texts = _texts(old), _texts(new)
    exact = same_artist or (stored.suffix in TEXTS and b"<svg" not in new)
    if texts[0] == texts[1]:
        return [f"{name} was changed"] if exact else []
    return [f"{name}: {line}" for line in _first_difference(*texts)]


def _texts(content: bytes) -> list[str]:
    """What a file shows, line by line: markup taken away."""
    text = content.decode("utf-8", errors="replace")
    shown = re.sub(r"<style.*?</style>|<[^>]*>", "\n", text, flags=re.DOTALL)
    return [line for raw in shown.splitlines() if (line := unescape(raw).strip())]


def _first_difference(old: list[str], new: list[str]) -> list[str]:
    for a, b in zip(old, new, strict=False):
        if a != b:
            return [f"it shows {_short(a)}, the records give {_short(b)}"]
    return [f"it has {len(old)} lines, the records give {len(new)}"]
