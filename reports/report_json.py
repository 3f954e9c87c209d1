"""Every number of a report as plain JSON: what the page shows, and what it was computed from."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from archsearch.core.metrics import rounded
from archsearch.core.study import Record, canonical_json
from archsearch.reports import tables
from archsearch.reports.importances import shares
from archsearch.reports.multi_run import across
from archsearch.reports.recommended import advice
from archsearch.reports.summary import answer
from archsearch.results import Comparison, Results

SCHEMA = 2


def numbers(
    results: Sequence[Results],
    run_dirs: Sequence[Path],
    out_dir: Path,
    metric: str | None = None,
    axes: Sequence[str] | None = None,
    target: int | None = None,
) -> dict[str, Any]:
    """The numbers of one page; runs are named by their path from ``out_dir``.

    ``metric``, ``axes`` and ``target`` are as asked for (`render.render_all`), and stored: the page
    can be drawn again by them.
    """
    import matplotlib

    runs = [_run(r, metric) for r in results]
    for run, folder in zip(runs, run_dirs, strict=True):
        run["path"] = Path(os.path.relpath(folder.resolve(), out_dir.resolve())).as_posix()
    return {
        "schema": SCHEMA,
        "metric": metric,
        "axes": None if axes is None else list(axes),
        "target": target,
        "drawn_with": f"matplotlib {matplotlib.__version__}",
        "across": {t.name: [dict(row) for row in t.rows] for t in across(results, metric)},
        "recommended": [one.to_dict() for one in advice(results, target)],
        "runs": runs,
    }


def _run(results: Results, metric: str | None) -> dict[str, Any]:
    compared = results.compare(metric)
    return {
        "name": results.name,
        "records": {t.trial.id: fingerprint(t.record) for t in results.trials if t.record},
        "states": {t.trial.id: t.state for t in results.trials},
        "answer": asdict(answer(results, metric)),
        "ranking": _ranking(compared),
        "importances": shares(results, metric),
        "cells": results.rows(),
        "trainings": results.seed_rows(),
        "tables": {
            t.name: {"header": list(t.header), "body": [list(row) for row in t.body]}
            for t in tables.all_tables(results, metric)
        },
    }


def _ranking(compared: Comparison) -> dict[str, Any]:
    ranking = compared.ranking
    return {
        "metric": compared.metric.name,
        "can_rank": ranking.can_rank,
        "best": ranking.best,
        "tied": list(ranking.tied),
        "level": ranking.level,
        "means": {k: rounded(v) for k, v in ranking.means.items()},
        "p_values": {k: rounded(v) for k, v in ranking.p_values.items()},
        "notes": list(ranking.notes),
    }


def fingerprint(record: Record) -> str:
    """sha256 of what a record says, however its file is spelled."""
    return hashlib.sha256(canonical_json(record.to_dict()).encode()).hexdigest()
