"""Which variant under this budget learns best, found without training them all?"""

from collections.abc import Sequence

from archsearch.budget import Budget
from archsearch.recipe import Recipe
from archsearch.study import About, Study

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Section 3.2 (the stacking rules, and what they give away)",
    command="archsearch search --budget 30M --trials 60",
    small="60 trainings of 30M, two epochs of the digits: half an hour on two cores",
    full="60 models of 30M, 300 epochs of ImageNet-1K each (Table B)",
)

SPACES = ("four", "twelve")
"""The four numbers under the rules, or all twelve hyper-parameters (C_i, G_i, L_i) free."""


def study(
    *,
    recipe: Recipe,
    budget: Budget,
    num_trials: int = 60,
    over: str = "four",
    sampler: str = "tpe",
    objectives: Sequence[str] = ("val_accuracy",),
    seed: int = 0,
    data: str = "digits",
) -> Study:
    """A search by Optuna: no cells are planned, the records decide what is trained next.

    Raises:
        ValueError: for an unknown space.
    """
    if over not in SPACES:
        raise ValueError(f"the space wants one of {', '.join(SPACES)}, got {over!r}")
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
            "sampler": sampler,
            "objectives": list(objectives),
            "seed": seed,
            "num_trials": num_trials,
            "tolerance": budget.tolerance,
        },
    )
