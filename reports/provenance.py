"""Verification of a report: every number is recomputed from the records, every file drawn again.

Only the request is read from the report: the names of its runs, its metric, axes and target. If
the report states that another version of matplotlib drew it, figures may differ, and the result
lists those that could not be compared.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import Annotated, Any

import msgspec

from archsearch.reports.card import Cards
from archsearch.reports.cards import CARDS
from archsearch.reports.render import NUMBERS, is_report_file, render_results
from archsearch.reports.report_json import SCHEMA
from archsearch.results import load
from archsearch.storage.pilots import inner_folders
from archsearch.storage.plain_file import Damaged, read_plain
from archsearch.storage.publish import STUDY_FILES
from archsearch.storage.stored_json import read_json
from archsearch.storage.study_folder import StudyFolder

TEXTS = (".csv", ".md", ".tex", ".html", ".json")
SUFFIXES = (*TEXTS, ".png", ".svg")


@dataclass(frozen=True)
class Verification:
    """The ``differences`` between a report and its records; the report is verified if it has none.

    If another matplotlib drew the report, ``note`` names the figures that were not compared. It
    also says how many files have no checksum; else it is empty.
    """

    differences: tuple[str, ...]
    note: str = ""


def verify(
    run_dir: Path | str, out_dir: Path | str | None = None, cards: Cards = CARDS
) -> Verification:
    """Compare a report with its records.

    ``out_dir`` is the folder of the report, by default ``run_dir/reports``. Numbers, tables and the
    text of page and SVGs are always compared; pixels (and the SVGs' shapes) only if this version of
    matplotlib drew them, since another may draw the same numbers differently. Tables and figures
    that do not follow from the records are differences too.

    Raises:
        ValueError: if there is no report, or it is damaged or of another version or run.
    """
    out = Path(out_dir) if out_dir is not None else Path(run_dir) / "reports"
    stored = _read_numbers(out)
    runs = [out / run["path"] for run in stored["runs"]]
    if Path(run_dir).resolve() not in {r.resolve() for r in runs}:
        raise ValueError(f"{out / NUMBERS} is not a report of {run_dir}: it names other runs")
    with tempfile.TemporaryDirectory() as folder:
        redrawn = Path(folder)
        metric, axes, target = (stored[name] for name in ("metric", "axes", "target"))
        results = [load(run) for run in runs]
        report = render_results(results, runs, redrawn, metric, axes, target, cards)
        names = [path.relative_to(redrawn).as_posix() for path in report.files.values()]
        result = _compare(out, stored, redrawn, names, cards)
    notes = (result.note, _protection_note(runs))
    return replace(result, note=". ".join(filter(None, notes)))


def _protection_note(runs: list[Path]) -> str:
    """Return how many files of the runs a checksum does not protect; empty if it protects all."""
    folders = [folder for run in runs for folder in (run, *inner_folders(run))]
    paths = [path for folder in folders for path in StudyFolder(folder).unprotected()]
    if not paths:
        return ""
    return (
        f"{len(paths)} stored files have no checksum, because an earlier version wrote them: they "
        "are not protected from changes"
    )


def _compare(
    out: Path, stored: Mapping[str, Any], redrawn: Path, names: list[str], cards: Cards
) -> Verification:
    """Compare the report in ``out`` with the one in ``redrawn``, which has the files ``names``."""
    computed = _read_numbers(redrawn)
    versions = stored["drawn_with"], computed["drawn_with"]
    # The paths of the runs are relative to the folder of the report.
    pairs = zip(computed["runs"], stored["runs"], strict=True)
    computed["runs"] = [run | {"path": old["path"]} for run, old in pairs]
    computed["drawn_with"] = stored["drawn_with"]
    lines, not_compared = list(differences(stored, computed)), []
    for name in (n for n in names if n != NUMBERS):
        old, new = out / name, redrawn / name
        changes = _file_differences(old, new, name, versions[0] == versions[1])
        if not changes and read_plain(old) != new.read_bytes():
            not_compared.append(name)
        lines += changes
    return Verification(
        (*lines, *_unexpected_files(out, names, cards)), _note(*versions, not_compared)
    )


def _note(stored: str, current: str, not_compared: list[str]) -> str:
    """Return which figures were not compared because another matplotlib drew the report."""
    if stored == current:
        return ""
    text = f"{NUMBERS} says that {stored} drew this report; the current version is {current}"
    if not not_compared:
        return f"{text}, which draws the same bytes."
    return f"{text}, so these were NOT compared as images: {', '.join(not_compared)}"


def _unexpected_files(out: Path, names: list[str], cards: Cards) -> Iterator[str]:
    """Yield the tables and figures beside the report that do not follow from the records."""
    expected = {out / name for name in names}
    folders = {path.parent for path in expected}
    others = {f for f in out.iterdir() if f.is_dir() and not (f / NUMBERS).exists()} - folders
    paths = [p for f in folders for p in _files(f) if p.suffix.lower() in SUFFIXES]
    paths += [p for f in others for p in _files(f) if is_report_file(p.name, cards)]
    for path in sorted(p for p in paths if p not in expected and p.name not in STUDY_FILES):
        yield f"{path.relative_to(out).as_posix()} does not follow from the records"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


class _Run(msgspec.Struct):
    path: str


class _Request(msgspec.Struct):
    """The part of numbers.json that a report is recomputed from."""

    runs: Annotated[list[_Run], msgspec.Meta(min_length=1)]
    metric: str | None
    axes: list[str] | None
    target: Annotated[int, msgspec.Meta(gt=0)] | None
    drawn_with: str


def _read_numbers(out: Path) -> dict[str, Any]:
    path = out / NUMBERS
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise ValueError(f"no report in {out}: {NUMBERS} is missing; draw it first") from None
    if content.get("schema") != SCHEMA:
        raise ValueError(f"{path} is not a report of this version (schema {SCHEMA}): draw it again")
    try:
        msgspec.convert(content, _Request)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path} is damaged: {error}; draw it again") from None
    return content


def differences(stored: Any, computed: Any, path: str = "") -> Iterator[str]:
    """Yield where two JSON values differ, by path."""
    if isinstance(stored, dict) and isinstance(computed, dict):
        for key in {**stored, **computed}:
            inner = f"{path}.{key}" if path else str(key)
            if key in stored and key in computed:
                yield from differences(stored[key], computed[key], inner)
            else:
                yield f"{inner} {'is unexpected' if key in stored else 'is missing'}"
    elif isinstance(stored, list) and isinstance(computed, list) and len(stored) == len(computed):
        for i, (a, b) in enumerate(zip(stored, computed, strict=True)):
            yield from differences(a, b, f"{path}[{i}]")
    elif stored != computed or type(stored) is not type(computed):
        yield f"{path}: the report says {_short(stored)}, the records give {_short(computed)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."


def _file_differences(stored: Path, redrawn: Path, name: str, same_version: bool) -> list[str]:
    try:
        old, new = read_plain(stored), redrawn.read_bytes()
    except FileNotFoundError:
        return [f"{name} is missing"]
    except Damaged as error:
        return [str(error)]
    if old == new:
        return []
    if stored.suffix == ".png":
        return [f"{name} is not the figure of these records"] if same_version else []
    lines = _visible_lines(old), _visible_lines(new)
    exact = same_version or (stored.suffix in TEXTS and b"<svg" not in new)
    if lines[0] == lines[1]:
        return [f"{name} was changed"] if exact else []
    return [f"{name}: {_first_difference(*lines)}"]


def _visible_lines(content: bytes) -> list[str]:
    """Return the text of a file, line by line, without markup."""
    text = content.decode("utf-8", errors="replace")
    visible = re.sub(r"<style.*?</style>|<[^>]*>", "\n", text, flags=re.DOTALL)
    return [line for raw in visible.splitlines() if (line := unescape(raw).strip())]


def _first_difference(old: list[str], new: list[str]) -> str:
    for a, b in zip(old, new, strict=False):
        if a != b:
            return f"it shows {_short(a)}, the records give {_short(b)}"
    return f"it has {len(old)} lines, the records give {len(new)}"
