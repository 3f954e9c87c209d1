"""Which runs may be set against each other: those with the same data and the same recipe."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from archsearch.core.recipe import Recipe
from archsearch.results import Results

Runs = Mapping[str, Results]
"""Runs by what each is called where several stand together."""


def named(results: Sequence[Results]) -> dict[str, Results]:
    """Every run under its name; all are numbered where two share one, so that none is lost."""
    names = [r.name for r in results]
    if len(set(names)) < len(names):
        names = [f"{i}. {name}" for i, name in enumerate(names, 1)]
    return dict(zip(names, results, strict=True))


def groups(runs: Runs, *free: str) -> list[dict[str, Results]]:
    """The runs that compare, together, in the order of the first of each group.

    They have the same data (by fingerprint) and the same recipe but for its name and the fields
    that ``free`` names.
    """
    found: dict[Any, dict[str, Results]] = {}
    for name, run in runs.items():
        settings = tuple(getattr(run.study.recipe, field) for field in _compared(free))
        found.setdefault((run.data.fingerprint, settings), {})[name] = run
    return list(found.values())


def differences(runs: Iterable[Results], *free: str) -> list[str]:
    """In what runs differ, each with its values: ``data (digits, cifar10)``, ``epochs (4, 9)``."""
    runs = list(runs)
    data = {run.data.fingerprint: run.data.name for run in runs}
    told = [f"{name} {mark[:8]}" for mark, name in data.items()]
    columns = {"data": told if len(set(data.values())) < len(data) else list(data.values())}
    for field in _compared(free):
        values = dict.fromkeys(getattr(run.study.recipe, field) for run in runs)
        columns[field.replace("_", " ")] = [_said(value) for value in values]
    return [f"{name} ({', '.join(said)})" for name, said in columns.items() if len(said) > 1]


def _compared(free: tuple[str, ...]) -> list[str]:
    return [f.name for f in fields(Recipe) if f.name not in ("name", *free)]


def _said(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
