"""Options that several studies share: how their cells are trained, and where."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from archsearch.api.keywords import Problems, option, together
from archsearch.core.plans import Halve, MoreSeeds, Over, Plan
from archsearch.core.recipe import Recipe, resolve

Runner = Literal["auto", "inline", "local", "ray"]
Prune = Literal["off", "gated", "force"]
Numbers = str | Sequence[int]
"""Whole numbers: a list, or a text such as ``16,24``."""

Seeds = int | str | Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the cells of a study are trained: all that changes a result."""

    data: str = option("digits", "Use digits, cifar10[:PATH] or imagefolder:PATH.", metavar="NAME")
    recipe: str = option(
        "quick", "Train by quick, cifar, table-b or one of its columns.", metavar="NAME"
    )
    epochs: int | None = option(None, "Train for this many epochs, in place of the recipe's.")
    seeds: Seeds = option(
        1,
        "Train this many seeds, a list (0,4,7), or auto: more where cells are tied.",
        text=str,
        metavar="N|LIST|auto[:MOST]",
    )
    set: Mapping[str, Any] | Sequence[str] | None = option(
        None, "Change one field of the recipe; repeatable.", text=list[str], metavar="KEY=VALUE"
    )
    prune: Prune = option(
        "off",
        "Halve the cells by cheap trainings: gated, where a pilot shows that they rank like full "
        "ones; force, in any case.",
    )
    prune_over: Over = option("epochs", "What makes a training cheap.")

    def resolved(self, model: str = "T") -> "Resolved":
        """What the options mean; ``model`` chooses the column of the recipe table-b.

        Raises:
            ValueError: naming everything that is wrong with them.
        """
        changes, (seeds, most) = together(self._changes, lambda: parse_seeds(self.seeds))
        recipe, plan = together(
            lambda: resolve(self.recipe, changes, model), lambda: self._plan(most)
        )
        return Resolved(recipe, self.data, seeds, plan)

    def _changes(self) -> dict[str, str]:
        changes = key_values(self.set)
        return changes if self.epochs is None else {**changes, "epochs": str(self.epochs)}

    def _plan(self, max_seeds: int | None) -> Plan | None:
        if self.prune == "off":
            return MoreSeeds(max_seeds) if max_seeds else None
        if max_seeds:
            raise ValueError("prune and seeds auto are two plans: choose one")
        return Halve(self.prune_over, self.prune == "force")


@dataclass(frozen=True)
class Resolved:
    """A `Training` whose texts are values."""

    recipe: Recipe
    data: str
    seeds: tuple[int, ...]
    plan: Plan | None


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Where the trials of a study run; nothing here changes a result."""

    out: Path | str | None = option(
        None, "Folder of the run. Default: runs/ and the study's name.", text=Path
    )
    runner: Runner = option("auto", "Where trials run.")
    workers: int | None = option(None, "Trials at once. Default: what the machine holds.")
    device: str = option("auto", "Use auto, cpu, cuda, or one GPU: cuda:1.")
    ray_address: str | None = option(None, "Use an existing Ray cluster (with --runner ray).")
    gpus_per_trial: float | None = option(
        None, "GPUs of one trial, a fraction too (with --runner ray)."
    )
    max_hours: float | None = option(None, "Stop asking for more trials after this long.")
    quote: bool = option(True, "Time a few steps first and say what the study will take.")
    extend: bool = option(False, "Add cells, seeds or trials to a run that has fewer.")

    def checked(self) -> "Launch":
        """These options, if they can be.

        Raises:
            ValueError: naming everything that is wrong with them.
        """
        problems = []
        if self.workers is not None and self.workers < 1:
            problems.append(f"workers wants at least 1, got {self.workers}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            problems.append(f"device wants auto, cpu or cuda, got {self.device!r}")
        if self.ray_address and self.runner != "ray":
            problems.append("ray_address goes with the runner ray")
        if self.gpus_per_trial is not None and self.runner != "ray":
            problems.append("gpus_per_trial goes with the runner ray: elsewhere a trial has a GPU")
        if self.gpus_per_trial is not None and not self.gpus_per_trial > 0:
            problems.append(f"gpus_per_trial wants more than 0, got {self.gpus_per_trial:g}")
        if self.max_hours is not None and not self.max_hours > 0:
            problems.append(f"max_hours wants more than 0, got {self.max_hours:g}")
        if problems:
            raise Problems(problems)
        return self

    @property
    def where(self) -> dict[str, Any]:
        """The arguments of `archsearch.running.run.run_study` that say where trials run."""
        names = ("runner", "workers", "device", "ray_address", "gpus_per_trial")
        return {name: getattr(self, name) for name in names}


def parse_seeds(seeds: Seeds) -> tuple[tuple[int, ...], int | None]:
    """Seeds, and up to how many tied cells may have.

    3 is three seeds, 0 1 2; ``0,4,7`` or a list is those; ``auto`` begins with two and adds more to
    the tied cells, up to five; ``auto:8`` up to eight.
    """
    text = str(seeds) if isinstance(seeds, int | str) else ",".join(map(str, seeds)) + ","
    wanted = f"seeds wants a number of seeds (3), a list (0,4,7), auto or auto:8, got {seeds!r}"
    if match := re.fullmatch(r"auto(?::(\d+))?", text):
        most = int(match[1] or 5)
        if most < 2:
            raise ValueError(wanted)
        return (0, 1), most
    try:
        numbers = [int(part) for part in text.removesuffix(",").split(",")]
    except ValueError:
        raise ValueError(wanted) from None
    if min(numbers) < (0 if "," in text else 1):
        raise ValueError(wanted)
    return (tuple(dict.fromkeys(numbers)) if "," in text else tuple(range(numbers[0]))), None


def whole_numbers(values: Mapping[str, Numbers]) -> dict[str, tuple[int, ...]]:
    """Lists of whole numbers, and texts such as ``16,24,32``, by name.

    Raises:
        ValueError: naming every one that is no such list.
    """

    def parse(name: str, given: Numbers) -> tuple[int, ...]:
        parts = given.split(",") if isinstance(given, str) else given
        try:
            return tuple(int(part) for part in parts)
        except (TypeError, ValueError):
            raise ValueError(f"{name} wants whole numbers such as 16,24, got {given!r}") from None

    def parser(name: str) -> Callable[[], tuple[int, ...]]:
        return lambda: parse(name, values[name])

    return dict(zip(values, together(*map(parser, values)), strict=True))


def key_values(pairs: Mapping[str, Any] | Iterable[str] | None) -> dict[str, str]:
    """A mapping, or ``["lr=1e-3", ...]`` as one, every malformed pair named."""
    if isinstance(pairs, Mapping):
        return {key: str(value) for key, value in pairs.items()}
    split = [pair.partition("=") for pair in pairs or ()]
    if bad := [key for key, equals, _ in split if not (key and equals)]:
        raise ValueError(f"set wants KEY=VALUE, got {', '.join(map(repr, bad))}")
    return {key.strip(): value.strip() for key, _, value in split}
