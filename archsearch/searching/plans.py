"""What `Study.plan` asks for beyond its cells and seeds, as the steps that do it.

Each ends with a sentence for the reader. Everything is read from the study and the records, so the
same command goes on with the same plan.
"""

from archsearch.core.budget import Budget
from archsearch.core.study import Data, Study
from archsearch.searching.adaptive_plan import Steps
from archsearch.searching.adaptive_seeds import more_seeds
from archsearch.searching.halving import Halving, Rung, cost_range, halving, rungs
from archsearch.searching.search import search
from archsearch.space.grid import Space
from archsearch.space.search_space import Domain, four_numbers, twelve_numbers


def steps_of(study: Study, data: Data) -> Steps[str] | None:
    """The steps of the study's plan; None where its cells and seeds are all.

    Raises:
        ValueError: for a plan of a kind that this version does not know.
    """
    if not study.plan:
        return None
    kinds = {"more-seeds": _more_seeds, "search": _search, "halving": _halving}
    kind = study.plan.get("kind")
    if kind not in kinds:
        raise ValueError(f"a plan is one of {', '.join(kinds)}, got {kind!r}")
    return kinds[kind](study, data)


def announcement(study: Study) -> str:
    """What the plan will train, said beforehand; empty where its cells and seeds are all."""
    plan, networks = study.plan, {c.variant for c in study.cells if c.variant is not None}
    kind = plan.get("kind")
    if kind == "more-seeds":
        return f"Networks that are tied get more seeds, up to {study.max_seeds} each."
    if kind == "search":
        return f"Search: {plan['num_trials']} variants, proposed by {plan['sampler']}."
    if kind != "halving":
        return ""
    least, most = cost_range(len(networks), _ladder(study), len(study.seeds))
    grid = len(networks) * len(study.seeds)
    verdict = (
        "" if least < grid else ": it can save nothing here, for its pilot is too large a part"
    )
    return f"Halving takes {least:.3g} to {most:.3g} full trainings, the grid {grid}{verdict}."


def _ladder(study: Study) -> list[Rung]:
    return rungs(study.recipe, study.plan["rungs"], study.plan["factor"], study.plan["over"])


def _more_seeds(study: Study, data: Data) -> Steps[str]:
    plan = yield from more_seeds(study, data, study.plan["max_seeds"])
    return f"Seeds: {plan.reason}."


def _search(study: Study, data: Data) -> Steps[str]:
    plan = study.plan
    found = yield from search(
        domain_of(study),
        study.recipe,
        data,
        num_trials=plan["num_trials"],
        sampler=plan["sampler"],
        objectives=plan["objectives"],
        seed=plan["seed"],
        training_seed=study.seeds[0],
    )
    num = len(found.trials)
    end = "; that is every variant there is" if found.exhausted else ""
    front = ", ".join(trial.variant.name for trial in found.front)
    outcome = f"Not beaten: {front}" if front else "None gave a result"
    return f"Search: {num} variant{'' if num == 1 else 's'} tried{end}. {outcome}."


def domain_of(study: Study) -> Domain:
    """What a search study searches."""
    plan = study.plan
    budget = Budget.parse(study.budget, plan["tolerance"])
    if plan["over"] == "twelve":
        return twelve_numbers(budget)
    space = Space(tuple(plan["c1"]), tuple(plan["group_channels"]), tuple(plan["l1"]))
    return four_numbers(budget, space)


def _halving(study: Study, data: Data) -> Steps[str]:
    outcome = yield from halving_of(study, data)
    return "Halving: " + "; ".join(outcome.notes) + "."


def halving_of(study: Study, data: Data) -> Steps[Halving]:
    """The steps of a halving study, to what it did."""
    return halving(
        [cell.variant for cell in study.cells if cell.variant is not None],
        _ladder(study),
        data,
        study.seeds,
        force=study.plan["force"],
        measure=study.metric,
    )
