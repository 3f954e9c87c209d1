"""Which variant under this budget learns best, found without training them all?"""

from collections.abc import Sequence
from typing import Literal

from archsearch.core.budget import Budget
from archsearch.core.recipe import Recipe
from archsearch.core.study import About, Study
from archsearch.space.grid import Space
from archsearch.space.search_space import SEARCH_SPACE, four_numbers

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Section 3.2 (the stacking rules, and what they give away)",
    command="archsearch search --budget 30M --trials 60",
    small="60 trainings of 30M, two epochs of the digits: half an hour on two cores",
    full="60 models of 30M, 300 epochs of ImageNet-1K each (Table B)",
)

Over = Literal["four", "twelve"]
"""The four numbers under the rules, or all twelve hyper-parameters (C_i, G_i, L_i) free."""


def study(
    *,
    recipe: Recipe,
    budget: Budget,
    num_trials: int = 60,
    over: Over = "four",
    space: Space = SEARCH_SPACE,
    sampler: str = "tpe",
    objectives: Sequence[str] = ("val_accuracy",),
    seed: int = 0,
    data: str = "digits",
) -> Study:
    """A search by Optuna: no cells are planned, the records decide what is trained next.

    ``space`` bounds C1, C' and L1 of the four numbers.

    Raises:
        ValueError: when no variant of the four numbers meets the budget.
    """
    if over == "four" and next(four_numbers(budget, space).variants(), None) is None:
        raise ValueError(
            f"no legal variant with C1 in {space.c1}, C' in {space.group_channels} and L1 in "
            f"{space.l1} is within {budget.tolerance:.0%} of {budget}: give other values"
        )
    return Study(
        name="search" if over == "four" else "search-twelve",
        question=ABOUT.question,
        source=ABOUT.source,
        cells=(),
        recipe=recipe,
        data=data,
        metric=objectives[0],
        budget=str(budget),
        reports=("table",),
        plan={
            "kind": "search",
            "over": over,
            "c1": list(space.c1),
            "group_channels": list(space.group_channels),
            "l1": list(space.l1),
            "sampler": sampler,
            "objectives": list(objectives),
            "seed": seed,
            "num_trials": num_trials,
            "tolerance": budget.tolerance,
        },
    )
