"""Draw a whole report: pictures, tables, the page and its numbers."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archsearch.core.metrics import metric as known_metric
from archsearch.reports import data_scale, figures, heatmap, tables
from archsearch.reports.formats import WRITERS
from archsearch.reports.heatmap import Axes3
from archsearch.reports.page import page
from archsearch.reports.report_json import numbers
from archsearch.results import Results, load

PAGE, NUMBERS = "report.html", "numbers.json"
TABLES = (
    *(
        "paper",
        "gradients",
        "table-c",
        "law",
        "effects",
        "results",
        "pareto",
        "others",
        "recipe",
        "family",
    ),
    "data-scale",
)
PICTURES = ("heatmap", *figures.HOW_TO_READ, "data-scale")
"""Stems of all tables and pictures that a report may have."""


def render_all(
    run_dirs: Sequence[Path | str],
    out_dir: Path | str,
    metric: str | None = None,
    axes: Sequence[str] | None = None,
    target: int | None = None,
) -> dict[str, Path]:
    """Write the report of one run, or of several side by side, into ``out_dir``.

    The page and its numbers stand in ``out_dir``; pictures and tables beside them, with several
    runs in a folder per run. ``axes`` are the map's (panel, y, x) in place of the study's own,
    ``target`` is the size in parameters that (alpha, beta) is recommended for. Returns name ->
    path, the page first.

    Raises:
        ValueError: for a folder without a study, an unknown metric, axes by which no run has a map,
            or no run at all.
        OSError: when ``out_dir`` cannot be written.
    """
    folders, out = [Path(d) for d in run_dirs], Path(out_dir)
    if not folders:
        raise ValueError("a report wants at least one run folder, got none")
    if metric is not None:
        known_metric(metric)
    results = [load(folder) for folder in folders]
    return render_results(results, folders, out, metric, known_axes(results, axes), target)


def known_axes(results: Sequence[Results], axes: Sequence[str] | None) -> Axes3 | None:
    """The axes, if at least one run can be drawn by them; a page says why another cannot.

    Raises:
        ValueError: when they are not three coordinates, no plan has them, or cells share a place.
    """
    if axes is None:
        return None
    names = dict.fromkeys(name for r in results for c in r.cells for name in c.cell.asked)
    if len(axes) != 3 or not set(axes) <= set(names):
        raise ValueError(
            "axes want three coordinates of the plan, panel,y,x, out of "
            f"{', '.join(names) or 'none yet'}; got {', '.join(axes)}"
        )
    wanted = (axes[0], axes[1], axes[2])
    if all(reasons := [why_no_map(r, wanted) for r in results]):
        raise ValueError("; ".join(dict.fromkeys(reasons)))
    return wanted


def render_results(
    results: Sequence[Results],
    folders: Sequence[Path],
    out: Path,
    metric: str | None = None,
    axes: Axes3 | None = None,
    target: int | None = None,
) -> dict[str, Path]:
    """As `render_all`, of runs that are read already."""
    html = page(results, metric, axes, target)
    content = numbers(results, folders, out, metric, axes, target)
    out.mkdir(parents=True, exist_ok=True)
    clear(out)
    written = {"page": out / PAGE, "numbers": out / NUMBERS}
    written["page"].write_text(html, encoding="utf-8", newline="\n")
    text = json.dumps(content, indent=1, ensure_ascii=False)
    written["numbers"].write_text(text + "\n", encoding="utf-8", newline="\n")
    drawn = data_scale.render(results, out, metric)
    for place, run in zip(places([r.name for r in results]), results, strict=True):
        drawn += draw(run, out / place, metric, axes)
    return written | {path.relative_to(out).as_posix(): path for path in drawn}


def clear(out: Path) -> None:
    """Take away what an earlier report in ``out`` drew: nothing may stay that is not drawn again.

    Only files by names that a report writes, and only where one stands.
    """
    if not all((out / name).is_file() for name in (PAGE, NUMBERS)):
        return
    for folder in filter(Path.is_dir, {out, *(out / place for place in _drawn_places(out))}):
        for path in [*folder.iterdir()]:
            if path.is_file() and is_report_file(path.name):
                path.unlink()
        if folder != out and not any(folder.iterdir()):
            folder.rmdir()


def is_report_file(name: str) -> bool:
    """Whether a table or picture of a report may be called that."""
    stem, _, suffix = name.rpartition(".")
    stem = re.sub(r"^data-scale-\d+$", "data-scale", stem)
    return (stem in TABLES and suffix in WRITERS) or (stem in PICTURES and suffix in ("png", "svg"))


def _drawn_places(out: Path) -> list[str]:
    """Where the report that stands in ``out`` has its runs' files, as far as it can be read."""
    try:
        content: Any = json.loads((out / NUMBERS).read_bytes())
        names = [str(run["name"]) for run in content["runs"]]
    except (ValueError, KeyError, TypeError):
        return []
    return places([name for name in names if Path(name).name == name != ".."])


def places(names: Sequence[str]) -> list[str]:
    """The folder of each run's pictures and tables inside a report; all are numbered where two
    runs share a name."""
    if len(names) == 1:
        return ["."]
    shared = len(set(names)) < len(names)
    return [f"{i}-{name}" if shared else name for i, name in enumerate(names, 1)]


def draw(
    results: Results, folder: Path, metric: str | None = None, axes: Axes3 | None = None
) -> list[Path]:
    """The pictures and tables of one run."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    if not why_no_map(results, axes):
        paths += heatmap.render(results, folder, metric, axes)
    paths += figures.render(results, folder, metric)
    return paths + tables.render(results, folder, metric)


def why_no_map(results: Results, axes: Axes3 | None = None) -> str:
    """Why the plan's cells have no place each on a map; empty where they have."""
    try:
        heatmap.grid_of(results, axes)
    except ValueError as error:
        return str(error)
    return ""
