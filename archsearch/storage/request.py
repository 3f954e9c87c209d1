"""The request in study.json: conversion to and from a study, differences and union of two."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec

from archsearch.core.budget import Budget
from archsearch.core.cell import Fate
from archsearch.core.family import Family, has_other_source
from archsearch.core.plans import KINDS, Halve, Plan, Search
from archsearch.core.recipe import Recipe
from archsearch.core.start import Start, start_of
from archsearch.core.task import Data
from archsearch.families import variant_from_dict
from archsearch.storage.files import plain_json
from archsearch.study import Study, Trial, canonical_json, numerics
from archsearch.tasks import task_from_dict

T = TypeVar("T")

_STUDY_TYPES = get_type_hints(Study)

STUDY_SCHEMAS = (1, 2)
"""Layouts of study.json that can be read; the last one is written."""

GROWING = ("num_trials", "max_seeds")
"""Numbers of a plan that may grow when it is extended; any other change makes another plan."""


def typed(values: Any, kind: type[T]) -> T:
    """Plain JSON values as a value of ``kind``; fields that it does not have are ignored.

    Raises:
        ValueError: a field is missing or has the wrong type; the message has its path.
    """
    return msgspec.convert(values, kind, dec_hook=_variant)


TrialId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
Count = Annotated[int, msgspec.Meta(ge=0)]


class _StoredCell(msgspec.Struct):
    """What readers of a request take from a cell without converting it to a `Cell`."""

    requested: dict[str, int | float | str]
    fate: Fate
    variant: dict[str, Any] | None
    trials: dict[str, TrialId]
    settings: dict[str, float] = {}


class _StoredRecipe(msgspec.Struct):
    epochs: Count


class _StoredRequest(msgspec.Struct):
    """What readers of a request take from it without converting it to a `Study`."""

    name: str
    question: str
    metric: str
    budget: str
    cells: list[_StoredCell]
    seeds: list[Count]
    recipe: _StoredRecipe
    data: dict[str, Any]
    command: list[str]
    created: str
    versions: dict[str, str]
    plan: dict[str, Any] = {}
    task: dict[str, Any] = {}
    commands_before: list[list[str]] = []


def check_request(request: Mapping[str, Any]) -> None:
    """Check the types of a request's fields; `study_of` checks the values.

    Raises:
        ValueError: a field is missing or has the wrong type, or a coordinate is a number in one
            cell and text in another, so that cells have no order.
    """
    stored = msgspec.convert(request, _StoredRequest)
    values = [(name, value) for cell in stored.cells for name, value in cell.requested.items()]
    texts = {name for name, value in values if isinstance(value, str)}
    numbers = {name for name, value in values if not isinstance(value, str)}
    if mixed := sorted(texts & numbers):
        raise ValueError(f"numbers and text for the coordinate {', '.join(mixed)}")


def stored_variants(request: Mapping[str, Any]) -> Iterator[Mapping[str, Any] | None]:
    """The variants of a request as stored, and what its search is over."""
    yield from (cell["variant"] for cell in request["cells"])
    yield request.get("plan", {}).get("like")


def migrated(values: dict[str, Any]) -> dict[str, Any]:
    """The content of study.json in the layout of this version.

    Layout 1 called a cell's requested coordinates ``asked``, and held the numbers that a search
    covers beside its other options.
    """
    if values["schema"] != 1:
        return values
    names = {"asked": "requested"}
    cells = [{names.get(k, k): v for k, v in cell.items()} for cell in values["cells"]]
    plan = dict(values.get("plan", {}))
    if plan.get("kind") == Search.kind:
        options = {"kind", *(field.name for field in fields(Search))}
        plan["space"] = {key: plan.pop(key) for key in list(plan) if key not in options}
    return {**values, "schema": max(STUDY_SCHEMAS), "cells": cells, "plan": plan}


def _variant(kind: type, values: Any) -> Family:
    if kind is not Family or not isinstance(values, Mapping):
        raise ValueError(f"wanted a {kind.__name__}, got {values!r:.100}")
    return variant_from_dict(values)


def to_request(study: Study, data: Data) -> dict[str, Any]:
    """The study as plain JSON values, with its data's description and each cell's trial ids.

    The ids are stored so that a later version, whose numerics give other ids, still finds the
    trials.
    """
    ids = {seed: _ids(study, data, seed) for seed in study.seeds}
    request = study.to_dict()
    for i, cell in enumerate(request["cells"]):
        cell["trials"] = {str(seed): ids[seed][i] for seed in study.seeds if ids[seed][i]}
    head = {"schema": max(STUDY_SCHEMAS), "numerics": numerics(study.recipe)}
    return plain_json({**head, **request, "data": asdict(data)})


def _ids(study: Study, data: Data, seed: int) -> list[str]:
    """A trial id per cell, "" for an infeasible cell."""
    return [study.trial_in(cell, data, seed).id if cell.variant else "" for cell in study.cells]


def study_of(request: Mapping[str, Any]) -> Study:
    """The study in a request, which this or an earlier version wrote.

    Raises:
        ValueError: a field is missing or wrong.
    """
    budget = request["budget"]
    converted: dict[str, Any] = {
        "data": typed(request["data"]["name"], str),
        "plan": plan_of(request.get("plan", {})),
        "budget": Budget.parse(budget) if budget else None,
        "task": task_from_dict(request.get("task", {})),
    }
    stored = {"reports": [], **request}
    others = {k: typed(stored[k], kind) for k, kind in _STUDY_TYPES.items() if k not in converted}
    study = Study(**others, **converted)
    study.task.metric(study.metric)  # raises for an unknown one
    return study


def plan_of(values: Mapping[str, Any]) -> Plan | None:
    """The plan that `archsearch.core.plans.plan_to_dict` wrote, or an earlier version of it.

    Raises:
        ValueError: the kind of plan is unknown to this version, or a field is wrong.
    """
    if not values:
        return None
    kind = values.get("kind")
    if kind not in KINDS:
        raise ValueError(f"a plan is one of {', '.join(KINDS)}, got {kind!r}")
    plain = {key: value for key, value in values.items() if key != "kind"}
    if kind == Halve.kind:
        plain.setdefault("pilot_seeds", 1)  # planned before the pilot had several seeds
    plan: Plan = typed(plain, KINDS[kind])
    return plan


def trial_of(values: Mapping[str, Any]) -> Trial:
    """The trial that `archsearch.study.Trial.to_dict` wrote, with the stored id.

    Raises:
        KeyError, ValueError: a field is missing or wrong.
    """
    trial = Trial(
        variant=typed(values["variant"], Family),
        recipe=typed(values["recipe"], Recipe),
        data=typed(values["data"], Data),
        seed=typed(values["seed"], int),
        task=task_from_dict(values.get("task", {})),
        start=typed(values["start"], Start) if "start" in values else None,
    )
    return trial.with_id(typed(values["id"], str))


def data_of(request: Mapping[str, Any]) -> Data:
    """The description of the data in a request."""
    return typed(request["data"], Data)


def ids_of(request: Mapping[str, Any]) -> tuple[str, ...]:
    """The distinct ids of the planned trials, in the order of `Study.trials`."""
    cells, seeds = request["cells"], request["seeds"]
    ids = (cell["trials"].get(str(seed)) for seed in seeds for cell in cells)
    return tuple(dict.fromkeys(trial_id for trial_id in ids if trial_id))


def trials_of(request: Mapping[str, Any], study: Study, data: Data) -> tuple[Trial, ...]:
    """The distinct planned trials with their stored ids, in the order of `ids_of`.

    ``study`` and ``data`` are those of the request.
    """
    trials: dict[str, Trial] = {}
    for seed in study.seeds:
        for cell, stored in zip(study.cells, request["cells"], strict=True):
            if cell.variant is not None:
                trial_id = stored["trials"][str(seed)]
                trial = study.trial_in(cell, data, seed)
                trials.setdefault(trial_id, trial.with_id(trial_id))
    return tuple(trials.values())


@dataclass(frozen=True)
class Difference:
    """One difference of two requests; ``extends`` if one of them only has more than the other."""

    text: str
    extends: bool = False


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Every difference of the folder's request ``old`` and the request ``new`` that changes what
    is trained; texts such as the question do not count."""
    changed_sources = list(_source_changes(old, new))
    old_cells, new_cells = _by_coordinates(old), _by_coordinates(new)
    if changed_sources:  # every network is another one; the earlier ones keep their results
        old_cells = {key: new_cells[key] for key in old_cells if key in new_cells}
    return [
        *changed_sources,
        *_changed("", old, new, ("name", "numerics", "task")),
        *_changed("recipe.", old["recipe"], new["recipe"], _keys(old["recipe"], new["recipe"])),
        *_plan_changes(old, new),
        *_data_changes(old["data"], new["data"]),
        *_members(
            "seed", dict.fromkeys(map(str, old["seeds"])), dict.fromkeys(map(str, new["seeds"]))
        ),
        *_members("cell", old_cells, new_cells),
        *_start_changes(old, new),
    ]


def _data_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    """The fingerprints if they differ, with the numbers of images, which often say why."""
    keys = ("num_train", "num_val", "num_test", "num_classes")
    if fingerprint := list(_changed("data.", old, new, ("fingerprint",))):
        yield from (*fingerprint, *_changed("data.", old, new, keys))


def _keys(*mappings: Mapping[str, Any]) -> list[str]:
    """Every key of any mapping, in order, but a recipe's name, which changes no number."""
    return list(dict.fromkeys(k for m in mappings for k in m if k != "name"))


def _plan_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    old_plan, new_plan = _plain_plan(old), _plain_plan(new)
    if old_plan.get("pilot_seeds") == 1 and "pilot_seeds" in new_plan:
        new_plan["pilot_seeds"] = 1  # the folder keeps its rule, see `_resumed`
    for key in dict.fromkeys((*old_plan, *new_plan)):
        for difference in _changed("plan.", old_plan, new_plan, (key,)):
            yield replace(difference, extends=key in GROWING)


def _plain_plan(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the plan as this version writes them, even if another version wrote them."""
    plan = plan_of(request.get("plan", {}))
    if plan is None:
        return {}
    values: dict[str, Any] = {"kind": plan.kind, **asdict(plan)}
    space: Mapping[str, Any] = values.pop("space", {})
    values.get("like", {}).pop("source", None)  # see `_source_changes`
    return {**values, **space}


def _changed(
    prefix: str, old: Mapping[str, Any], new: Mapping[str, Any], keys: Iterable[str]
) -> Iterator[Difference]:
    for key in keys:
        if old.get(key) != new.get(key):
            text = f"the folder has {old.get(key)!r}, requested {new.get(key)!r}"
            yield Difference(f"{prefix}{key}: {text}")


def _source_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    """A sentence per family whose file was edited since the folder's study was planned."""
    old_sources, new_sources = _sources(old), _sources(new)
    for family in old_sources.keys() & new_sources.keys():
        before, after = old_sources[family], new_sources[family]
        if before != after:
            yield Difference(
                f"the source of {family} changed since the run began (sha256 {before[:8]}, now "
                f"{after[:8]}): the trainings so far keep their results under the earlier source",
                extends=True,
            )


def _start_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    """A sentence per seed that would start from other weights than in the folder."""
    before, after = _starts(old), _starts(new)
    for key in before.keys() & after.keys():
        if before[key] != after[key]:
            yield Difference(
                f"{key}: the folder starts from the weights {before[key][:8]}, requested "
                f"{after[key][:8]}"
            )


def _starts(request: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of the initial weights by cell and seed, as text."""
    cells = ((c, typed(c["starts"], dict[str, Start])) for c in request["cells"] if "starts" in c)
    return {
        f"cell {_coordinates(cell)}, seed {seed}": start.sha256
        for cell, starts in cells
        for seed in request["seeds"]
        if (start := start_of(starts, seed))
    }


def _sources(request: Mapping[str, Any]) -> dict[str, str]:
    """The hash of the file of every family that has one, by the family."""
    stored = (values for values in stored_variants(request) if values and "source" in values)
    return {values["family"]: values["source"] for values in stored}


def _by_coordinates(request: Mapping[str, Any]) -> dict[str, str]:
    """Each cell's fate, variant and settings as text, by its coordinates as text."""
    return {
        _coordinates(cell): " ".join(
            (
                cell["fate"],
                canonical_json(cell["variant"]),
                *(f"{name} {value:g}" for name, value in cell.get("settings", {}).items()),
            )
        )
        for cell in request["cells"]
    }


def _coordinates(cell: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v}" for k, v in cell["requested"].items())


def _members(
    kind: str, old: Mapping[str, str | None], new: Mapping[str, str | None]
) -> Iterator[Difference]:
    for key in new:
        if key not in old:
            yield Difference(f"{kind} {key}: requested, not in the folder", extends=True)
    for key in old:
        if key not in new:
            yield Difference(f"{kind} {key}: in the folder, not requested", extends=True)
        elif old[key] != new[key]:
            text = f"the folder has {old[key]}, requested {new[key]}"
            yield Difference(f"{kind} {key}: {text}")


def union(old: Study, new: Study) -> Study:
    """The new study with the old one's cells and seeds kept, in their order, before the new ones.

    Cells of an earlier source of the new study's family are not kept. Of a plan's number of trials
    or seeds it has the larger; a pilot of one seed stays one.
    """
    sources = new.sources
    kept = (
        cell
        for cell in old.cells
        if cell.variant is None or not has_other_source(cell.variant, sources)
    )
    cells = {canonical_json(dict(cell.requested)): cell for cell in (*kept, *new.cells)}
    return replace(
        new,
        cells=tuple(cells.values()),
        seeds=tuple(dict.fromkeys((*old.seeds, *new.seeds))),
        plan=_resumed(old.plan, new.plan),
    )


def _resumed(old: Plan | None, new: Plan | None) -> Plan | None:
    grown = {
        name: max(getattr(new, name), getattr(old, name))
        for name in GROWING
        if hasattr(new, name) and hasattr(old, name)
    }
    if isinstance(old, Halve) and isinstance(new, Halve) and old.pilot_seeds == 1:
        return replace(new, pilot_seeds=1)
    return replace(new, **grown) if new is not None and grown else new
