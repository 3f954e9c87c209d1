"""The values that flow through a study: cell, study, trial, record. No torch, no disk.

Space -> Cell (what was asked, and its fate) -> Trial (what is trained; has an identity)
-> Record (what came of it, failures too).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal

from archsearch.core.recipe import Recipe
from archsearch.families.internimage import AnyVariant, variant_from_dict, variant_to_dict
from archsearch.families.internimage_cost import Cost

SCHEMA = 1
"""Layout of the files of a study."""

NUMERICS = 1
"""Raise when a change to the training code changes what a trial computes: old records stay
readable, but are no longer taken for the same trial."""

Fate = Literal["exact", "repaired", "infeasible"]
Status = Literal["complete", "diverged", "failed"]


class Interrupted(Exception):
    """Raised by the work of a trial that was asked to stop, after it saved its checkpoint."""


@dataclass(frozen=True)
class Cell:
    """One place of the plan and its fate; an infeasible cell has no variant and says why.

    ``asked`` holds the coordinates as asked for (for the grid: c1, group_channels, l1; for a
    scaling study: alpha, beta, phi), which may differ from the variant's after a repair. ``cost``
    is counted as the paper counts: 1000 classes at 224 x 224.
    """

    asked: Mapping[str, float | int | str]
    fate: Fate
    variant: AnyVariant | None
    cost: Cost | None
    reason: str = ""
    paper: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Cell":
        variant, cost = values["variant"], values["cost"]
        return cls(
            asked=dict(values["asked"]),
            fate=values["fate"],
            variant=None if variant is None else variant_from_dict(variant),
            cost=None if cost is None else Cost(**cost),
            reason=values.get("reason", ""),
            paper=dict(values.get("paper", {})),
        )


@dataclass(frozen=True)
class Data:
    """Which data: the name as given on the command line, and what it turned out to be.

    Only the fingerprint enters a trial's identity: the same images elsewhere are the same data.
    """

    name: str
    fingerprint: str
    num_classes: int
    channels: int
    num_train: int
    num_val: int
    num_test: int
    source: str = ""


@dataclass(frozen=True)
class Trial:
    """One training: variant, recipe, data and seed. Its identity is its content."""

    variant: AnyVariant
    recipe: Recipe
    data: Data
    seed: int

    @cached_property
    def id(self) -> str:
        """First 16 hex digits of sha256 over the canonical JSON of all that changes the result.

        Device, paths, workers and times are not in it: the same command starts or resumes, a
        changed recipe never reuses an old result, and duplicates collapse.
        """
        recipe = {k: v for k, v in vars(self.recipe).items() if k != "name"}
        content = {
            "schema": SCHEMA,
            "numerics": NUMERICS,
            "variant": variant_to_dict(self.variant),
            "recipe": recipe,
            "data": self.data.fingerprint,
            "seed": self.seed,
        }
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]

    def called(self, trial_id: str) -> "Trial":
        """This training under the id that an earlier version gave it, and its folder has.

        Other `NUMERICS` or a new field of the recipe change the id that its content makes.
        """
        known = replace(self)
        vars(known)["id"] = trial_id  # where a cached property is kept
        return known

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "id": self.id, "schema": SCHEMA, "numerics": NUMERICS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Trial":
        """The trial that `to_dict` wrote, under the id that stands there."""
        trial = cls(
            variant=variant_from_dict(values["variant"]),
            recipe=Recipe(**values["recipe"]),
            data=Data(**values["data"]),
            seed=values["seed"],
        )
        return trial.called(values["id"])


@dataclass(frozen=True)
class Record:
    """What a trial gave. Terminal: it is written once.

    ``metrics`` holds ``val_accuracy`` and ``test_accuracy`` in percent, ``train_loss`` and the
    like; what was not measured is None, never 0. ``curve`` has one mapping per epoch. ``cost`` is
    the trained model's own (its classes and image size), not the budget's. ``kind`` says which
    failure: ``out-of-memory``, ``crash``, ``data``, ...
    """

    trial_id: str
    status: Status
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    curve: tuple[Mapping[str, Any], ...] = ()
    cost: Cost | None = None
    kind: str = ""
    error: str = ""
    seconds: float = 0.0
    attempts: int = 1
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "schema": SCHEMA}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Record":
        known = {k: v for k, v in values.items() if k != "schema"}
        cost = Cost(**known["cost"]) if known.get("cost") else None
        curve, notes = tuple(known.get("curve", ())), tuple(known.get("notes", ()))
        return cls(**{**known, "cost": cost, "curve": curve, "notes": notes})


@dataclass(frozen=True)
class About:
    """What `archsearch studies` says of a file in `studies/`, which exports one as ``ABOUT``.

    ``small`` and ``full`` are the cost on a CPU with the embedded data, and as the paper ran it.
    """

    question: str
    source: str
    command: str
    small: str
    full: str


@dataclass(frozen=True)
class Study:
    """A question and all that is needed to answer it.

    ``axes`` names the coordinates of ``Cell.asked`` that a heatmap uses, as (panel, y, x).
    ``plan`` says, in plain JSON values under ``kind``, how trials beyond the cells and seeds are
    chosen: ``more-seeds``, ``search`` or ``halving``; empty when there are none. ``metric`` is what
    cells are compared by, always from the validation split. ``reports`` names modules of the
    package `reports`.
    """

    name: str
    question: str
    source: str
    cells: tuple[Cell, ...]
    recipe: Recipe
    data: str = "digits"
    seeds: tuple[int, ...] = (0,)
    plan: Mapping[str, Any] = field(default_factory=dict)
    axes: tuple[str, str, str] | None = None
    metric: str = "val_accuracy"
    budget: str = ""
    reports: tuple[str, ...] = ("heatmap", "table")

    def __post_init__(self) -> None:
        if self.metric.startswith("val_") and self.recipe.val_fraction == 0:
            raise ValueError(
                f"{self.metric} is measured on images held out of the training set, and the recipe "
                "holds none out: set val_fraction above 0"
            )

    @property
    def max_seeds(self) -> int | None:
        """Up to how many seeds tied cells may have (``--seeds auto``); None for the seeds alone."""
        return self.plan.get("max_seeds")

    def trials(self, data: Data) -> tuple[Trial, ...]:
        """Every distinct trial, in plan order; cells that repair to one variant share it."""
        found: dict[str, Trial] = {}
        for seed in self.seeds:
            for cell in self.cells:
                if cell.variant is not None:
                    trial = Trial(cell.variant, self.recipe, data, seed)
                    found.setdefault(trial.id, trial)
        return tuple(found.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` is its inverse."""
        cells = [cell.to_dict() for cell in self.cells]
        lists = {"seeds": list(self.seeds), "reports": list(self.reports)}
        axes = None if self.axes is None else list(self.axes)
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**plain, **lists, "axes": axes, "cells": cells, "recipe": asdict(self.recipe)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Study":
        """Rebuild a study; keys that are not fields of it are left alone (study.json has more).

        Raises:
            KeyError: for a missing field.
            ValueError: for a variant that breaks a rule.
        """
        axes = values["axes"]
        return cls(
            name=values["name"],
            question=values["question"],
            source=values["source"],
            cells=tuple(Cell.from_dict(cell) for cell in values["cells"]),
            recipe=Recipe(**values["recipe"]),
            data=values["data"],
            seeds=tuple(values["seeds"]),
            plan=dict(values.get("plan", {})),
            axes=None if axes is None else (axes[0], axes[1], axes[2]),
            metric=values["metric"],
            budget=values["budget"],
            reports=tuple(values["reports"]),
        )


def canonical_json(value: object) -> str:
    """One spelling per value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
