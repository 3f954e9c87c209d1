"""The details of a run below the tables of its page: every cell, and how to train it again."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from archsearch.core.metrics import GENERAL
from archsearch.core.recipe import Recipe
from archsearch.families.naming import family_name
from archsearch.reports.columns import result_with_unit
from archsearch.reports.context import Context
from archsearch.reports.formats import MISSING, Table, as_html
from archsearch.reports.phrases import listed, num_train_text, setting
from archsearch.results import CellResult, Results


def cell_details(cell: CellResult, context: Context) -> Mapping[str, Any]:
    """Return the details of one cell for the template."""
    requested = ", ".join(f"{context.symbol(k)} {v}" for k, v in cell.cell.requested.items())
    name, request = (cell.label, requested) if cell.cell.variant else (requested, "")
    fate = cell.cell.fate if cell.cell.fate == "repaired" else ""
    state = ", ".join(filter(None, (fate, cell.status_text)))
    has_value = context.comparison.has_value(cell)
    return {
        "name": name,
        "state": " · ".join(filter(None, (request, state))),
        "value": result_with_unit(cell, context.comparison) if has_value else "",
        "lines": _lines(cell, context),
        "seeds": Markup(as_html(_seed_table(cell, context))) if cell.trials else "",
        "errors": [t.record.error for t in cell.trials if t.record and t.record.error],
    }


def _lines(cell: CellResult, context: Context) -> list[str]:
    lines = [cell.cell.reason] if cell.cell.reason else []
    if cost := cell.cell.cost:
        counting = "In the paper's counting" if context.is_internimage else "With 1000 classes"
        lines.append(
            f"{counting}: {cost.params:,} parameters, {cost.macs:,} multiply-adds and "
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


def _seed_table(cell: CellResult, context: Context) -> Table:
    """Return a row per training of the cell."""
    measured = [m for m in context.results.measured if m.name != "seconds"]
    seconds, trials = GENERAL["seconds"], cell.trials
    kinds = [t.record.kind if t.record else "" for t in trials]
    columns = {
        "Seed": [str(t.trial.seed) for t in trials],
        "State": [f"{t.state} {kind}".rstrip() for t, kind in zip(trials, kinds, strict=True)],
        **{m.axis: [m.text(t.value(m)) for t in trials] for m in measured},
        "Epochs": [f"{len(t.curve)}/{t.trial.recipe.epochs}" for t in trials],
        "Time": [seconds.text(t.record.seconds if t.record else None) for t in trials],
        "Attempts": [str(t.record.attempts) if t.record else MISSING for t in trials],
        "Device": [t.record.device if t.record else "" for t in trials],
        "Trial": [t.trial.id for t in trials],
    }
    return Table.of(columns, [])


def command(results: Results) -> str:
    """Return the command that started the run."""
    return shlex.join(results.request.get("command", ())) or "not recorded"


def training_setup(results: Results) -> list[tuple[str, str]]:
    """Return (name, value) of everything that is needed to train a run again."""
    records = [t.record for t in results.trials if t.record]
    versions = _versions([results.versions, *(r.versions for r in records)])
    commits = versions.pop("commit", [])
    names = (f"{name} {listed(values)}" for name, values in sorted(versions.items()))
    data, train = results.data, num_train_text(results.data, results.study.recipe)
    images = f"{train} training, {data.num_val:,} validation, {data.num_test:,} test images"
    pairs = [
        ("Started", str(results.request.get("created", "not recorded"))),
        ("Data", f"{data.name}: {images}, {data.num_classes} classes"),
        ("Notes on the data", "; ".join(data.notes)),
        ("Data fingerprint", data.fingerprint),
        ("Recipe", _recipe_text(results.study.recipe)),
        ("Instead of the recipe's", _settings_text(results)),
        ("Seeds", _seeds_text(results)),
        ("Device", "; ".join(sorted({r.device for r in records if r.device})) or "none yet"),
        ("Commit", "; ".join(commits) or "not recorded"),
        ("Versions", ", ".join(names) or "not recorded"),
    ]
    return [(name, value) for name, value in pairs if value]


def _versions(recorded: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return name -> all its versions: a run may be resumed on another machine, or later."""
    names = {name for versions in recorded for name in versions}
    return {n: sorted({v[n] for v in recorded if v.get(n)}) for n in names}


def _seeds_text(results: Results) -> str:
    """Return the trained seeds, and the planned seeds if they differ."""
    study = results.study
    planned = listed([*map(str, study.seeds)])
    trained = listed([*map(str, sorted({t.trial.seed for t in results.trials}))])
    if trained in ("", planned):
        return planned
    limit = (
        f", for networks that may be the best up to {study.max_seeds} each"
        if study.max_seeds
        else ""
    )
    return f"{trained}; planned: {planned}{limit}"


def _settings_text(results: Results) -> str:
    """Return the settings of the cells by family: ``convnext lr 0.001``; empty without any."""
    texts = (
        f"{family_name(c.cell.variant)} {name} {setting(value)}"
        for c in results.cells
        if c.cell.variant is not None
        for name, value in c.cell.settings.items()
    )
    return ", ".join(dict.fromkeys(texts))


def _recipe_text(recipe: Recipe) -> str:
    """Return every stored setting, so that a printed page has them too."""
    values = [(name, getattr(recipe, name)) for name in recipe.to_dict() if name != "name"]
    settings = (f"{n.replace('_', ' ')} {setting(v)}" for n, v in values if v is not None)
    return f"{recipe.name}: {', '.join(settings)}"
