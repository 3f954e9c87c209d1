"""Which variant under this budget learns best, found without training them all?"""

from collections.abc import Sequence

from archsearch.core.budget import Budget
from archsearch.core.plans import Numbers, Sampler, Search
from archsearch.core.recipe import Recipe
from archsearch.families.internimage_space import SEARCH_SPACE
from archsearch.space.grid import Space
from archsearch.space.search_space import domain_of
from archsearch.study import About, Study
from archsearch.tasks.classification import CLASSIFICATION

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Section 3.2 (the stacking rules, and what they give away)",
    command="archsearch search --budget 30M --trials 60",
    small="60 trainings of 30M, two epochs of the digits: half an hour on two cores",
    full="60 models of 30M, 300 epochs of ImageNet-1K each (Table B)",
)


def study(
    *,
    recipe: Recipe,
    budget: Budget,
    num_trials: int = 60,
    over: Numbers = "four",
    space: Space = SEARCH_SPACE,
    sampler: Sampler = "tpe",
    objectives: Sequence[str] = (CLASSIFICATION.chooses,),
    seed: int = 0,
    data: str = "digits",
) -> Study:
    """A search by Optuna: no cells are planned, the records decide what is trained next.

    ``space`` bounds C1, C' and L1 of the four numbers.

    Raises:
        ValueError: when no variant of the four numbers meets the budget.
    """
    if over == "four" and next(domain_of(space, budget).variants(), None) is None:
        raise ValueError(
            f"no legal variant with {_listed(space)} is within {budget.tolerance:.0%} of {budget}: "
            "give other values"
        )
    return Study(
        name="search" if over == "four" else "search-twelve",
        question=ABOUT.question,
        source=ABOUT.source,
        cells=(),
        recipe=recipe,
        data=data,
        metric=objectives[0],
        budget=budget,
        plan=Search(
            over, space.values, sampler, tuple(objectives), seed, num_trials, budget.tolerance
        ),
    )


def _listed(space: Space) -> str:
    """``C1 in (48, 64), C' in (16,) and L1 in (1, 2)``."""
    parts = [f"{space.like.label_of(name)} in {space.values[name]}" for name in space.names]
    return " and ".join((", ".join(parts[:-1]), parts[-1]))
