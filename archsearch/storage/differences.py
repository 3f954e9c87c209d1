"""Two requests of one folder: their differences, and the union of their studies."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from archsearch.core.family import has_other_source
from archsearch.core.plans import Halve, Plan
from archsearch.core.start import Start, start_of
from archsearch.storage.request import plan_of, stored_variants, typed
from archsearch.study import Study, canonical_json

GROWING = ("num_trials", "max_seeds")
"""Numbers of a plan that may grow when it is extended; any other change makes another plan."""


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
