"""Draw a whole report: pictures, tables, the page and its numbers."""

import json
from collections.abc import Sequence
from pathlib import Path

from archsearch.metrics import metric as known_metric
from archsearch.results import Results, load
from reports import heatmap, pictures, tables
from reports.numbers import numbers
from reports.page import page

PAGE, NUMBERS = "report.html", "numbers.json"


def render_all(
    run_dirs: Sequence[Path | str], out_dir: Path | str, metric: str | None = None
) -> dict[str, Path]:
    """Write the report of one run, or of several side by side, into ``out_dir``.

    The page and its numbers stand in ``out_dir``; pictures and tables beside them, with several
    runs in a folder per run. Returns name -> path, the page first.

    Raises:
        ValueError: for a folder without a study, an unknown metric, or no run at all.
        OSError: when ``out_dir`` cannot be written.
    """
    folders, out = [Path(d) for d in run_dirs], Path(out_dir)
    if not folders:
        raise ValueError("a report wants at least one run folder, got none")
    if metric is not None:
        known_metric(metric)
    results = [load(folder) for folder in folders]
    return render_results(results, folders, out, metric)


def render_results(
    results: Sequence[Results], folders: Sequence[Path], out: Path, metric: str | None = None
) -> dict[str, Path]:
    """As `render_all`, of runs that are read already."""
    out.mkdir(parents=True, exist_ok=True)
    written = {"page": out / PAGE, "numbers": out / NUMBERS}
    written["page"].write_text(page(results, metric), encoding="utf-8", newline="\n")
    content = json.dumps(numbers(results, folders, out, metric), indent=1, ensure_ascii=False)
    written["numbers"].write_text(content + "\n", encoding="utf-8", newline="\n")
    for place, run in zip(places(results), results, strict=True):
        for path in draw(run, out / place, metric):
            written[path.relative_to(out).as_posix()] = path
    return written


def places(results: Sequence[Results]) -> list[str]:
    """The folder of each run's pictures and tables inside a report."""
    if len(results) == 1:
        return ["."]
    names = [r.name for r in results]
    return [f"{i}-{name}" if names.count(name) > 1 else name for i, name in enumerate(names, 1)]


def draw(results: Results, folder: Path, metric: str | None = None) -> list[Path]:
    """The pictures and tables of one run."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    if has_map(results):
        paths += heatmap.render(results, folder, metric)
    paths += pictures.render(results, folder, metric)
    return paths + tables.render(results, folder, metric)


def has_map(results: Results) -> bool:
    """Whether the plan's cells each have a place of their own on a map."""
    try:
        heatmap.grid_of(results)
    except ValueError:
        return False
    return True
