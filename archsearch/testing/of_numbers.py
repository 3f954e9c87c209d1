"""Checks of a family's numbers: rules, stored values, solved numbers, costs and growth."""

import json
import pickle
import unittest
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice, pairwise, product

from archsearch.core.budget import Budget, readable
from archsearch.core.cost import Cost
from archsearch.core.family import Family, variant_to_dict
from archsearch.core.family_fault import FamilyFault
from archsearch.core.meta_cost import count_module
from archsearch.families import variant_from_dict
from archsearch.space.grid import smallest_variant, solve
from archsearch.space.scaling import ladder
from archsearch.testing.subject import NUM_CLASSES, Subject, legal, num_params, require

TRIED = (1, 3, 4, 16)
"""Values of every number, in all combinations, that the rules must allow or refuse as text."""

MAX_TRIED = 2000
"""How many combinations are tried."""

STEPS = 8
"""How many values of the solved number, from the smallest, must increase the cost."""

ALPHA, BETA, MAX_PHI = 1.2, 1.3, 4
"""The growth that is tried; a small network may stay as it is for one or two steps."""


def check_numbers(subject: Subject) -> None:
    """A small network is legal, and its cost is known."""
    variant = subject.variant
    problems = variant.problems()
    require(not problems, f"{variant.name} is not legal: {'; '.join(problems)}")
    num_params(variant, subject.image_size)


def check_refused(subject: Subject) -> None:
    """Wrong numbers are refused with every reason, and no rule raises an error."""
    template = subject.family.template()
    zero = template.unchecked(**dict.fromkeys(template.number_names(), 0))
    _check_refusal(zero, [template.label_of(name) for name in template.number_names()])
    for variant in _tried(template):
        problems = _problems(variant)
        if problems:
            _check_refusal(variant, problems)
        else:
            legal(variant)
        _check_repair(variant)


def _tried(template: Family) -> Iterator[Family]:
    names = template.number_names()
    for values in islice(product(TRIED, repeat=len(names)), MAX_TRIED):
        yield template.unchecked(**dict(zip(names, values, strict=True)))


def _problems(variant: Family) -> list[str]:
    try:
        return variant.problems()
    except FamilyFault as error:
        raise AssertionError(str(error)) from error


def _check_refusal(variant: Family, reasons: list[str]) -> None:
    try:
        legal(variant)
    except ValueError as error:
        missing = [reason for reason in reasons if reason not in str(error)]
        text = f"the error of {variant.name} lacks {'; '.join(missing)}: {error}"
        require(not missing, text)
    else:
        raise AssertionError(f"{variant.name} must raise a ValueError: {'; '.join(reasons)}")


def _check_repair(variant: Family) -> None:
    """Check the smallest solved number, and the repair of numbers that break a rule."""
    start = smallest_variant(variant, variant.by_name)
    least, name = start.solved_value, variant.name
    is_whole = type(least) is int and least >= 1
    require(is_whole, f"min_solved() of {name} must be a whole number >= 1, got {least!r}")
    if not start.problems() or (repaired := start.repaired()) is None:
        return
    closest, rule = repaired
    closest = closest.unchecked(**{closest.solved: closest.min_solved()})
    problems = closest.problems()
    require(not problems, f"the repair {closest.name} of {name} is not legal: {problems}")
    require(isinstance(rule, str) and bool(rule), f"the repair of {name} must name its rule")


def check_stored(subject: Subject) -> None:
    """Numbers and switches survive JSON and pickling, and a network's name gives it back."""
    for variant in subject.variants:
        stored = variant_from_dict(json.loads(json.dumps(variant_to_dict(variant))))
        _check_same("stored as JSON", variant, stored)
        _check_same("pickled", variant, pickle.loads(pickle.dumps(variant)))
        _check_same("parsed by its name", variant, subject.family.parse(variant.name, variant))
    names = [variant.name for variant in subject.variants]
    require(len(set(names)) == len(names), f"different networks have one name: {names}")


def _check_same(how: str, variant: Family, other: Family) -> None:
    text = f"{_full_text(variant)} {how} comes back as {_full_text(other)}"
    require(type(other) is type(variant) and other == variant, text)


def _full_text(variant: Family) -> str:
    return f"{type(variant).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(variant).items())})"


def check_solved(subject: Subject) -> None:
    """The cost increases with the solved number, and none is closer to a budget than the found."""
    variant, budget = subject.variant, subject.budget
    start, label = variant.min_solved(), variant.label_of(variant.solved)
    _check_increase(variant, budget)
    for value in range(start, start + 3):
        target = budget.value(variant.with_solved(value).cost())
        solved = solve(variant, Budget(target, budget.axis))
        text = f"{label} for {target:,} {budget.axis} must be {value}, got {solved.solved_value}"
        require(solved == variant.with_solved(value), text)
    _check_closest(variant, budget)


def _check_increase(variant: Family, budget: Budget) -> None:
    start, label = variant.min_solved(), variant.label_of(variant.solved)
    sizes = [
        budget.value(variant.with_solved(value).cost()) for value in range(start, start + STEPS)
    ]
    text = ", ".join(f"{size:,}" for size in sizes)
    increases = all(small < large for small, large in pairwise(sizes))
    end = start + STEPS - 1
    require(
        increases, f"{budget.axis} must increase with {label} from {start} to {end}, got {text}"
    )


def _check_closest(variant: Family, budget: Budget) -> None:
    solved = solve(variant, budget)
    values = [solved.solved_value + step for step in (-1, 0, 1)]
    legal_values = [value for value in values if value >= variant.min_solved()]
    misses = {v: abs(budget.deviation(variant.with_solved(v).cost())) for v in legal_values}
    best = min(misses, key=lambda value: misses[value])
    is_closest = misses[solved.solved_value] <= misses[best]
    require(is_closest, f"{solved.name} is not closest to {budget}: {best} is closer")


def check_counted(subject: Subject) -> None:
    """Parameters, multiply-adds and activations equal those of the built network."""
    for variant in subject.variants:
        for size, num_classes in ((subject.image_size, NUM_CLASSES), (224, 1000)):
            cost = variant.cost(size, size, num_classes)
            built = count_module(lambda v=variant, n=num_classes: v.build(n), size, size)  # type: ignore[misc]
            _check_cost(f"{variant.name} at {size}², {num_classes} classes", cost, built)


def _check_cost(where: str, cost: Cost, built: Cost) -> None:
    closed, counted = asdict(cost), asdict(built)
    lines = [
        f"{name} by cost() {closed[name]!r}, of the built network {counted[name]!r}"
        for name in closed
        if closed[name] != counted[name]
    ]
    require(not lines, f"{where}: {'; '.join(lines)}")


def check_grown(subject: Subject) -> None:
    """A network at phi = 0 is itself, and the sizes of a ladder rise."""
    origin = subject.variant
    if type(origin).grow is Family.grow:
        raise unittest.SkipTest(f"{type(origin).__name__} has no grow()")
    rungs = [origin.grow(ALPHA, BETA, phi, "nearest") for phi in range(MAX_PHI + 1)]
    require(rungs[0] == (origin, ""), f"{origin.name} at phi = 0 became {rungs[0]}")
    sizes = [variant.cost().params for variant, _ in rungs]
    rises = sizes == sorted(sizes) and sizes[0] < sizes[-1]
    text = ", ".join(readable(size, "params") for size in sizes)
    require(rises, f"sizes must rise from phi = 0 to {MAX_PHI}, got {text}")
    cells = ladder(origin, ALPHA, BETA, Budget(sizes[-1]))
    grown = [cell.variant for cell in cells][: len(rungs)]
    require(grown == [v for v, _ in rungs][: len(grown)], "grow() gives another network each time")
