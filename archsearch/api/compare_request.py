"""The request for a comparison of families: its options, and the plan that they make."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from archsearch.api.families import SpaceOptions, parse_axes
from archsearch.api.keywords import InputErrors, evaluate_all, option
from archsearch.api.options import Numbers, Resolved, Training, parse_key_values
from archsearch.api.requests import BUDGET_HELP, TOLERANCE_HELP
from archsearch.core.budget import DEFAULT_TOLERANCE, Budget
from archsearch.core.family import Family
from archsearch.core.numbers import quoted, whole_number
from archsearch.families import DEFAULT, FORMS, family_of, short_name
from archsearch.families.internimage_space import named_space
from archsearch.space.grid import Invalid, Space
from archsearch.space.step_budget import StepBudget
from archsearch.studies.compare import PILOT_SEED, RATES, Families

Names = str | Sequence[str | type[Family]]
By = Literal["params", "macs", "seconds"]


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare families of networks at one budget.

    All have one recipe; the learning rate of each is chosen on the same number of pilot trainings.
    """

    families: Names = option(
        "internimage,convnext,vit",
        f"Compare these families: {FORMS}, ...",
        text=str,
        metavar="A,B,...",
    )
    budget: str = option("30M", BUDGET_HELP)
    by: By | None = option(
        None,
        "Count the budget in parameters or multiply-adds, or measure it as the time of a training "
        "step per image (2ms); the default is its unit.",
    )
    rates: str | Sequence[float] = option(
        ",".join(f"{rate:g}" for rate in RATES),
        "Choose the learning rate of each family from these, by one pilot training each. A single "
        "rate is used without pilots.",
        text=str,
        metavar="V,V",
    )
    cells: int | str = option(
        "all",
        "Train this many cells of each family, the best by one pilot training per cell, or all.",
        text=str,
        metavar="N|all",
    )
    values: Mapping[str, Numbers] | Sequence[str] | None = option(
        None,
        "Use these values of one number of a family, such as convnext.c1=32,48; repeat the option, "
        "or add more after it, for other numbers.",
        text=list[str],
        flag="--set-axis",
        metavar="FAMILY.NAME=V,V",
    )
    switches: Mapping[str, Any] | Sequence[str] | None = option(
        None,
        "Set one switch of a family's block; repeat the option to set more.",
        text=list[str],
        flag="--switch",
        metavar="FAMILY.KEY=VALUE",
    )
    invalid: Invalid = option("repair", "Repair, skip or refuse the cells that break a rule.")
    tolerance: float = option(DEFAULT_TOLERANCE, TOLERANCE_HELP)

    def plan(self, training: Training) -> Families:
        """Return the families with their cells, and how they are tuned and trained.

        Raises:
            ValueError: naming every wrong option.
        """
        budget, resolved, rates, number, spaces = evaluate_all(
            lambda: parse_budget(self.budget, self.by, self.tolerance),
            lambda: _training(training),
            lambda: parse_rates(self.rates),
            lambda: parse_cells(self.cells),
            self._spaces,
        )
        families = Families(
            spaces=spaces, budget=budget, recipe=resolved.recipe, data=resolved.data,
            seeds=resolved.seeds, rates=rates, num_cells=number, invalid=self.invalid,
        )  # fmt: skip
        if isinstance(budget, Budget):
            check_cells(families)
        return families

    def _spaces(self) -> tuple[Space, ...]:
        texts = self.families.split(",") if isinstance(self.families, str) else self.families
        parsed = evaluate_all(*(partial(family_of, one) for one in texts))
        families = {short_name(family): family for family in parsed}
        values, switches, _ = evaluate_all(
            lambda: _by_family(parse_axes(self.values), families, "set-axis"),
            lambda: _by_family(parse_key_values(self.switches, "switch"), families, "switch"),
            lambda: _check_different([short_name(family) for family in parsed]),
        )
        calls = (
            partial(_space, family, values.get(name, {}), switches.get(name, {}))
            for name, family in families.items()
        )
        return evaluate_all(*calls)


def parse_budget(text: str, by: By | None, tolerance: float) -> Budget | StepBudget:
    """Return the budget; ``by`` is the axis of a text that names none.

    Raises:
        ValueError: for a text that is no budget, or one whose unit is not that of ``by``.
    """
    if by == "seconds" or (by is None and StepBudget.is_time(text)):
        return StepBudget.parse(text, tolerance)
    if by is None:
        return Budget.parse(text, tolerance)
    try:
        return Budget.parse(f"{text} {by}", tolerance)
    except ValueError:
        budget = Budget.parse(text, tolerance)  # it has a unit, or is wrong
    if budget.axis != by:
        raise ValueError(f"the budget {text!r} is in {budget.axis}, and --by is {by}: drop one")
    return budget


def parse_rates(rates: str | Sequence[float]) -> tuple[float, ...]:
    """Return different learning rates above 0.

    Raises:
        ValueError: for anything else.
    """
    parts = rates.split(",") if isinstance(rates, str) else rates
    message = f"rates must be different numbers above 0, such as 5e-4,1e-3, got {quoted(rates)}"
    try:
        values = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        raise ValueError(message) from None
    if not values or len(set(values)) < len(values):
        raise ValueError(message)
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise ValueError(message)
    return values


def parse_cells(cells: int | str) -> int | None:
    """Return the number of cells of each family, None for all.

    Raises:
        ValueError: for anything else than ``all`` or a whole number from 1.
    """
    if cells == "all":
        return None
    try:
        number = whole_number(cells)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise ValueError(f"cells must be all or a whole number from 1, got {quoted(cells)}")
    return number


def _training(training: Training) -> Resolved:
    """Return the training's options without those that a comparison of families has not."""
    resolved, errors = training.resolved(), []
    if resolved.plan is not None:
        errors.append("seeds must be a number or a list here: every network gets the same seeds")
    if PILOT_SEED in resolved.seeds:
        errors.append(f"seeds must not have {PILOT_SEED:,}, the seed of the pilot trainings")
    if "lr" in parse_key_values(training.set):
        errors.append("the pilots choose lr for each family: give --rates, a single one to fix it")
    if errors:
        raise InputErrors(errors)
    return resolved


def _check_different(names: Sequence[str]) -> None:
    if len(names) < 2:
        raise ValueError(f"a comparison needs two families or more, got {', '.join(names)}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"families must have different names, got {', '.join(twice)} twice")


def _by_family(
    values: Mapping[str, Any], families: Mapping[str, type[Family]], flag: str
) -> dict[str, dict[str, Any]]:
    """Return the values of ``FAMILY.NAME`` by family and name.

    Raises:
        ValueError: naming every key without a family, or with one that is not compared.
    """
    grouped: dict[str, dict[str, Any]] = {}
    wrong = []
    for key, value in values.items():
        family, dot, name = key.partition(".")
        if not dot:
            wrong.append(f"{flag} must begin with a family, as in {next(iter(families))}.{key}")
        elif family not in families:
            wrong.append(f"{flag} {key}: no family {family} here, only {', '.join(families)}")
        grouped.setdefault(family, {})[name] = value
    if wrong:
        raise InputErrors(wrong)
    return grouped


def _space(family: type[Family], values: Mapping[str, Any], switches: Mapping[str, Any]) -> Space:
    """Return the space of a family: the given values, else its default ones."""
    known = family.grid_values.keys() | values.keys()
    names = [n for n in family.number_names() if n != family.solved and n not in known]
    if names and family is not DEFAULT:
        example = f"--set-axis {short_name(family)}.{names[0]}=32,48"
        raise ValueError(
            f"{family.__name__} has no default values of {', '.join(names)}: give each as in "
            f"{example}"
        )
    options = SpaceOptions(family=family, values=values, switches=switches)
    return options.space(named_space("main"))


def check_cells(families: Families) -> None:
    """Check that every family has a cell that can be trained.

    Raises:
        ValueError: naming every family without one, with the reason of its first cell.
    """
    errors = [
        f"no cell of {name} can be trained at {families.budget}: {cells[0].reason}; give other "
        f"values with --set-axis {name}.NAME=V,V, or a larger --tolerance"
        for name, cells in families.cells.items()
        if all(cell.variant is None for cell in cells)
    ]
    if errors:
        raise InputErrors(errors)
