"""The request in study.json: its check, and conversion to and from a study."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec

from archsearch.core.budget import Budget
from archsearch.core.cell import Fate
from archsearch.core.family import Family
from archsearch.core.plans import KINDS, Halve, Plan, Search
from archsearch.core.recipe import Recipe
from archsearch.core.start import Start
from archsearch.core.task import Data
from archsearch.families import variant_from_dict
from archsearch.storage.files import plain_json
from archsearch.study import Study, Trial, numerics
from archsearch.tasks import task_from_dict

T = TypeVar("T")

_STUDY_TYPES = get_type_hints(Study)

STUDY_SCHEMAS = (1, 2)
"""Layouts of study.json that can be read; the last one is written."""


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
