"""Whether the networks of a user's family can be trained, and cost what its closed form says.

Of a plan the smallest and the largest network are checked. This module imports torch only to
build what was not built before.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import partial
from operator import itemgetter
from typing import Any

from archsearch.core.cell import Cell
from archsearch.core.closed_form import NUM_CLASSES, cost_of, has_closed_form
from archsearch.core.counted_cost import counted, kept
from archsearch.core.family import Family, family_to_dict
from archsearch.core.recipe import Recipe


def check_cells(cells: Iterable[Cell], recipe: Recipe, classifies: bool) -> None:
    """Check the smallest network of each family and of its switches, then the largest.

    Raises:
        ValueError: as `check_variant`, for all families together.
    """
    problems = []
    for smallest, largest in _groups(cells):
        checked = partial(_problems, recipe=recipe, classifies=classifies)
        problems += list(checked(smallest)) or list(checked(largest))
    if problems:
        raise ValueError("\n".join(problems))


def check_variant(variant: Family, recipe: Recipe, classifies: bool = True) -> None:
    """Check that the network can be built and run, and is what its closed form says.

    ``classifies`` says that the network has to return a value per class.

    Raises:
        ValueError: it cannot, or is not; the message has wanted and got.
    """
    if problems := list(_problems(variant, recipe, classifies)):
        raise ValueError("\n".join(problems))


def _groups(cells: Iterable[Cell]) -> Iterator[tuple[Family, Family]]:
    """The smallest and the largest variant of each group of cells that differ only in numbers."""
    groups: dict[str, list[tuple[int, Family]]] = {}
    for cell in cells:
        if cell.variant is not None and cell.cost is not None:
            group = json.dumps([family_to_dict(type(cell.variant)), cell.variant.switches])
            groups.setdefault(group, []).append((cell.cost.params, cell.variant))
    for sized in groups.values():
        smallest, largest = (choose(sized, key=itemgetter(0)) for choose in (min, max))
        yield smallest[1], largest[1]


def _problems(variant: Family, recipe: Recipe, classifies: bool) -> Iterator[str]:
    if recipe.gradient_checkpointing and not variant.has_gradient_checkpointing:
        yield (
            f"{type(variant).__name__} has no gradient checkpointing, which recipe {recipe.name} "
            "sets: add --set gradient_checkpointing=false"
        )
    if variant.closed_form_is_tested:
        return
    try:
        yield from _differences(variant, recipe)
        if classifies:
            yield from _wrong_output(variant, recipe)
    except ValueError as error:
        yield str(error)


def _differences(variant: Family, recipe: Recipe) -> Iterator[str]:
    """How the network differs from its closed form, or that it has nothing to train."""
    size = recipe.image_size
    built = counted(variant, size, size, NUM_CLASSES)
    name = f"{type(variant).__name__} {variant.name}"
    if not built["params"]:
        yield f"{name} has no parameters: there is nothing to train"
    if not has_closed_form(type(variant)):
        return
    cost = cost_of(variant, size)
    axes = ("params", "macs") if built["is_complete"] else ("params",)
    wanted, got = (
        " and ".join(f"{number:,} {axis}" for axis, number in zip(axes, numbers, strict=True))
        for numbers in ([getattr(cost, axis) for axis in axes], [built[axis] for axis in axes])
    )
    if wanted != got:
        yield (
            f"{name}: cost({size}, {size}, {NUM_CLASSES}) gives {wanted}, but the built network "
            f"has {got}: correct cost, or delete it, and costs are counted"
        )


def _wrong_output(variant: Family, recipe: Recipe) -> Iterator[str]:
    """What the network returns in training, if it is not a value per image and class."""
    from_recipe = type(variant).build_for is not Family.build_for
    text = _digest(vars(recipe)) if from_recipe else ""
    size = recipe.image_size

    def output() -> dict[str, str]:
        from archsearch.core.meta_cost import training_output

        build = partial(variant.build_for, NUM_CLASSES, recipe)
        return {"output": training_output(build, size, size)}

    got = kept(variant, f"output {size} {NUM_CLASSES} {text}", output)["output"]
    wanted = str((2, NUM_CLASSES))
    if got != wanted:
        yield (
            f"{type(variant).__name__} {variant.name} returns {got} for 2 images and "
            f"{NUM_CLASSES} classes, wanted {wanted}, a value per image and class"
        )


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=repr).encode()).hexdigest()
