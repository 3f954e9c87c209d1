"""What `Study.plan` asks for beyond its cells and seeds, as the steps that do it.

Each ends with a sentence for the reader. Everything is read from the study and the records, so the
same command goes on with the same plan.
"""

from dataclasses import replace

from archsearch.core.plans import Halve, MoreSeeds, Search
from archsearch.core.task import Data
from archsearch.families.internimage_space import MAIN, twelve_numbers
from archsearch.searching.adaptive_plan import Steps
from archsearch.searching.adaptive_seeds import more_seeds
from archsearch.searching.halving import Halving, Rung, cost_range, halving, rungs
from archsearch.searching.search import search
from archsearch.space.grid import Space
from archsearch.space.search_space import Domain
from archsearch.space.search_space import domain_of as domain_of_space
from archsearch.study import Study


def steps_of(study: Study, data: Data) -> Steps[str] | None:
    """The steps of the study's plan; None where its cells and seeds are all."""
    match study.plan:
        case MoreSeeds():
            return _more_seeds(study, data, study.plan)
        case Search():
            return _search(study, data, study.plan)
        case Halve():
            return _halving(study, data)
    return None


def announcement(study: Study) -> str:
    """What the plan will train, said beforehand; empty where its cells and seeds are all."""
    match study.plan:
        case MoreSeeds(max_seeds):
            return f"Networks that are tied get more seeds, up to {max_seeds} each."
        case Search():
            plan = study.plan
            return f"Search: {plan.num_trials} variants, proposed by {plan.sampler}."
        case Halve():
            return _cost_of_halving(study, study.plan)
    return ""


def _cost_of_halving(study: Study, plan: Halve) -> str:
    networks = {c.variant for c in study.cells if c.variant is not None}
    least, most = cost_range(len(networks), _ladder(study, plan), len(study.seeds))
    grid = len(networks) * len(study.seeds)
    verdict = (
        "" if least < grid else ": it can save nothing here, for its pilot is too large a part"
    )
    return f"Halving takes {least:.3g} to {most:.3g} full trainings, the grid {grid}{verdict}."


def _ladder(study: Study, plan: Halve) -> list[Rung]:
    return rungs(study.recipe, plan.rungs, plan.factor, plan.over)


def _more_seeds(study: Study, data: Data, plan: MoreSeeds) -> Steps[str]:
    outcome = yield from more_seeds(study, data, plan.max_seeds)
    return f"Seeds: {outcome.reason}."


def _search(study: Study, data: Data, plan: Search) -> Steps[str]:
    found = yield from search(
        domain_of(study, plan),
        study.recipe,
        data,
        task=study.task,
        num_trials=plan.num_trials,
        sampler=plan.sampler,
        objectives=plan.objectives,
        seed=plan.seed,
        training_seed=study.seeds[0],
    )
    num = len(found.trials)
    end = "; that is every variant there is" if found.exhausted else ""
    front = ", ".join(trial.variant.name for trial in found.front)
    outcome = f"Not beaten: {front}" if front else "None gave a result"
    return f"Search: {num} variant{'' if num == 1 else 's'} tried{end}. {outcome}."


def domain_of(study: Study, plan: Search) -> Domain:
    """What a search study searches."""
    assert study.budget is not None, "a search has a budget"
    budget = replace(study.budget, tolerance=plan.tolerance)
    if plan.over == "twelve":
        return twelve_numbers(budget)
    return domain_of_space(Space(MAIN.like, plan.space), budget)


def _halving(study: Study, data: Data) -> Steps[str]:
    outcome = yield from halving_of(study, data)
    return "Halving: " + "; ".join(outcome.notes) + "."


def halving_of(study: Study, data: Data) -> Steps[Halving]:
    """The steps of a halving study, to what it did."""
    plan = study.plan
    assert isinstance(plan, Halve)
    return halving(
        [cell.variant for cell in study.cells if cell.variant is not None],
        _ladder(study, plan),
        data,
        study.seeds,
        task=study.task,
        measure=study.metric,
        force=plan.force,
    )
