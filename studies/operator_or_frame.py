"""Is it the operator or the frame: does InternImage need DCNv3, or does a plain convolution do?

The operator is DCNv3, deformable attention or a plain depth-wise convolution, and everything around
it is InternImage's: projections, norms, MLPs, stem, downsampling and stacking rules. C1, C' and L1
are constant, and L3 is solved so that all networks have equal size. So a cheaper operator gets more
blocks, and a difference is that of operator and depth together at one budget.
"""

from dataclasses import replace

from archsearch.core.budget import Budget
from archsearch.core.cell import Cell
from archsearch.core.recipe import Recipe
from archsearch.families.internimage import Variant
from archsearch.space.grid import solve
from archsearch.studies.sizes import SCALES, Size, cell
from archsearch.study import About, Study
from internimage.config import Operator

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="not in the paper; Section 3.1 and Table H compare operators, without intervals",
    command="archsearch study operator-or-frame",
    small="four networks of 1M, five seeds, 15 epochs of the digits: about 8 minutes on two cores",
    full="four networks of T's size, five seeds, 300 epochs of ImageNet-1K each (Table B)",
)

NUM_SEEDS = 5
TOLERANCE = 0.02
"""The largest relative deviation from the size of the network with DCNv3."""

OPERATORS: tuple[tuple[Operator, int], ...] = (
    ("dcnv3", 3), ("deformable-attention", 3), ("depthwise", 3), ("depthwise", 7),
)  # fmt: skip
"""Operator and kernel size K, the control first; attention has K*K points. ConvNeXt, Swin and
RepLKNet have windows of 7x7 or larger, so the plain convolution has 7x7 beside DCNv3's 3x3."""


def study(
    *,
    recipe: Recipe,
    data: str = "digits",
    seeds: tuple[int, ...] = tuple(range(NUM_SEEDS)),
    size: Size = "small",
    origin: Variant | None = None,
) -> Study:
    """The origin with every operator, each with the L3 closest to the size of the first.

    ``origin`` gives C1, C', L1, the other switches, and L3 of the network with DCNv3.

    Raises:
        ValueError: names every operator with which no L3 gives this size within `TOLERANCE`.
    """
    budget, cells = _equal_cells(origin or SCALES[size].origin)
    return Study(
        name="operator-or-frame",
        question=ABOUT.question,
        source=ABOUT.source,
        cells=cells,
        recipe=recipe,
        data=data,
        seeds=seeds,
        budget=budget,
        reports=("operators",),
    )


def _equal_cells(origin: Variant) -> tuple[Budget, tuple[Cell, ...]]:
    frames = [replace(origin, operator=name, kernel_size=kernel) for name, kernel in OPERATORS]
    budget = Budget(frames[0].cost().params, tolerance=TOLERANCE)
    variants = [frames[0], *(solve(frame, budget) for frame in frames[1:])]
    refusals = [
        f"{variant.operator} {variant.kernel_size}x{variant.kernel_size}: the closest L3 is "
        f"{variant.l3}, and {refusal}"
        for variant in variants
        if (refusal := budget.refusal(variant.cost()))
    ]
    if refusals:
        raise ValueError(
            f"no equal size from the origin {origin.name}: {'; '.join(refusals)}. Take an origin "
            "with more blocks in stage 3 (L3)"
        )
    return budget, tuple(
        cell({"operator": variant.operator, "kernel_size": variant.kernel_size}, variant)
        for variant in variants
    )
