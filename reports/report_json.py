"""Every number of a report as plain JSON: the content of the page and the records behind it."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib

from archsearch.core.metrics import rounded
from archsearch.reports.context import Context
from archsearch.reports.importances import shares
from archsearch.reports.report import Report, RunReport
from archsearch.reports.winner import Winner
from archsearch.results import Comparison, Results
from archsearch.study import Record, canonical_json

SCHEMA = 4
"""Raise it when keys change: `verify` then refuses reports of an earlier schema."""


def report_json(report: Report, run_dirs: Sequence[Path], out_dir: Path) -> dict[str, Any]:
    """Return the numbers of a report; the paths of its runs are relative to ``out_dir``.

    Metric, axes and target are stored as requested, so that the report can be recomputed.
    """
    return {
        "schema": SCHEMA,
        "metric": report.metric,
        "axes": None if report.axes is None else list(report.axes),
        "target": report.target,
        "drawn_with": f"matplotlib {matplotlib.__version__}",
        "across": {c.name: [dict(row) for row in c.table.rows] for c in report.cross if c.table},
        "recommended": [group.to_dict() for group in report.recommendations],
        "runs": [
            _run(run) | {"path": Path(os.path.relpath(d.resolve(), out_dir.resolve())).as_posix()}
            for run, d in zip(report.runs, run_dirs, strict=True)
        ],
    }


def _run(run: RunReport) -> dict[str, Any]:
    results = run.context.results
    return {
        "name": results.name,
        "records": _fingerprints(results),
        **_inner(results),
        "states": {t.trial.id: t.state for t in results.trials},
        "answer": asdict(run.summary),
        "winner": _winner(run.context),
        "ranking": _ranking(run.context.comparison),
        "importances": dict(shares(run.context)),
        "cells": run.context.rows,
        "trainings": results.seed_rows(),
        "tables": {
            c.name: {"header": list(c.table.header), "body": [list(row) for row in c.table.body]}
            for c in run.contents
            if c.table
        },
    }


def _inner(results: Results) -> dict[str, Any]:
    """Return the fingerprints of the records of the studies inside a run; most have none."""
    pilots = {name: _fingerprints(one) for name, one in results.pilots.items()}
    source = results.classification
    return {
        **({"pilots": pilots} if pilots else {}),
        **({"classification": _fingerprints(source)} if source else {}),
    }


def _fingerprints(results: Results) -> dict[str, str]:
    return {t.trial.id: fingerprint(t.record) for t in results.trials if t.record}


def _winner(context: Context) -> dict[str, Any] | None:
    best = context.ranking.best
    return None if best is None else Winner.of(context, best).to_dict()


def _ranking(comparison: Comparison) -> dict[str, Any]:
    ranking = comparison.ranking
    return {
        "metric": comparison.metric.name,
        "can_rank": ranking.can_rank,
        "best": ranking.best,
        "tied": list(ranking.tied),
        "level": ranking.level,
        "means": {k: rounded(v) for k, v in ranking.means.items()},
        "p_values": {k: rounded(v) for k, v in ranking.p_values.items()},
        "notes": list(ranking.notes),
    }


def fingerprint(record: Record) -> str:
    """Return the sha256 of a record's content, independent of how its file is formatted."""
    return hashlib.sha256(canonical_json(record.to_dict()).encode()).hexdigest()
