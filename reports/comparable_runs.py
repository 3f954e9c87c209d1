"""Groups of comparable runs: those with the same data and the same recipe."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from archsearch.core.recipe import Recipe
from archsearch.reports.context import Context, Contexts
from archsearch.reports.phrases import setting

Runs = Mapping[str, Context]
"""Runs by their names in one report."""


def runs_by_name(contexts: Contexts) -> dict[str, Context]:
    """Return every run by its name; if two runs share a name, all names are numbered."""
    names = [context.results.name for context in contexts]
    if len(set(names)) < len(names):
        names = [f"{i}. {name}" for i, name in enumerate(names, 1)]
    return dict(zip(names, contexts, strict=True))


def comparable_groups(runs: Runs, *free: str) -> list[dict[str, Context]]:
    """Return the groups of comparable runs, in the order of the first run of each group.

    The runs of a group have the same data (by fingerprint) and the same recipe, except for its name
    and the fields that ``free`` names.
    """
    groups: dict[Any, dict[str, Context]] = {}
    for name, run in runs.items():
        settings = tuple(getattr(run.results.study.recipe, n) for n in _compared_fields(free))
        groups.setdefault((run.results.data.fingerprint, settings), {})[name] = run
    return list(groups.values())


def differences(runs: Iterable[Context], *free: str) -> list[str]:
    """Return what differs between the runs, such as ``data (digits, cifar10)``, ``epochs (4, 9)``.

    Data sets of one name are distinguished by the start of their fingerprints.
    """
    results = [run.results for run in runs]
    data = {r.data.fingerprint: r.data.name for r in results}
    with_fingerprint = [f"{name} {fingerprint[:8]}" for fingerprint, name in data.items()]
    names_are_unique = len({*data.values()}) == len(data)
    values = {"data": [*data.values()] if names_are_unique else with_fingerprint}
    for field in _compared_fields(free):
        different = dict.fromkeys(getattr(r.study.recipe, field) for r in results)
        texts = [setting(False if value is None else value) for value in different]
        values[field.replace("_", " ")] = texts
    return [f"{name} ({', '.join(texts)})" for name, texts in values.items() if len(texts) > 1]


def _compared_fields(free: tuple[str, ...]) -> list[str]:
    return [f.name for f in fields(Recipe) if f.name not in ("name", *free)]
