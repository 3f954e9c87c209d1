"""Options that several studies share: how their cells are trained, and where."""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from archsearch.api.keywords import InputErrors, evaluate_all, option
from archsearch.core.numbers import LARGEST, quoted, whole_number
from archsearch.core.plans import Halve, MoreSeeds, Over, Plan
from archsearch.core.recipe import Recipe
from archsearch.core.recipes import resolve
from archsearch.running.runners import RunnerName, RunnerOptions

if TYPE_CHECKING:
    from archsearch.trackers.live import Log

Prune = Literal["off", "gated", "force"]
Numbers = str | Sequence[int]
"""Whole numbers: a list, or a text such as ``16,24``."""

Seeds = int | str | Sequence[int]

MAX_SEEDS = 10_000
"""The largest number of seeds of a study."""

DATA_HELP = "Train on digits, cifar10[:PATH] or imagefolder:PATH."
RECIPE_HELP = "Train with the recipe quick, cifar, table-b or one column of table-b."
EPOCHS_HELP = "Train for this many epochs instead of the recipe's."
SET_HELP = "Change one field of the recipe; repeat the option to change more."


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the cells of a study are trained: everything that changes a result."""

    data: str = option("digits", DATA_HELP, metavar="NAME")
    recipe: str = option("quick", RECIPE_HELP, metavar="NAME")
    epochs: int | None = option(None, EPOCHS_HELP)
    seeds: Seeds = option(
        1,
        "Train this many seeds, the seeds of a list (0,4,7), or more seeds where they pay (auto).",
        text=str,
        metavar="N|LIST|auto[:MOST]",
    )
    set: Mapping[str, Any] | Sequence[str] | None = option(
        None, SET_HELP, text=list[str], metavar="KEY=VALUE"
    )
    prune: Prune = option(
        "off",
        "Drop cells early by successive halving: only where a pilot shows that cheap trainings "
        "rank cells like full ones (gated), or always (force).",
    )
    prune_over: Over = option("epochs", "Reduce this to make a training cheap.")

    def resolved(self, model: str = "T") -> "Resolved":
        """Parse the options; ``model`` chooses the column of the recipe table-b.

        Raises:
            ValueError: naming every wrong option.
        """
        changes, (seeds, max_seeds) = evaluate_all(self._changes, lambda: parse_seeds(self.seeds))
        recipe, plan = evaluate_all(
            lambda: resolve(self.recipe, changes, model), lambda: self._plan(max_seeds)
        )
        return Resolved(recipe, self.data, seeds, plan)

    def _changes(self) -> dict[str, str]:
        changes = parse_key_values(self.set)
        return changes if self.epochs is None else {**changes, "epochs": str(self.epochs)}

    def _plan(self, max_seeds: int | None) -> Plan | None:
        if self.prune == "off":
            return MoreSeeds(max_seeds) if max_seeds else None
        if max_seeds:
            raise ValueError(
                f"prune ({self.prune}) and seeds ({self.seeds}) cannot be combined: choose one"
            )
        return Halve(self.prune_over, self.prune == "force")


@dataclass(frozen=True)
class Resolved:
    """The parsed values of a `Training`."""

    recipe: Recipe
    data: str
    seeds: tuple[int, ...]
    plan: Plan | None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of functions that make a study, which add no plan."""
        return {"recipe": self.recipe, "data": self.data, "seeds": self.seeds}


def log_option() -> Any:
    """Return the field of the trackers that trainings are written to."""
    return option(
        None,
        "Write each training to a tracker when it has ended; repeat the option for several.",
        text=list[str],
        metavar="tensorboard:DIR|wandb:DIR|mlflow:URI",
    )


def parse_logs(log: Sequence[str] | str | None) -> "tuple[Log, ...]":
    """Return the trackers.

    Raises:
        ValueError: naming every one that is unknown, or whose package is not installed.
    """
    texts = [log] if isinstance(log, str) else log or ()
    if not texts:
        return ()
    from archsearch.trackers.live import parse_log

    return evaluate_all(*(partial(parse_log, text) for text in texts))


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Where the trials of a study run; nothing here changes a result."""

    out: Path | str | None = option(
        None, "Write the run to this folder; the default is runs/ plus the study's name.", text=Path
    )
    runner: RunnerName = option(
        "auto", "Run trials in this process (inline), in worker processes (local) or on Ray."
    )
    workers: int | None = option(
        None, "Run this many trials at the same time; the default fits the machine."
    )
    device: str = option("auto", "Train on auto, cpu, cuda, or one GPU such as cuda:1.")
    ray_address: str | None = option(
        None, "Use the Ray cluster at this HOST:PORT; this needs --runner ray."
    )
    gpus_per_trial: float | None = option(
        None, "Give each trial this many GPUs, or a fraction of one; this needs --runner ray."
    )
    allow_mixed_versions: bool = option(
        False,
        "Train on Ray nodes whose software differs from this machine's too, and note every "
        "difference in the records.",
    )
    max_hours: float | None = option(
        None, "Stop the study after this many hours; the same command resumes it."
    )
    quote: bool = option(
        True, "Estimate time and memory before training, by timing a few training steps."
    )
    extend: bool = option(False, "Add cells, seeds or trials to a run that has fewer.")
    log: Sequence[str] | str | None = log_option()

    def checked(self) -> "Launch":
        """Return these options if they are valid.

        Raises:
            ValueError: naming every wrong option.
        """
        errors = []
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,4})?", self.device, re.ASCII):
            errors.append(f"device must be auto, cpu, cuda or cuda:N, got {quoted(self.device)}")
        if self.ray_address and self.runner != "ray":
            errors.append(f"ray_address needs the runner ray, got the runner {self.runner}")
        if self.gpus_per_trial is not None and self.runner != "ray":
            errors.append(
                f"gpus_per_trial needs the runner ray, got the runner {self.runner}: other runners "
                "give each trial one GPU"
            )
        if self.allow_mixed_versions and self.runner != "ray":
            errors.append(
                f"allow_mixed_versions needs the runner ray, got the runner {self.runner}"
            )
        for name, lowest in (("workers", 1), ("gpus_per_trial", 0), ("max_hours", 0)):
            value = getattr(self, name)
            if value is not None and not (0 < value <= LARGEST and value >= lowest):
                low = f"at least {lowest}" if lowest else "above 0"
                errors.append(f"{name} must be {low}, at most {LARGEST:,}, got {quoted(value)}")
        try:
            parse_logs(self.log)
        except InputErrors as several:
            errors += several.errors
        if errors:
            raise InputErrors(errors)
        return self

    def later(self, started: float) -> "Launch":
        """Return these options in the time that is left since ``started`` (`time.monotonic`)."""
        if self.max_hours is None:
            return self
        spent = (time.monotonic() - started) / 3600
        return replace(self, max_hours=max(self.max_hours - spent, 1e-6))

    def resources(self, threads: int) -> RunnerOptions:
        """How many trials of ``threads`` CPU threads run, and on what."""
        return RunnerOptions(
            self.workers,
            self.device,
            threads,
            ray_address=self.ray_address,
            gpus_per_trial=self.gpus_per_trial,
            allow_mixed_versions=self.allow_mixed_versions,
        )

    @property
    def runner_options(self) -> dict[str, Any]:
        """The arguments of `archsearch.running.run.run_study` that say where trials run."""
        names = ("workers", "device", "ray_address", "gpus_per_trial", "allow_mixed_versions")
        return {name: getattr(self, name) for name in ("runner", *names)}


def parse_seeds(seeds: Seeds) -> tuple[tuple[int, ...], int | None]:
    """Return the seeds, and the most seeds that a cell may get (None: no extra seeds).

    3 means the seeds 0, 1 and 2; ``0,4,7`` or a list means those seeds; ``auto`` starts with two
    seeds, which `archsearch.stats.seeds` adds to, up to five of a cell; ``auto:8`` up to eight.

    Raises:
        ValueError: for anything else.
    """
    message = (
        f"seeds must be a number of seeds (3), a list (0,4,7), auto or auto:8, of at most "
        f"{MAX_SEEDS:,} seeds, got {quoted(seeds)}"
    )
    if isinstance(seeds, int | str):
        text = quoted(seeds) if isinstance(seeds, int) else seeds
    else:
        text = ",".join(map(quoted, seeds)) + ","
    if match := re.fullmatch(r"auto(?::(\d{1,9}))?", text, re.ASCII):
        max_seeds = int(match[1] or 5)
        if not 2 <= max_seeds <= MAX_SEEDS:
            raise ValueError(message)
        return (0, 1), max_seeds
    try:
        numbers = [whole_number(part) for part in text.removesuffix(",").split(",")]
    except ValueError:
        raise ValueError(message) from None
    if min(numbers) < (0 if "," in text else 1) or ("," not in text and numbers[0] > MAX_SEEDS):
        raise ValueError(message)
    return (tuple(dict.fromkeys(numbers)) if "," in text else tuple(range(numbers[0]))), None


def parse_whole_numbers(values: Mapping[str, Numbers]) -> dict[str, tuple[int, ...]]:
    """Parse lists of whole numbers, or texts such as ``16,24,32``, by name.

    Raises:
        ValueError: naming every value that is no such list.
    """

    def parse(name: str, value: Numbers) -> tuple[int, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        try:
            return tuple(whole_number(part) for part in parts)
        except (TypeError, ValueError):
            wanted = f"whole numbers such as 16,24, at most {LARGEST:,}"
            raise ValueError(f"{name} must be {wanted}, got {quoted(value)}") from None

    calls = (partial(parse, name, value) for name, value in values.items())
    return dict(zip(values, evaluate_all(*calls), strict=True))


def parse_key_values(
    pairs: Mapping[str, Any] | Iterable[str] | None, option: str = "set", form: str = "KEY=VALUE"
) -> dict[str, str]:
    """Return a mapping, or pairs such as ``["lr=1e-3"]``, as key -> text.

    Raises:
        ValueError: naming every malformed pair.
    """
    if isinstance(pairs, Mapping):
        return {key: str(value) for key, value in pairs.items()}
    split = [pair.partition("=") for pair in pairs or ()]
    if bad := [key for key, equals, _ in split if not (key and equals)]:
        raise ValueError(f"{option} must be {form}, got {', '.join(map(repr, bad))}")
    return {key.strip(): value.strip() for key, _, value in split}
