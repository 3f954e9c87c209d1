"""Writing of a report: figures, tables, the page and its numbers."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from archsearch.reports.card import CardContent, Cards
from archsearch.reports.cards import CARDS
from archsearch.reports.formats import write_table
from archsearch.reports.page import page
from archsearch.reports.report import Report, compute_report
from archsearch.reports.report_json import report_json
from archsearch.reports.style import write_figure
from archsearch.results import Results, load
from archsearch.storage.files import write_bytes
from archsearch.storage.plain_file import refuse_link
from archsearch.storage.stored_json import read_json

PAGE, NUMBERS = "report.html", "numbers.json"


def render_all(
    run_dirs: Sequence[Path | str],
    out_dir: Path | str,
    metric: str | None = None,
    axes: Sequence[str] | None = None,
    target: int | None = None,
    cards: Cards = CARDS,
) -> Report:
    """Write the report of one run, or of several side by side, into ``out_dir``.

    The page and its numbers are in ``out_dir``; figures and tables are beside them, or in a folder
    per run if there are several. ``axes`` are the heatmap's (panel, y, x) instead of the study's,
    ``target`` is the size in parameters that (alpha, beta) is recommended for. ``cards`` is the
    content of the report: `(*CARDS, card)` adds a card.

    Raises:
        ValueError: for a folder without a study, a metric that is unknown or of the test split,
            axes that give no run a heatmap, or no run.
        OSError: if ``out_dir`` cannot be written.
    """
    folders = [Path(d) for d in run_dirs]
    if not folders:
        raise ValueError("a report must have at least one run folder, got none")
    results = [load(folder) for folder in folders]
    if metric is not None:
        for run in results:
            run.study.task.choosing_metric(metric)
    return render_results(results, folders, Path(out_dir), metric, axes, target, cards)


def render_results(
    results: Sequence[Results],
    folders: Sequence[Path],
    out: Path,
    metric: str | None = None,
    axes: Sequence[str] | None = None,
    target: int | None = None,
    cards: Cards = CARDS,
) -> Report:
    """Write the report of loaded runs; see `render_all`."""
    report = compute_report(results, metric, axes, target, cards)
    numbers = json.dumps(report_json(report, folders, out), indent=1, ensure_ascii=False)
    texts = {out / PAGE: page(report), out / NUMBERS: numbers + "\n"}
    if out in [folder / "reports" for folder in folders]:
        refuse_link(out)
    out.mkdir(parents=True, exist_ok=True)
    remove_earlier_report(out, cards)
    for path, text in texts.items():
        write_bytes(path, text.encode())
    cross = [content for content in report.cross if content.has_files]
    paths = _write(cross, out)
    for name, run in zip(run_folders([r.name for r in results]), report.runs, strict=True):
        if name != ".":
            refuse_link(out / name)
        (out / name).mkdir(exist_ok=True)
        paths += _write(run.contents, out / name)
    files = {path.relative_to(out).as_posix(): path for path in paths}
    return replace(report, files={"page": out / PAGE, "numbers": out / NUMBERS} | files)


def _write(contents: Sequence[CardContent], folder: Path) -> list[Path]:
    figures = (write_figure(c.figure, folder, c.name) for c in contents if c.figure)
    tables = (write_table(c.table, folder) for c in contents if c.table)
    return [path for paths in (*figures, *tables) for path in paths]


def remove_earlier_report(out: Path, cards: Cards = CARDS) -> None:
    """Remove the figures and tables of an earlier report in ``out``, if there is one.

    Only files with names that a report writes are removed.
    """
    if not all((out / name).is_file() for name in (PAGE, NUMBERS)):
        return
    for folder in filter(Path.is_dir, {out, *(out / name for name in _earlier_folders(out))}):
        for path in [*folder.iterdir()]:
            if path.is_file() and is_report_file(path.name, cards):
                path.unlink()
        if folder != out and not any(folder.iterdir()):
            folder.rmdir()


def is_report_file(name: str, cards: Cards = CARDS) -> bool:
    """Return whether a figure or table of a report may have that file name."""
    return any(card.owns(name) for card in cards)


def _earlier_folders(out: Path) -> list[str]:
    """Return the folders of the runs of the report in ``out``; none if it cannot be read."""
    try:
        content = read_json(out / NUMBERS)
        names = [str(run["name"]) for run in content["runs"]]
    except (ValueError, KeyError, TypeError):
        return []
    return run_folders([name for name in names if Path(name).name == name != ".."])


def run_folders(names: Sequence[str]) -> list[str]:
    """Return the folder of each run's figures and tables inside a report.

    All are numbered if two runs share a name.
    """
    if len(names) == 1:
        return ["."]
    shared = len(set(names)) < len(names)
    return [f"{i}-{name}" if shared else name for i, name in enumerate(names, 1)]
