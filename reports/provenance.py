"""Proof of a report: every number is computed again from the records, and every file drawn again.

Nothing of the report is trusted but what was requested: the names of its runs, its metric, axes and
target. That another matplotlib drew it, as it says itself, excuses figures only, and is reported.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

from archsearch.reports.card import Cards
from archsearch.reports.cards import CARDS
from archsearch.reports.render import NUMBERS, is_report_file, render_all
from archsearch.reports.report_json import SCHEMA
from archsearch.storage.publish import STUDY_FILES

TEXTS = (".csv", ".md", ".tex", ".html", ".json")
SUFFIXES = (*TEXTS, ".png", ".svg")


@dataclass(frozen=True)
class Proof:
    """``differences`` between a report and its records, in words: none means that it is proven.

    ``note`` says which figures could not be compared with the records, if another matplotlib drew
    the report; else it is empty.
    """

    differences: tuple[str, ...]
    note: str = ""


def verify(run_dir: Path | str, out_dir: Path | str | None = None, cards: Cards = CARDS) -> Proof:
    """Compare a report with what its records give.

    ``out_dir`` is where the report is, ``run_dir/reports`` by default. Numbers, tables and the text
    of page and SVGs are compared in any case; pixels (and the SVGs' shapes) only with the
    matplotlib that drew them, since another may draw the same numbers differently. Tables and
    figures that the records do not give are differences too.

    Raises:
        ValueError: when there is no report, or it is not one of ours.
    """
    out = Path(out_dir) if out_dir is not None else Path(run_dir) / "reports"
    stored = _read_numbers(out)
    runs = [out / run["path"] for run in stored["runs"]]
    if Path(run_dir).resolve() not in {r.resolve() for r in runs}:
        raise ValueError(f"{out / NUMBERS} is no report of {run_dir}: it names other runs")
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        metric, axes, target = (stored[name] for name in ("metric", "axes", "target"))
        report = render_all(runs, fresh, metric, axes, target, cards)
        names = [path.relative_to(fresh).as_posix() for path in report.files.values()]
        return _compare(out, stored, fresh, names, cards)


def _compare(
    out: Path, stored: Mapping[str, Any], fresh: Path, names: list[str], cards: Cards
) -> Proof:
    """The report in ``out`` with the one in ``fresh``, which has the files ``names``."""
    computed = _read_numbers(fresh)
    artists = stored["drawn_with"], computed["drawn_with"]
    # Seen from another folder the runs have other paths.
    paths = [{"path": run["path"]} for run in stored["runs"]]
    computed["runs"] = [a | b for a, b in zip(computed["runs"], paths, strict=True)]
    computed["drawn_with"] = stored["drawn_with"]
    lines, excused = list(differences(stored, computed)), []
    for name in (n for n in names if n != NUMBERS):
        old, new = out / name, fresh / name
        changes = _file_differences(old, new, name, artists[0] == artists[1])
        if not changes and old.read_bytes() != new.read_bytes():
            excused.append(name)
        lines += changes
    return Proof((*lines, *_strangers(out, names, cards)), _note(*artists, excused))


def _note(theirs: str, ours: str, excused: list[str]) -> str:
    """Which figures are not proven if another matplotlib drew them."""
    if theirs == ours:
        return ""
    claim = f"{NUMBERS} says that {theirs} drew this report; here is {ours}"
    if not excused:
        return f"{claim}, which draws the same to the byte."
    return f"{claim}, so these were NOT compared as pictures: {', '.join(excused)}"


def _strangers(out: Path, names: list[str], cards: Cards) -> Iterator[str]:
    """Tables and figures beside the report that the records do not give."""
    given = {out / name for name in names}
    folders = {path.parent for path in given}
    others = {f for f in out.iterdir() if f.is_dir() and not (f / NUMBERS).exists()} - folders
    paths = [p for f in folders for p in _files(f) if p.suffix.lower() in SUFFIXES]
    paths += [p for f in others for p in _files(f) if is_report_file(p.name, cards)]
    for path in sorted(
        path for path in paths if path not in given and path.name not in STUDY_FILES
    ):
        yield f"{path.relative_to(out).as_posix()} is not given by the records"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


REQUEST = ("runs", "metric", "axes", "target", "drawn_with")
"""What a report is computed again by."""


def _fits(name: str, value: Any) -> bool:
    """Whether a value of `numbers.json` can be that part of the request."""
    match name, value:
        case "runs", [_, *_]:
            return all(isinstance(r, dict) and isinstance(r.get("path"), str) for r in value)
        case "axes", [*names]:
            return all(isinstance(axis, str) for axis in names)
        case "target", int():
            return type(value) is int and value > 0
        case (("metric" | "axes" | "target"), None):
            return True
    return name in ("metric", "drawn_with") and isinstance(value, str)


def _read_numbers(out: Path) -> dict[str, Any]:
    path = out / NUMBERS
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"no report in {out}: {NUMBERS} is missing; draw it first") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no report of this version (layout {SCHEMA}): draw it again")
    if wrong := [n for n in REQUEST if n not in content or not _fits(n, content[n])]:
        raise ValueError(f"{path} is damaged: {', '.join(wrong)} missing or wrong; draw it again")
    return content


def differences(stored: Any, computed: Any, path: str = "") -> Iterator[str]:
    """Where two JSON values differ, by path."""
    if isinstance(stored, dict) and isinstance(computed, dict):
        for key in {**stored, **computed}:
            inner = f"{path}.{key}" if path else str(key)
            if key in stored and key in computed:
                yield from differences(stored[key], computed[key], inner)
            else:
                yield f"{inner} {'has nothing to do there' if key in stored else 'is missing'}"
    elif isinstance(stored, list) and isinstance(computed, list) and len(stored) == len(computed):
        for i, (a, b) in enumerate(zip(stored, computed, strict=True)):
            yield from differences(a, b, f"{path}[{i}]")
    elif stored != computed or type(stored) is not type(computed):
        yield f"{path}: the report says {_short(stored)}, the records give {_short(computed)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."


def _file_differences(stored: Path, fresh: Path, name: str, same_artist: bool) -> list[str]:
    if not stored.exists():
        return [f"{name} is missing"]
    old, new = stored.read_bytes(), fresh.read_bytes()
    if old == new:
        return []
    if stored.suffix == ".png":
        return [f"{name} is not the picture of these records"] if same_artist else []
    lines = _visible_lines(old), _visible_lines(new)
    exact = same_artist or (stored.suffix in TEXTS and b"<svg" not in new)
    if lines[0] == lines[1]:
        return [f"{name} was changed"] if exact else []
    return [f"{name}: {_first_difference(*lines)}"]


def _visible_lines(content: bytes) -> list[str]:
    """The text of a file, line by line, without markup."""
    text = content.decode("utf-8", errors="replace")
    visible = re.sub(r"<style.*?</style>|<[^>]*>", "\n", text, flags=re.DOTALL)
    return [line for raw in visible.splitlines() if (line := unescape(raw).strip())]


def _first_difference(old: list[str], new: list[str]) -> str:
    for a, b in zip(old, new, strict=False):
        if a != b:
            return f"it shows {_short(a)}, the records give {_short(b)}"
    return f"it has {len(old)} lines, the records give {len(new)}"
