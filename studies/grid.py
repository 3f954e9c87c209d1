"""Which stacking within one budget learns best: width (C1), group width (C') and depth (L1)?"""

from dataclasses import replace

from archsearch.core.budget import Budget
from archsearch.core.cell import Cell
from archsearch.core.recipe import Recipe
from archsearch.families.internimage import ORIGIN, Variant
from archsearch.families.internimage_space import named_space
from archsearch.space.grid import Invalid, Space, plan
from archsearch.studies.family_texts import (
    is_internimage,
    source_text,
    study_name,
)
from archsearch.study import About, Study

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Section 3.2 (stacking rules) and supplement C.1 (Fig. A)",
    command="archsearch grid --budget 30M",
    small="30 cells, two epochs of the digits: minutes on two cores",
    full="30 models of 30M, 300 epochs of ImageNet-1K each (Table B)",
)

BUDGET = Budget(30_000_000)


def study(
    *,
    recipe: Recipe,
    budget: Budget = BUDGET,
    preset: str = "main",
    c1: tuple[int, ...] | None = None,
    group_channels: tuple[int, ...] | None = None,
    l1: tuple[int, ...] | None = None,
    like: Variant = ORIGIN,
    invalid: Invalid = "repair",
    data: str = "digits",
    seeds: tuple[int, ...] = (0,),
) -> Study:
    """The cells of a printed discretization, ``main`` or ``supplement``, solved for ``budget``.

    ``c1``, ``group_channels`` and ``l1`` replace the preset's values; ``like`` gives the block, T's
    by default. The cell that is exactly T also holds the paper's accuracy.

    Raises:
        ValueError: the preset is unknown, the values are not a valid space, or ``invalid`` is
            ``error`` and a cell is not exact.
    """
    values = {"c1": c1, "group_channels": group_channels, "l1": l1}
    space = replace(named_space(preset), like=like)
    space = space.with_values(**{k: v for k, v in values.items() if v is not None})
    return study_of(space, recipe=recipe, budget=budget, invalid=invalid, data=data, seeds=seeds)


def study_of(
    space: Space,
    *,
    recipe: Recipe,
    budget: Budget,
    invalid: Invalid = "repair",
    data: str = "digits",
    seeds: tuple[int, ...] = (0,),
) -> Study:
    """The cells of a space of any family, solved for ``budget``.

    The heatmap's axes are the numbers that vary, in the family's order.

    Raises:
        ValueError: ``invalid`` is ``error`` and a cell is not exact.
    """
    cells = plan(space, budget, invalid)
    return replace(of_cells(space, cells, recipe, data, seeds), budget=budget)


def of_cells(
    space: Space, cells: tuple[Cell, ...], recipe: Recipe, data: str, seeds: tuple[int, ...]
) -> Study:
    """The study of the solved cells of a space."""
    return Study(
        name=study_name("grid", space.like),
        question=ABOUT.question if is_internimage(space.like) else question_of(space),
        source=source_text(space.like, ABOUT.source),
        cells=cells,
        recipe=recipe,
        data=data,
        seeds=seeds,
        axes=axes_of(space),
    )


def axes_of(space: Space) -> tuple[str, ...] | None:
    """The axes of the heatmap: InternImage's as in the paper, of others the numbers that vary."""
    axes = space.like.axes or tuple(space.names)
    if is_internimage(space.like):
        return axes
    return tuple(name for name in axes if len(space.values[name]) > 1) or axes[-1:] or None


def question_of(space: Space) -> str:
    """The question of a grid of another family than InternImage."""
    labels = [space.like.label_of(name) for name in space.names]
    numbers = " and ".join(filter(None, (", ".join(labels[:-1]), *labels[-1:])))
    question = f"Which {type(space.like).__name__} within one budget learns best"
    return f"{question}: {numbers}?" if numbers else f"{question}?"
