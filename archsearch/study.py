"""The values of a study: cell, trial, record and the study itself. No torch, no disk access.

Space -> Cell (the requested coordinates and their fate) -> Trial (one training; has an identity)
-> Record (the outcome of a trial, failures included).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from archsearch.core.budget import Budget
from archsearch.core.cell import Cell
from archsearch.core.cost import Cost
from archsearch.core.family import Family, family_to_dict, variant_to_dict
from archsearch.core.plans import MoreSeeds, Plan, Search, plan_to_dict
from archsearch.core.recipe import Recipe
from archsearch.core.start import Start, start_of
from archsearch.core.task import Data, Task
from archsearch.families import template_from_dict
from archsearch.tasks.classification import CLASSIFICATION

SCHEMA = 1
"""Layout of specs and records; part of every trial's identity."""

NUMERICS = 1
"""Increase it when a change to the training code changes the result of every trial. Old records
stay readable, but no longer count as the same trial; see `numerics`."""

AUGMENTATION_NUMERICS = 1
"""Increase it when a change to RandAugment, color jitter, random erasing or resized crops changes
results: only trials with one of them get another id."""

Status = Literal["complete", "diverged", "failed"]


@dataclass(frozen=True)
class Trial:
    """One training: variant, recipe, data, seed, task and initial weights (None: random).

    Its content is its identity.
    """

    variant: Family
    recipe: Recipe
    data: Data
    seed: int
    task: Task = CLASSIFICATION
    start: Start | None = None

    @cached_property
    def id(self) -> str:
        """First 16 hex digits of the sha256 of the canonical JSON of all that changes the result.

        Device, paths, workers and times are excluded: the same command starts or resumes a trial, a
        changed recipe never reuses an old result, and duplicates collapse.
        """
        recipe = {k: v for k, v in self.recipe.to_dict().items() if k != "name"}
        version = {"schema": SCHEMA, "numerics": numerics(self.recipe)}
        content = {**self._content(), "recipe": recipe, "data": self.data.fingerprint, **version}
        if self.start is not None:
            content["start"] = self.start.sha256
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]

    def with_id(self, trial_id: str) -> "Trial":
        """This trial under the id that an earlier version stored for it.

        Other `numerics` or a new field of the recipe change the id that the content gives.
        """
        trial = replace(self)
        vars(trial)["id"] = trial_id  # the entry that `cached_property` reads
        return trial

    def to_dict(self) -> dict[str, Any]:
        version = {"schema": SCHEMA, "numerics": numerics(self.recipe)}
        return {**self._content(), "id": self.id, **version}

    def _content(self) -> dict[str, Any]:
        values = {
            "variant": variant_to_dict(self.variant),
            "recipe": self.recipe.to_dict(),
            "data": dict(vars(self.data)),
            "seed": self.seed,
        }
        start = {} if self.start is None else dict(vars(self.start))
        later = {"task": self.task.to_dict(), "start": start}
        return {**values, **{name: value for name, value in later.items() if value}}


def numerics(recipe: Recipe) -> int:
    """The version of the code that computes a trial of this recipe, as part of its identity."""
    augmented = (recipe.auto_augment, recipe.color_jitter, recipe.erasing, recipe.crop == "resized")
    return NUMERICS + (AUGMENTATION_NUMERICS if any(augmented) else 0)


@dataclass(frozen=True)
class Record:
    """The outcome of a trial, a failure included. It is final and written once.

    ``metrics`` holds ``val_accuracy`` and ``test_accuracy`` in percent, ``train_loss`` and so on; a
    number that was not measured is None, never 0. ``curve`` has one mapping per epoch. ``cost`` is
    that of the trained model, with its classes and image size; the budget counts 1000 classes at
    224 x 224. ``kind`` is the kind of failure: ``out-of-memory``, ``crash``, ``data``, ...
    """

    trial_id: str
    status: Status
    metrics: Mapping[str, float | int | None] = field(default_factory=dict)
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
        cost = None if self.cost is None else asdict(self.cost)
        return {**vars(self), "cost": cost, "schema": SCHEMA}


@dataclass(frozen=True)
class About:
    """The entry of a study or probe in `archsearch studies`; its module exports it as ``ABOUT``.

    ``small`` is the cost on a CPU with the embedded data, ``full`` the cost as the paper ran it.
    """

    question: str
    source: str
    command: str
    small: str
    full: str


@dataclass(frozen=True)
class Study:
    """A question and the cells, recipe, data and seeds that answer it.

    ``axes`` names the coordinates of ``Cell.requested`` that a heatmap uses, as (panel, y, x); one
    or two are (x) or (y, x), and more make a panel per combination of the first.
    ``plan`` chooses trials beyond the cells and seeds; None if there are none. ``metric`` compares
    cells, always on the validation split; the default is the task's ranking metric. ``reports``
    names the cards of this study, in addition to those that every run has.
    """

    name: str
    question: str
    source: str
    cells: tuple[Cell, ...]
    recipe: Recipe
    data: str = "digits"
    seeds: tuple[int, ...] = (0,)
    plan: Plan | None = None
    axes: tuple[str, ...] | None = None
    metric: str = ""
    budget: Budget | None = None
    reports: tuple[str, ...] = ()
    task: Task = CLASSIFICATION

    def __post_init__(self) -> None:
        object.__setattr__(self, "metric", self.metric or self.task.ranking_metric)
        if self.metric.startswith("val_") and self.recipe.val_fraction == 0:
            raise ValueError(
                f"{self.metric} is measured on images held out of the training set, but the recipe "
                "holds none out: set val_fraction above 0"
            )

    def check_metrics(self) -> None:
        """Check that nothing is chosen by the test split; a stored study is read without this.

        Raises:
            ValueError: for a metric or an objective of the test split, or an unknown one.
        """
        objectives = self.plan.objectives if isinstance(self.plan, Search) else ()
        errors = []
        for name in dict.fromkeys((self.task.ranking_metric, self.metric, *objectives)):
            try:
                self.task.choosing_metric(name)
            except ValueError as error:
                errors.append(str(error))
        if errors:
            raise ValueError("; ".join(errors))

    @property
    def max_seeds(self) -> int | None:
        """The largest number of seeds of a cell (``--seeds auto``); None without that plan."""
        return self.plan.max_seeds if isinstance(self.plan, MoreSeeds) else None

    @property
    def families(self) -> set[type[Family]]:
        """The families of the cells, and the one that a search covers."""
        families = {type(cell.variant) for cell in self.cells if cell.variant is not None}
        if isinstance(self.plan, Search):
            families.add(type(template_from_dict(self.plan.like)))
        return families

    @property
    def sources(self) -> dict[str, str]:
        """The sha256 of the file of every family that has one, by the family: ``my_net.py:Net``."""
        stored = map(family_to_dict, self.families)
        return {one["family"]: one["source"] for one in stored if "source" in one}

    def recipe_of(self, settings: Mapping[str, float]) -> Recipe:
        """The study's recipe with the settings of a cell."""
        return replace(self.recipe, **settings) if settings else self.recipe  # type: ignore[arg-type]

    @property
    def is_fine_tuned(self) -> bool:
        """Whether trainings start from the weights of another run."""
        return any(cell.starts for cell in self.cells)

    def trial(self, variant: Family, data: Data, seed: int) -> Trial:
        """The trial of ``variant`` in this study, outside of its cells."""
        return Trial(variant, self.recipe, data, seed, self.task)

    def trial_in(self, cell: Cell, data: Data, seed: int) -> Trial:
        """The trial of a cell that has a network, with its settings and initial weights."""
        assert cell.variant is not None, "an infeasible cell has no trial"
        start = start_of(cell.starts, seed)
        return Trial(cell.variant, self.recipe_of(cell.settings), data, seed, self.task, start)

    def trials(self, data: Data) -> tuple[Trial, ...]:
        """Every distinct trial, in plan order; cells with the same variant share it."""
        trials: dict[str, Trial] = {}
        for seed in self.seeds:
            for cell in self.cells:
                if cell.variant is not None:
                    trial = self.trial_in(cell, data, seed)
                    trials.setdefault(trial.id, trial)
        return tuple(trials.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `archsearch.storage.request.study_of` is its inverse."""
        values = vars(self) | {
            "cells": [cell.to_dict() for cell in self.cells],
            "recipe": self.recipe.to_dict(),
            "plan": plan_to_dict(self.plan),
            "budget": "" if self.budget is None else str(self.budget),
            "task": self.task.to_dict(),
        }
        return {key: value for key, value in values.items() if key != "task" or value}


def canonical_json(value: object) -> str:
    """JSON text that is unique per value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
