"""Which variant within this budget learns best, without training all of them?"""

from collections.abc import Sequence

from archsearch.core.budget import Budget
from archsearch.core.plans import Numbers, PredictedLatency, Sampler, Search
from archsearch.core.recipe import Recipe
from archsearch.families import template_to_dict
from archsearch.families.internimage_space import SEARCH_SPACE
from archsearch.space.grid import Space
from archsearch.space.search_space import domain_of
from archsearch.studies.family_texts import source_text, study_name
from archsearch.study import About, Study
from archsearch.tasks.classification import CLASSIFICATION

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Section 3.2 (the stacking rules, and the variants that they exclude)",
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
    objectives: Sequence[str] = (CLASSIFICATION.ranking_metric,),
    seed: int = 0,
    data: str = "digits",
    latency: PredictedLatency | None = None,
) -> Study:
    """A search by Optuna: it plans no cells; the records determine the next trial.

    ``space`` holds the family, and the values of its numbers (of InternImage C1, C' and L1, if the
    search is over the four numbers).

    Raises:
        ValueError: no variant of the numbers meets the budget.
    """
    if over == "four" and next(domain_of(space, budget).variants(), None) is None:
        raise ValueError(
            f"no legal variant with {_space_text(space)} is within {budget.tolerance:.0%} of "
            f"{budget}: use other values"
        )
    return Study(
        name=study_name("search" if over == "four" else "search-twelve", space.like),
        question=ABOUT.question,
        source=source_text(space.like, ABOUT.source),
        cells=(),
        recipe=recipe,
        data=data,
        metric=objectives[0],
        budget=budget,
        plan=Search(
            over,
            space.values,
            sampler,
            tuple(objectives),
            seed,
            num_trials,
            budget.tolerance,
            template_to_dict(space.like),
            latency,
        ),
    )


def _space_text(space: Space) -> str:
    """The values as text: ``C1 in (48, 64), C' in (16,) and L1 in (1, 2)``."""
    parts = [f"{space.like.label_of(name)} in {space.values[name]}" for name in space.names]
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
