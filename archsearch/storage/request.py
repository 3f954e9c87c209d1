"""What study.json holds: what was asked, how two askings differ, and their union."""

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

from archsearch.core.study import NUMERICS, SCHEMA, Data, Study, Trial, canonical_json
from archsearch.storage.files import to_json

GROWING = ("num_trials", "max_seeds")
"""Numbers of a plan that extend it when they grow; any other change makes another plan."""

PACKAGES = ("archsearch", "torch", "numpy", "kornia", "optuna", "ray")


def versions() -> dict[str, str]:
    """What a result was made with; packages that are absent are left out. Imports none of them."""
    found = {"python": python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found | ({"commit": known} if (known := commit()) else {})


@cache
def commit() -> str | None:
    """The commit that this code is, with ``+`` after changes; None outside a checkout of it."""
    try:
        # An installed copy may lie inside somebody else's checkout, which must not answer.
        if _git("ls-files", Path(__file__).name) != Path(__file__).name:
            return None
        return _git("describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*") or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.strip()


def to_asked(study: Study, data: Data) -> dict[str, Any]:
    """The study as JSON would give it back, its data described, its trials' ids beside each cell.

    The ids stand there so that a later version, whose numerics give other ids, still finds them.
    """
    ids = {seed: _ids(study, data, seed) for seed in study.seeds}
    asked = study.to_dict()
    for i, cell in enumerate(asked["cells"]):
        cell["trials"] = {str(seed): ids[seed][i] for seed in study.seeds if ids[seed][i]}
    whole = {"schema": SCHEMA, "numerics": NUMERICS, **asked, "data": asdict(data)}
    plain: dict[str, Any] = json.loads(to_json(whole))
    return plain


def _ids(study: Study, data: Data, seed: int) -> list[str]:
    """A trial id per cell, "" for an infeasible one."""
    variants = (cell.variant for cell in study.cells)
    return [Trial(v, study.recipe, data, seed).id if v is not None else "" for v in variants]


def study_of(asked: Mapping[str, Any]) -> Study:
    return Study.from_dict({**asked, "data": asked["data"]["name"]})


def data_of(asked: Mapping[str, Any]) -> Data:
    return Data(**asked["data"])


def ids_of(asked: Mapping[str, Any]) -> tuple[str, ...]:
    """The distinct ids of the planned trials, in the order of `Study.trials`."""
    cells, seeds = asked["cells"], asked["seeds"]
    found = (cell["trials"].get(str(seed)) for seed in seeds for cell in cells)
    return tuple(dict.fromkeys(trial_id for trial_id in found if trial_id))


def trials_of(asked: Mapping[str, Any]) -> tuple[Trial, ...]:
    """The distinct planned trials, in the order of `ids_of` and under these ids."""
    study, data = study_of(asked), data_of(asked)
    found: dict[str, Trial] = {}
    for seed in study.seeds:
        for cell, written in zip(study.cells, asked["cells"], strict=True):
            if cell.variant is not None:
                trial_id = written["trials"][str(seed)]
                trial = Trial(cell.variant, study.recipe, data, seed)
                found.setdefault(trial_id, trial.called(trial_id))
    return tuple(found.values())


@dataclass(frozen=True)
class Difference:
    """One difference between two askings; ``extends`` when adding or leaving out explains it."""

    text: str
    extends: bool = False


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Every difference that changes what is trained; words (question, reports) do not count."""
    return [
        *_changed("", old, new, ("name", "numerics")),
        *_changed("recipe.", old["recipe"], new["recipe"], _keys(old["recipe"], new["recipe"])),
        *_plan_changes(old.get("plan", {}), new.get("plan", {})),
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
    for difference in _changed("plan.", old, new, list(dict.fromkeys((*old, *new)))):
        key = difference.text.partition(":")[0].removeprefix("plan.")
        yield replace(difference, extends=key in GROWING)


def _changed(
    prefix: str, old: Mapping[str, Any], new: Mapping[str, Any], keys: Iterable[str]
) -> Iterator[Difference]:
    for key in keys:
        was, now = old.get(key), new.get(key)
        if was != now:
            yield Difference(f"{prefix}{key}: {was!r} there, {now!r} asked")


def _by_place(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Each cell's fate and variant, by its coordinates as text."""
    return {
        ", ".join(f"{k}={v}" for k, v in cell["asked"].items()): (
            cell["fate"],
            canonical_json(cell["variant"]),
        )
        for cell in asked["cells"]
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
    cells = {canonical_json(dict(cell.asked)): cell for cell in (*old.cells, *new.cells)}
    return replace(
        new,
        cells=tuple(cells.values()),
        seeds=tuple(dict.fromkeys((*old.seeds, *new.seeds))),
        plan={k: max(v, old.plan.get(k, v)) if k in GROWING else v for k, v in new.plan.items()},
    )
