"""Proof of a report: every number is computed again from the records, and every file drawn again.

Nothing of the report is trusted but what was asked for: the names of its runs, its metric, axes and
target. That another matplotlib drew it, which it says itself, excuses pictures only, and is told.
"""

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

from archsearch.reports.render import NUMBERS, is_report_file, render_all
from archsearch.reports.report_json import SCHEMA
from archsearch.storage.publish import OF_STUDY

TEXTS = (".csv", ".md", ".tex", ".html", ".json")
SUFFIXES = (*TEXTS, ".png", ".svg")


@dataclass(frozen=True)
class Proof:
    """``differences`` between a report and its records, in words: none means that it is proven.

    ``note`` says which pictures could not be held to the records, if another matplotlib drew the
    report; else it is empty.
    """

    differences: tuple[str, ...]
    note: str = ""


def verify(run_dir: Path | str, out_dir: Path | str | None = None) -> Proof:
    """Compare a report with what its records give.

    ``out_dir`` is where the report is, ``run_dir/reports`` by default. Numbers, tables and the text
    of page and SVGs are compared in any case; pixels (and the SVGs' shapes) only with the
    matplotlib that drew them, since another may draw the same numbers differently. Tables and
    pictures that the records do not give are differences too.

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
        written = render_all(runs, fresh, told["metric"], told["axes"], told["target"])
        names = [path.relative_to(fresh).as_posix() for path in written.values()]
        mine = _told(fresh)
        for run, stored in zip(mine["runs"], told["runs"], strict=True):
            run["path"] = stored["path"]
        artists = told["drawn_with"], mine["drawn_with"]
        mine["drawn_with"] = told["drawn_with"]
        found = {NUMBERS: list(differences(told, mine))}
        for name in (n for n in names if n != NUMBERS):
            found[name] = _file_differences(
                out / name, fresh / name, name, artists[0] == artists[1]
            )
        excused = [
            n for n in names if n != NUMBERS and not found[n] and _unlike(out / n, fresh / n)
        ]
    lines = [line for lines in found.values() for line in lines]
    return Proof((*lines, *_not_given(out, names)), _note(*artists, excused))


def _unlike(stored: Path, fresh: Path) -> bool:
    return stored.read_bytes() != fresh.read_bytes()


def _note(drew: str, here: str, excused: list[str]) -> str:
    """What the word of a report that another matplotlib drew it leaves open."""
    if drew == here:
        return ""
    words = f"{NUMBERS} says that {drew} drew this report; here is {here}"
    if not excused:
        return f"{words}, which draws the same to the byte."
    return f"{words}, so these were NOT compared as pictures: {', '.join(excused)}"


def _not_given(out: Path, names: list[str]) -> Iterator[str]:
    """Tables and pictures that stand with the report as if they were part of it."""
    mine = {out / name for name in names}
    places = {path.parent for path in mine}
    left = (f for f in out.iterdir() if f.is_dir() and f not in places and not _is_report(f))
    strange = [p for place in places for p in _files(place) if p.suffix.lower() in SUFFIXES]
    strange += [p for place in left for p in _files(place) if is_report_file(p.name)]
    for path in sorted(path for path in strange if path not in mine and path.name not in OF_STUDY):
        yield f"{path.relative_to(out).as_posix()} is not given by the records"


def _is_report(folder: Path) -> bool:
    return (folder / NUMBERS).exists()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else iter(())


Fits = Callable[[Any], bool]


def _is_runs(value: Any) -> bool:
    runs = value if isinstance(value, list) else []
    return bool(runs) and all(isinstance(r, dict) and isinstance(r.get("path"), str) for r in runs)


def _is_axes(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(a, str) for a in value))


ASKED: Mapping[str, Fits] = {
    "runs": _is_runs,
    "metric": lambda value: value is None or isinstance(value, str),
    "axes": _is_axes,
    "target": lambda value: value is None or (type(value) is int and value > 0),
    "drawn_with": lambda value: isinstance(value, str),
}
"""What a report is drawn again by, and whether a value of `numbers.json` can be that."""


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
    if wrong := [n for n, fits in ASKED.items() if n not in content or not fits(content[n])]:
        raise ValueError(f"{path} is damaged: {', '.join(wrong)} missing or wrong; draw it again")
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
