"""How should an origin grow: how much depth (alpha) and how much width (beta) at each doubling?"""

from archsearch.core.budget import Budget
from archsearch.core.cell import Cell
from archsearch.core.family import Family
from archsearch.core.numbers import quoted
from archsearch.core.recipe import Recipe
from archsearch.families.compound_scaling import EQUAL_SIZE, equal_size_budget
from archsearch.families.internimage import SCALED_ORIGIN, Variant
from archsearch.paper.table_c import PHI, table_c
from archsearch.space.scaling import LADDER_BUDGET, check_factors, ladder
from archsearch.studies.family_texts import source_text, study_name
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
    origin: Family = SCALED_ORIGIN,
    rounding: str | None = None,
    phi: int | None = None,
    data: str = "digits",
    seeds: tuple[int, ...] = (0,),
) -> Study:
    """A ladder phi = 0, 1, 2, ... with ``alpha`` and ``beta``; without them Table C's five pairs.

    The ladder goes from ``origin`` up to ``budget``, by default rounded to the nearest legal
    models. Table C uses its recovered configurations. From another origin, or at another ``phi``
    than 2, it uses its pairs, rounded in the same way; phi then determines the size, so there is no
    budget. The rounding ``equal-size`` gives every pair at a step of phi the same size. All models
    have the origin's block. Table C is InternImage's: a ladder of another family has both factors.

    Raises:
        ValueError: a factor is below 1 or only one is given, phi is given with factors, or as
            `archsearch.space.scaling.ladder` and `archsearch.paper.table_c.table_c`.
    """
    if alpha is None and beta is None and isinstance(origin, Variant):
        recovered = _from_paper(origin) and phi in (None, PHI)
        rounding = rounding or ("recovered" if recovered else "nearest")
        name, cells = "table-c", table_c(origin, rounding, PHI if phi is None else phi)
        limit = _size_of_table_c(cells, origin, rounding, budget if recovered else None)
    elif phi is not None:
        raise ValueError(
            f"phi chooses the step of Table C, got {quoted(phi)} with alpha and beta: leave it "
            "out, a ladder has every step up to its budget"
        )
    else:
        factors = check_factors(alpha, beta)
        name, cells = "scale", ladder(origin, *factors, budget, rounding or "nearest")
        limit = budget
    return Study(
        name=study_name(name, origin),
        question=ABOUT.question,
        source=source_text(origin, ABOUT.source),
        cells=cells,
        recipe=recipe,
        data=data,
        seeds=seeds,
        budget=limit,
    )


def _size_of_table_c(
    cells: tuple[Cell, ...], origin: Variant, rounding: str, printed: Budget | None
) -> Budget | None:
    """The size that all pairs have with ``equal-size``, else the ``printed`` one."""
    if rounding != EQUAL_SIZE:
        return printed
    return equal_size_budget(origin, int(cells[0].requested["phi"]))


def _from_paper(origin: Variant) -> bool:
    return origin.numbers == SCALED_ORIGIN.numbers
