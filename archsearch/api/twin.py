"""A first look at a long grid: its small twin, the same cells at a thirtieth of the budget.

A network of a thirtieth of the parameters is narrower: its widths (C1 and C') are divided by five
and rounded to multiples of four. Its L1 are those of the grid, and L3 is solved again.
"""

import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from archsearch.core.budget import Budget
from archsearch.storage.resume import without

if TYPE_CHECKING:
    from archsearch.storage.study_folder import StudyFolder
    from archsearch.study import Study

LONG_SECONDS = 300.0
"""A first look is offered from this quote on."""

SMALLER = 30
NARROWER = 5
"""Parameters grow as the square of the width, so that the depths stay similar."""

WIDTHS = ("c1", "group_channels")
MULTIPLE = 4

SPEED_UP = 5.0
"""A study of the twin is at least this much faster. For the default grid it is seven times: small
networks are limited by their number of operations and not by multiply-adds."""

WANTED_SECONDS = 100.0
MIN_FRACTION = 0.01
"""With less of the images, the networks would learn nothing."""

WITH_VALUE = ("--budget", "--out", "--seeds", "--epochs", "--prune", "--prune-over")
SWITCHES = ("--extend", "--no-extend")


def first_look(folder: "StudyFolder", seconds: float) -> str:
    """Return the advice to train the twin of a grid first; empty for a short or another study.

    ``seconds`` is the study's quote.
    """
    study, command = folder.study(), folder.request()["command"]
    is_grid = list(command[:2]) == ["archsearch", "grid"] and study.budget is not None
    is_grid = is_grid and set(WIDTHS) <= set(study.axes or ())  # another family has other widths
    if seconds <= LONG_SECONDS or not is_grid:
        return ""
    command = twin_command(study, command, seconds)
    if not command:
        return ""
    return (
        "For a first look in about two minutes, train the small twin of this study. It shows the "
        f"way to a report, not which cell is best here:\n  {shlex.join(command)}"
    )


def twin_command(study: "Study", command: Sequence[str], seconds: float) -> list[str]:
    """Return the command of the twin; empty if nothing would be learned in the time.

    Args:
        study: a grid with a budget.
        command: the command that trains it, as typed.
        seconds: what it is predicted to take.

    It has the data, the recipe and the runner of ``command``, one seed, and so few epochs and
    images that it takes about two minutes where ``command`` takes ``seconds``.
    """
    assert study.budget is not None
    target = int(float(f"{study.budget.target / SMALLER:.2g}"))
    budget, values = Budget(max(1, target), study.budget.axis), _values(study)
    epochs, fraction = _shortened(study, seconds)
    if fraction < MIN_FRACTION:
        return []
    kept = without(command, {*WITH_VALUE, *map(_flag, values)}, SWITCHES)
    numbers = [part for name, text in values.items() for part in (_flag(name), text)]
    twin = [*kept, "--budget", str(budget).removesuffix(" params").replace(" ", ""), *numbers]
    if epochs != study.recipe.epochs or "--epochs" in command:
        twin += ["--epochs", str(epochs)]
    if fraction != study.recipe.data_fraction:
        twin += ["--set", f"data_fraction={fraction:.2g}"]
    return twin


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _values(study: "Study") -> dict[str, str]:
    """Return the twin's values of each width, such as ``8,12,16``."""

    def narrow(value: float | int | str) -> int:
        return MULTIPLE * max(1, round(float(value) / NARROWER / MULTIPLE))

    values = {name: sorted({narrow(c.requested[name]) for c in study.cells}) for name in WIDTHS}
    return {name: ",".join(map(str, numbers)) for name, numbers in values.items()}


def _shortened(study: "Study", seconds: float) -> tuple[int, float]:
    """Return epochs and fraction of the images: as many as the time allows, at most the study's."""
    recipe, twin_seconds = study.recipe, seconds / SPEED_UP / len(study.seeds)
    share = min(1.0, WANTED_SECONDS / twin_seconds)
    epochs = max(1, math.floor(recipe.epochs * share))
    fraction = min(1.0, share * recipe.epochs / epochs)
    return epochs, recipe.data_fraction * fraction
