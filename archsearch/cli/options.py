"""Options that several commands share, and how their text becomes values."""

import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from archsearch.core.recipe import Recipe, resolve

RunnerName = Literal["auto", "inline", "local", "ray"]


class Format(StrEnum):
    """How data is printed on stdout."""

    table = "table"
    json = "json"


class Invalid(StrEnum):
    """What becomes of a cell that breaks a stacking rule."""

    repair = "repair"
    skip = "skip"
    error = "error"


Run = Annotated[Path, Argument(help="Folder of a run, such as runs/grid-30M-digits.")]
AsFormat = Annotated[Format, Option("--format", help="Print a table or JSON on stdout.")]
PlanOnly = Annotated[bool, Option("--plan", help="Print the plan and its costs; train nothing.")]
DataName = Annotated[
    str, Option("--data", help="digits, cifar10[:PATH] or imagefolder:PATH.", metavar="NAME")
]
RecipeName = Annotated[
    str, Option("--recipe", help="quick, cifar, table-b or one of its columns.", metavar="NAME")
]
Epochs = Annotated[int | None, Option("--epochs", help="Epochs, in place of the recipe's.")]
Seeds = Annotated[
    str,
    Option(
        "--seeds",
        help="How many, a list (0,4,7), or auto: more where cells are tied.",
        metavar="N|LIST|auto[:MOST]",
    ),
]
Set = Annotated[
    list[str] | None,
    Option("--set", help="Change one field of the recipe; repeatable.", metavar="KEY=VALUE"),
]
Out = Annotated[
    Path | None, Option("--out", help="Folder of the run. Default: runs/ and the study's name.")
]
Runner = Annotated[RunnerName, Option("--runner", help="Where trials run.")]
Workers = Annotated[
    int | None, Option("--workers", help="Trials at once. Default: what the machine holds.")
]
Device = Annotated[str, Option("--device", help="auto, cpu, cuda, or one GPU: cuda:1.")]
RayAddress = Annotated[
    str | None, Option("--ray-address", help="An existing Ray cluster (with --runner ray).")
]
GpusPerTrial = Annotated[
    float | None,
    Option("--gpus-per-trial", help="GPUs of one trial, a fraction too (with --runner ray)."),
]
PruneName = Literal["off", "gated", "force"]
PruneOverName = Literal["epochs", "image_size", "data_fraction"]
HALVING = {"rungs": 3, "factor": 3.0}
"""Three rungs, each a third of the work of the next (`archsearch.searching.halving.rungs`)."""

Prune = Annotated[
    PruneName,
    Option(
        help="Halve the cells by cheap trainings: gated, where a pilot shows that they rank like "
        "full ones; force, in any case."
    ),
]
PruneOver = Annotated[PruneOverName, Option(help="What makes a training cheap.")]
MaxHours = Annotated[
    float | None, Option("--max-hours", help="Stop asking for more trials after this long.")
]
Quote = Annotated[
    bool, Option("--quote/--no-quote", help="Time a few steps first and say what it will take.")
]
Extend = Annotated[
    bool, Option("--extend", help="Add cells, seeds or trials to a run that has fewer.")
]


@dataclass(frozen=True)
class Training:
    """How a study's cells are trained; ``plan`` is `archsearch.core.study.Study.plan`."""

    recipe: Recipe
    data: str
    seeds: tuple[int, ...]
    plan: Mapping[str, Any]


@dataclass(frozen=True)
class Launch:
    """Where and by whom; nothing here changes a result."""

    out: Path | None = None
    runner: RunnerName = "auto"
    workers: int | None = None
    device: str = "auto"
    ray_address: str | None = None
    extend: bool = False
    max_hours: float | None = None
    quote: bool = True
    gpus_per_trial: float | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.workers is not None and self.workers < 1:
            problems.append(f"--workers wants at least 1, got {self.workers}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            problems.append(f"--device wants auto, cpu or cuda, got {self.device!r}")
        if self.ray_address and self.runner != "ray":
            problems.append("--ray-address goes with --runner ray")
        if self.gpus_per_trial is not None and self.runner != "ray":
            problems.append("--gpus-per-trial goes with --runner ray: elsewhere a trial has a GPU")
        if self.gpus_per_trial is not None and not self.gpus_per_trial > 0:
            problems.append(f"--gpus-per-trial wants more than 0, got {self.gpus_per_trial:g}")
        if self.max_hours is not None and not self.max_hours > 0:
            problems.append(f"--max-hours wants more than 0, got {self.max_hours:g}")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def where(self) -> dict[str, Any]:
        """The arguments of `archsearch.running.run.run_study` that say where trials run."""
        names = ("runner", "workers", "device", "ray_address", "gpus_per_trial")
        return {name: getattr(self, name) for name in names}


def together(*builds: Callable[[], Any]) -> tuple[Any, ...]:
    """The values of all, so that the user hears at once of everything that is wrong.

    Raises:
        ValueError: with every problem, on a line of its own when there are several.
    """
    values, problems = [], []
    for build in builds:
        try:
            values.append(build())
        except ValueError as error:
            problems.append(str(error))
    if len(problems) == 1:
        raise ValueError(problems[0])
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise ValueError(f"{len(problems)} things are wrong:{lines}")
    return tuple(values)


def training(
    data: str,
    recipe: str,
    epochs: int | None,
    seeds: str,
    changes: list[str] | None,
    prune: PruneName = "off",
    prune_over: PruneOverName = "epochs",
    model: str = "T",
) -> Training:
    """What the options of a training command mean; ``model`` chooses the column of table-b.

    Raises:
        ValueError: naming everything that is wrong with them.
    """
    overrides, numbers = together(lambda: key_values(changes), lambda: parse_seeds(seeds))
    if epochs is not None:
        overrides["epochs"] = str(epochs)
    first, most = numbers
    plan: dict[str, Any] = {"kind": "more-seeds", "max_seeds": most} if most else {}
    if prune != "off":
        if most:
            raise ValueError("--prune and --seeds auto are two plans: choose one")
        plan = {"kind": "halving", "over": prune_over, "force": prune == "force", **HALVING}
    return Training(resolve(recipe, overrides, model), data, first, plan)


def parse_seeds(text: str) -> tuple[tuple[int, ...], int | None]:
    """Seeds, and up to how many tied cells may have.

    ``3`` is three seeds, 0 1 2; ``0,4,7`` is those; ``auto`` begins with two and adds more to the
    tied cells, up to five; ``auto:8`` up to eight.
    """
    wanted = f"--seeds wants a number of seeds (3), a list (0,4,7), auto or auto:8, got {text!r}"
    if match := re.fullmatch(r"auto(?::(\d+))?", text):
        most = int(match[1] or 5)
        if most < 2:
            raise ValueError(wanted)
        return (0, 1), most
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(wanted) from None
    if min(numbers) < (0 if "," in text else 1):
        raise ValueError(wanted)
    return (tuple(dict.fromkeys(numbers)) if "," in text else tuple(range(numbers[0]))), None


def whole_numbers(flag: str, text: str | None) -> tuple[int, ...] | None:
    """``16,24,32`` as numbers; None where the flag was not given."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{flag} wants whole numbers such as 16,24,32, got {text!r}") from None


def space_lists(
    c1: str | None, group_channels: str | None, l1: str | None
) -> dict[str, tuple[int, ...]]:
    """The lists of a space that were given, by the names of `archsearch.space.grid.Space`."""
    values = together(
        lambda: whole_numbers("--c1", c1),
        lambda: whole_numbers("--group-channels", group_channels),
        lambda: whole_numbers("--l1", l1),
    )
    named = zip(("c1", "group_channels", "l1"), values, strict=True)
    return {name: numbers for name, numbers in named if numbers is not None}


def metrics(text: str) -> tuple[str, ...]:
    """``val_accuracy,macs`` as names of metrics, every unknown one told."""
    from archsearch.core.metrics import metric

    names = tuple(part.strip() for part in text.split(","))
    together(*((lambda name=name: metric(name)) for name in names))
    return names


def key_values(pairs: Iterable[str] | None) -> dict[str, str]:
    """``["lr=1e-3", ...]`` as a mapping, every malformed pair named."""
    split = [pair.partition("=") for pair in pairs or ()]
    if bad := [key for key, equals, _ in split if not (key and equals)]:
        raise ValueError(f"--set wants KEY=VALUE, got {', '.join(map(repr, bad))}")
    return {key.strip(): value.strip() for key, _, value in split}


def command_line() -> list[str]:
    """The command as typed, without the folder its program lies in."""
    return ["archsearch", *sys.argv[1:]]


def as_shell(command: Iterable[str]) -> str:
    return shlex.join(command)
