"""One self-contained page: the answer first, then pictures, tables and every record.

No script, nothing loaded from anywhere; whatever a study or an error says is shown as text.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from archsearch.core.metrics import METRICS
from archsearch.core.recipe import Recipe
from archsearch.reports import figures, heatmap, style, tables
from archsearch.reports.cell_order import shown
from archsearch.reports.formats import Table, as_csv, as_html, table
from archsearch.reports.multi_run import across
from archsearch.reports.phrases import (
    compared_words,
    listed,
    num_train_words,
    seeds_words,
    with_interval,
)
from archsearch.reports.recommended import recommendation
from archsearch.reports.summary import answer
from archsearch.results import CellResult, Comparison, Results

MAX_OPEN_ROWS = 12
"""Of trainings that are listed beside the plan's; more are folded away."""


def page(
    results: Sequence[Results],
    metric: str | None = None,
    axes: heatmap.Axes3 | None = None,
    target: int | None = None,
) -> str:
    """The page of one run, or of several side by side, as HTML.

    ``axes`` are the map's (panel, y, x), each study's own by default; ``target`` is the size in
    parameters that (alpha, beta) is recommended for, the largest trained by default.
    """
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["whole"] = whole
    with style.styled():
        runs = [run_view(run, metric, f"r{i}", axes) for i, run in enumerate(results, 1)]
    return environment.get_template("page.html").render(
        title=" · ".join(r.name for r in results),
        css=Markup((folder / "page.css").read_text(encoding="utf-8")),
        recommended=recommendation(results, target),
        compared=[Markup(as_html(t)) for t in across(results, metric)],
        runs=runs,
    )


def whole(text: str) -> str:
    """Keeps (64, 16, 4, 18) and numbers with their units on one line."""
    text = re.sub(r"\(\d+(, \d+)+\)", lambda m: m[0].replace(" ", "\u00a0"), text)
    return re.sub(r"(?<=\d) (?=±|[GM] )|(?<=±) (?=\d)", "\u00a0", text)


def run_view(
    results: Results, metric: str | None, prefix: str, axes: heatmap.Axes3 | None = None
) -> dict[str, Any]:
    """Everything the template says about one run."""
    compared = results.compare(metric)
    panels, legend, no_map = _map(results, metric, prefix, axes or results.study.axes)
    return {
        "name": results.name,
        "question": results.study.question,
        "source": results.study.source,
        "answer": answer(results, metric),
        "can_rank": compared.ranking.can_rank,
        "metric_axis": compared.metric.axis,
        "map_note": _map_note(results, compared),
        "panels": panels,
        "legend": legend,
        "no_map": no_map,
        "pictures": _pictures(results, metric, prefix),
        "tables": [Markup(as_html(t)) for t in _main_tables(results, metric)],
        "folded_tables": _folded_tables(results),
        "cells": [_cell_view(c, results, compared) for c in results.cells],
        "command": shlex.join(results.asked.get("command", ())) or "not recorded",
        "made": made(results),
        "folded": _folded(results, metric),
    }


def _map(
    results: Results, metric: str | None, prefix: str, axes: heatmap.Axes3 | None
) -> tuple[list[Markup], Markup, str]:
    """The panels of the heatmap and its legend, or why there is none."""
    if axes is None:
        return [], Markup(""), ""
    try:
        grid = heatmap.grid_of(results, axes)
    except ValueError as error:
        return [], Markup(""), f"No map: {error}."
    label = results.compare(metric).metric.label
    panels = [
        _inline(
            heatmap.panel_figure(results, value, metric, axes),
            f"{prefix}-map{i}",
            f"{label}, {style.symbol(grid.axes[0])} = {value}",
        )
        for i, value in enumerate(grid.panels)
    ]
    legend = _inline(heatmap.legend_figure(results, metric, axes), f"{prefix}-legend", "Legend")
    return panels, legend, ""


def _map_note(results: Results, compared: Comparison) -> str:
    """What stands in the cells of the map, and by which mean."""
    if not any(e is not None for e in compared.estimates):
        return "No cell has a value."
    cells = f"In each cell: {seeds_words(results, compared)}, and L₃."
    shades = "Darker is better; one scale for all panels."
    return " ".join(filter(None, (cells, shades, compared_words(results, compared))))


def _inline(figure: Any, prefix: str, title: str) -> Markup:
    return Markup(style.inline(style.svg(figure), prefix, title))


def _pictures(results: Results, metric: str | None, prefix: str) -> list[tuple[str, Markup, str]]:
    made_figures = figures.figures(results, metric)
    return [
        (caption, _inline(figure, f"{prefix}-{name}", caption), figures.HOW_TO_READ[name])
        for name, (caption, figure) in made_figures.items()
    ]


def _main_tables(results: Results, metric: str | None) -> list[Table]:
    shown_open = ["paper", "gradients", "table-c", "law", "effects", "results", "pareto"]
    if len(results.others) <= MAX_OPEN_ROWS:
        shown_open.append("others")
    return [t for t in tables.all_tables(results, metric) if t.name in shown_open]


def _folded_tables(results: Results) -> list[tuple[str, Markup]]:
    if len(results.others) <= MAX_OPEN_ROWS:
        return []
    others = tables.others_table(results)
    untitled = Markup(as_html(replace(others, title="")))
    return [(f"{others.title}: {len(others.body)}", untitled)]


def _folded(results: Results, metric: str | None) -> list[tuple[str, Markup]]:
    csv = as_csv(tables.results_table(results, metric))
    notes = results.compare(metric).ranking.notes
    told = [("Notes of the ranking", _paragraphs(notes))] if notes else []
    return [
        *told,
        ("The recipe beside Table B", Markup(as_html(tables.recipe_table(results.study.recipe)))),
        ("The model family, as Table 1", Markup(as_html(tables.family_table()))),
        ("The results as CSV", Markup("<pre>{}</pre>").format(csv)),
    ]


def _paragraphs(lines: Sequence[str]) -> Markup:
    return Markup("\n").join(Markup("<p>{}</p>").format(line) for line in lines)


def _cell_view(cell: CellResult, results: Results, compared: Comparison) -> dict[str, Any]:
    asked = ", ".join(f"{style.symbol(k)} {v}" for k, v in cell.cell.asked.items())
    estimate = shown(cell, compared)
    return {
        "name": cell.label if cell.cell.variant else asked,
        "state": " · ".join(filter(None, (asked if cell.cell.variant else "", _state(cell)))),
        "value": with_interval(compared.metric, estimate, compared.digits) if estimate else "",
        "lines": _cell_lines(cell),
        "seeds": Markup(as_html(_seed_table(cell, results))) if cell.trials else "",
        "errors": [t.record.error for t in cell.trials if t.record and t.record.error],
    }


def _state(cell: CellResult) -> str:
    fate = cell.cell.fate if cell.cell.fate == "repaired" else ""
    return ", ".join(filter(None, (fate, cell.told)))


def _cell_lines(cell: CellResult) -> list[str]:
    lines = [cell.cell.reason] if cell.cell.reason else []
    if cost := cell.cell.cost:
        lines.append(
            f"As the paper counts: {cost.params:,} parameters, {cost.macs:,} multiply-adds and "
            f"{cost.activations:,} activations at {cost.image_size}²."
        )
    trained = next((t.record.cost for t in cell.trials if t.record and t.record.cost), None)
    if trained:
        lines.append(
            f"As trained: {trained.params:,} parameters, {trained.macs:,} multiply-adds at "
            f"{trained.image_size}²."
        )
    if cell.cell.paper:
        lines.append("Paper: " + ", ".join(f"{k} {v}" for k, v in cell.cell.paper.items()) + ".")
    notes = {note for t in cell.trials if t.record for note in t.record.notes}
    return [*lines, *sorted(notes)]


def _seed_table(cell: CellResult, results: Results) -> Table:
    measured = [m for m in results.measured if m.name != "seconds"]
    trials = cell.trials
    columns = {
        "Seed": [str(t.trial.seed) for t in trials],
        "State": [
            " ".join(filter(None, (t.state, t.record.kind if t.record else ""))) for t in trials
        ],
    }
    columns |= {m.axis: [m.text(t.value(m)) for t in trials] for m in measured}
    columns |= {
        "Epochs": [f"{len(t.curve)}/{t.trial.recipe.epochs}" for t in trials],
        "Time": [METRICS["seconds"].text(t.record.seconds if t.record else None) for t in trials],
        "Attempts": [str(t.record.attempts) if t.record else "–" for t in trials],
        "Device": [t.record.device if t.record else "" for t in trials],
        "Trial": [t.trial.id for t in trials],
    }
    return table("seeds", "", columns, [])


def made(results: Results) -> list[tuple[str, str]]:
    """What it takes to make this again."""
    records = [t.record for t in results.trials if t.record]
    versions = _versions([results.versions, *(r.versions for r in records)])
    commits = versions.pop("commit", [])
    told = (f"{name} {listed(found)}" for name, found in sorted(versions.items()))
    pairs = [
        ("Started", str(results.asked.get("created", "not recorded"))),
        ("Data", _data_words(results)),
        ("Data fingerprint", results.data.fingerprint),
        ("Recipe", _recipe_words(results.study.recipe)),
        ("Seeds", _seed_words(results)),
        ("Device", "; ".join(sorted({r.device for r in records if r.device})) or "none yet"),
        ("Commit", "; ".join(commits) or "not recorded"),
        ("Versions", ", ".join(told) or "not recorded"),
    ]
    return [(name, value) for name, value in pairs if value]


def _versions(recorded: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Name -> every version of it that took part: a run may go on elsewhere, or after an update."""
    names = {name for versions in recorded for name in versions}
    return {n: sorted({v[n] for v in recorded if v.get(n)}) for n in names}


def _data_words(results: Results) -> str:
    data = results.data
    train = num_train_words(data, results.study.recipe)
    images = f"{train} training, {data.num_val:,} validation, {data.num_test:,} test images"
    return f"{data.name}: {images}, {data.num_classes} classes"


def _seed_words(results: Results) -> str:
    """The seeds there are trainings of; the planned ones beside them if more (or fewer) came."""
    study = results.study
    planned = listed([str(seed) for seed in study.seeds])
    found = listed([str(seed) for seed in sorted({t.trial.seed for t in results.trials})])
    if found in ("", planned):
        return planned
    more = f", for tied networks up to {study.max_seeds} each" if study.max_seeds else ""
    return f"{found}; planned: {planned}{more}"


def _recipe_words(recipe: Recipe) -> str:
    """Every setting, so that a print of the page has it too."""
    settings = [(f.name, getattr(recipe, f.name)) for f in fields(recipe) if f.name != "name"]
    told = (f"{n.replace('_', ' ')} {tables.setting(v)}" for n, v in settings if v is not None)
    return f"{recipe.name}: {', '.join(told)}"
