"""What study.json holds: what was request, the differences of two requests, and their union."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

import msgspec

from archsearch.core.budget import Budget
from archsearch.core.cell import Cell
from archsearch.core.family import Family
from archsearch.core.plans import KINDS, Plan, Search
from archsearch.core.recipe import Recipe
from archsearch.core.task import Data
from archsearch.families import variant_from_dict
from archsearch.storage.files import to_json
from archsearch.study import NUMERICS, Record, Study, Trial, canonical_json
from archsearch.tasks import task_from_dict

T = TypeVar("T")

STUDY_SCHEMAS = (1, 2)
"""Layouts of study.json that are read; the last one is written."""

GROWING = ("num_trials", "max_seeds")
"""Numbers of a plan that extend it when they grow; any other change makes another plan."""


def typed(values: Any, kind: type[T]) -> T:
    """Plain JSON values as a value of ``kind``; fields that it does not have are left alone.

    Raises:
        ValueError: a field is missing or has the wrong type, named by its path.
    """
    return msgspec.convert(values, kind, dec_hook=_variant)


def migrated(values: dict[str, Any]) -> dict[str, Any]:
    """What study.json holds, in the layout of this version.

    Layout 1 called a cell's requested coordinates ``asked``, and held the numbers that a search
    covers beside its other options.
    """
    if values["schema"] != 1:
        return values
    names = {"asked": "requested"}
    cells = [{names.get(k, k): v for k, v in cell.items()} for cell in values["cells"]]
    plan = dict(values.get("plan", {}))
    if plan.get("kind") == Search.kind:
        known = {"kind", *(field.name for field in fields(Search))}
        plan["space"] = {key: plan.pop(key) for key in list(plan) if key not in known}
    return {**values, "schema": max(STUDY_SCHEMAS), "cells": cells, "plan": plan}


def _variant(kind: type, values: Any) -> Family:
    if kind is not Family or not isinstance(values, Mapping):
        raise ValueError(f"wanted a {kind.__name__}, got {values!r:.100}")
    return variant_from_dict(values)


def to_request(study: Study, data: Data) -> dict[str, Any]:
    """The study as JSON would give it back, its data described, its trials' ids beside each cell.

    The ids stand there so that a later version, whose numerics give other ids, still finds them.
    """
    ids = {seed: _ids(study, data, seed) for seed in study.seeds}
    request = study.to_dict()
    for i, cell in enumerate(request["cells"]):
        cell["trials"] = {str(seed): ids[seed][i] for seed in study.seeds if ids[seed][i]}
    whole = {"schema": max(STUDY_SCHEMAS), "numerics": NUMERICS, **request, "data": asdict(data)}
    plain: dict[str, Any] = json.loads(to_json(whole))
    return plain


def _ids(study: Study, data: Data, seed: int) -> list[str]:
    """A trial id per cell, "" for an infeasible one."""
    variants = (cell.variant for cell in study.cells)
    return ["" if v is None else study.trial(v, data, seed).id for v in variants]


def study_of(request: Mapping[str, Any]) -> Study:
    """The study that `to_request` wrote, or an earlier version.

    Raises:
        ValueError: a field is missing or wrong.
    """
    axes, budget = request["axes"], request["budget"]
    return Study(
        name=typed(request["name"], str),
        question=typed(request["question"], str),
        source=typed(request["source"], str),
        cells=typed(request["cells"], tuple[Cell, ...]),
        recipe=typed(request["recipe"], Recipe),
        task=task_from_dict(request.get("task", {})),
        data=typed(request["data"]["name"], str),
        seeds=typed(request["seeds"], tuple[int, ...]),
        plan=plan_of(request.get("plan", {})),
        axes=None if axes is None else typed(axes, tuple[str, str, str]),
        metric=typed(request["metric"], str),
        budget=Budget.parse(budget) if budget else None,
        reports=typed(request.get("reports", []), tuple[str, ...]),
    )


def plan_of(values: Mapping[str, Any]) -> Plan | None:
    """The plan that `archsearch.core.plans.plan_to_dict` wrote, or an earlier version.

    Raises:
        ValueError: for a plan of a kind that this version does not know, or with wrong fields.
    """
    if not values:
        return None
    kind = values.get("kind")
    if kind not in KINDS:
        raise ValueError(f"a plan is one of {', '.join(KINDS)}, got {kind!r}")
    plain = {key: value for key, value in values.items() if key != "kind"}
    plan: Plan = typed(plain, KINDS[kind])
    return plan


def trial_of(values: Mapping[str, Any]) -> Trial:
    """The trial that `archsearch.study.Trial.to_dict` wrote, under the id that stands there.

    Raises:
        KeyError, ValueError: a field is missing or wrong.
    """
    trial = Trial(
        variant=typed(values["variant"], Family),
        recipe=typed(values["recipe"], Recipe),
        data=typed(values["data"], Data),
        seed=typed(values["seed"], int),
        task=task_from_dict(values.get("task", {})),
    )
    return trial.called(typed(values["id"], str))


def record_of(values: Mapping[str, Any]) -> Record:
    """The record that `archsearch.study.Record.to_dict` wrote."""
    return typed(values, Record)


def data_of(request: Mapping[str, Any]) -> Data:
    return typed(request["data"], Data)


def ids_of(request: Mapping[str, Any]) -> tuple[str, ...]:
    """The distinct ids of the planned trials, in the order of `Study.trials`."""
    cells, seeds = request["cells"], request["seeds"]
    found = (cell["trials"].get(str(seed)) for seed in seeds for cell in cells)
    return tuple(dict.fromkeys(trial_id for trial_id in found if trial_id))


def trials_of(request: Mapping[str, Any]) -> tuple[Trial, ...]:
    """The distinct planned trials, in the order of `ids_of` and under these ids."""
    study, data = study_of(request), data_of(request)
    found: dict[str, Trial] = {}
    for seed in study.seeds:
        for cell, written in zip(study.cells, request["cells"], strict=True):
            if cell.variant is not None:
                trial_id = written["trials"][str(seed)]
                trial = study.trial(cell.variant, data, seed)
                found.setdefault(trial_id, trial.called(trial_id))
    return tuple(found.values())


@dataclass(frozen=True)
class Difference:
    """One difference between two requests; ``extends`` when adding or leaving out explains it."""

    text: str
    extends: bool = False


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Every difference that changes what is trained; words (question) do not count."""
    return [
        *_changed("", old, new, ("name", "numerics", "task")),
        *_changed("recipe.", old["recipe"], new["recipe"], _keys(old["recipe"], new["recipe"])),
        *_plan_changes(old, new),
        *_changed("data.", old["data"], new["data"], ("fingerprint",)),
        *_members(
            "seed", dict.fromkeys(map(str, old["seeds"])), dict.fromkeys(map(str, new["seeds"]))
        ),
        *_members("cell", _by_place(old), _by_place(new)),
    ]


def _keys(*mappings: Mapping[str, Any]) -> list[str]:
    """Every key of either, in order; a recipe's name is a word, not a number."""
    return list(dict.fromkeys(k for m in mappings for k in m if k != "name"))


def _plan_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    was, now = (_plain_plan(request) for request in (old, new))
    for difference in _changed("plan.", was, now, list(dict.fromkeys((*was, *now)))):
        key = difference.text.partition(":")[0].removeprefix("plan.")
        yield replace(difference, extends=key in GROWING)


def _plain_plan(request: Mapping[str, Any]) -> dict[str, Any]:
    """The plan's fields as this version writes them, whichever wrote them."""
    plan = plan_of(request.get("plan", {}))
    if plan is None:
        return {}
    values: dict[str, Any] = {"kind": plan.kind, **asdict(plan)}
    space: Mapping[str, Any] = values.pop("space", {})
    return {**values, **space}


def _changed(
    prefix: str, old: Mapping[str, Any], new: Mapping[str, Any], keys: Iterable[str]
) -> Iterator[Difference]:
    for key in keys:
        was, now = old.get(key), new.get(key)
        if was != now:
            yield Difference(f"{prefix}{key}: {was!r} there, {now!r} asked")


def _by_place(request: Mapping[str, Any]) -> dict[str, Any]:
    """Each cell's fate and variant, by its coordinates as text."""
    return {
        ", ".join(f"{k}={v}" for k, v in cell["requested"].items()): (
            cell["fate"],
            canonical_json(cell["variant"]),
        )
        for cell in request["cells"]
    }


def _members(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    for key in new:
        if key not in old:
            yield Difference(f"{what} {key}: not there, asked", extends=True)
    for key in old:
        if key not in new:
            yield Difference(f"{what} {key}: there, not asked", extends=True)
        elif old[key] != new[key]:
            yield Difference(f"{what} {key}: {_words(old[key])} there, {_words(new[key])} asked")


def _words(fate_and_variant: tuple[str, str]) -> str:
    return " ".join(fate_and_variant)


def union(old: Study, new: Study) -> Study:
    """The new study with the old one's cells and seeds kept, in their order, before what is new;
    of a plan's number of trials or seeds, the larger."""
    cells = {canonical_json(dict(cell.requested)): cell for cell in (*old.cells, *new.cells)}
    return replace(
        new,
        cells=tuple(cells.values()),
        seeds=tuple(dict.fromkeys((*old.seeds, *new.seeds))),
        plan=_larger(old.plan, new.plan),
    )


def _larger(old: Plan | None, new: Plan | None) -> Plan | None:
    grown = {
        name: max(getattr(new, name), getattr(old, name))
        for name in GROWING
        if hasattr(new, name) and hasattr(old, name)
    }
    return replace(new, **grown) if new is not None and grown else new
