"""How should an origin grow: how much depth (alpha) and how much width (beta) at each doubling?"""

from archsearch.core.budget import Budget
from archsearch.core.cell import Cell
from archsearch.core.recipe import Recipe
from archsearch.families.internimage import SCALED_ORIGIN, Variant
from archsearch.paper.table_c import table_c
from archsearch.space.scaling import LADDER_BUDGET, check_factors, ladder
from archsearch.study import About, Study

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Section 3.2 (scaling rules) and supplement C.2 (Table C)",
    command="archsearch scale",
    small="five models of ~100M, two epochs of the digits: tens of minutes on two cores",
    full="five models of ~100M, 300 epochs of ImageNet-1K each (Table B)",
)


def study(
    *,
    recipe: Recipe,
    alpha: float | None = None,
    beta: float | None = None,
    budget: Budget = LADDER_BUDGET,
    origin: Variant = SCALED_ORIGIN,
    rounding: str | None = None,
    data: str = "digits",
    seeds: tuple[int, ...] = (0,),
) -> Study:
    """A ladder phi = 0, 1, 2, ... with ``alpha`` and ``beta``; without them Table C's five pairs.

    The ladder goes from ``origin`` up to ``budget``, by default rounded to the nearest legal
    models. Table C uses its recovered configurations. From another origin it uses its pairs at
    phi = 2, rounded in the same way; phi then determines the size, so there is no budget. All
    models have the origin's block.

    Raises:
        ValueError: a factor is below 1 or only one is given, or as
            `archsearch.space.scaling.ladder` and `archsearch.paper.table_c.table_c`.
    """
    if alpha is None and beta is None:
        name, cells = "table-c", _table_c(origin, rounding)
        limit = budget if _from_paper(origin) else None
    else:
        factors = check_factors(alpha, beta)
        name, cells = "scale", ladder(origin, *factors, budget, rounding or "nearest")
        limit = budget
    return Study(
        name=name,
        question=ABOUT.question,
        source=ABOUT.source,
        cells=cells,
        recipe=recipe,
        data=data,
        seeds=seeds,
        budget=limit,
    )


def _table_c(origin: Variant, rounding: str | None) -> tuple[Cell, ...]:
    """Table C by ``rounding``; by default recovered from the paper's origin, else nearest."""
    return table_c(origin, rounding or ("recovered" if _from_paper(origin) else "nearest"))


def _from_paper(origin: Variant) -> bool:
    return origin.numbers == SCALED_ORIGIN.numbers
