"""The steps of a study's plan: what it trains beyond its cells and seeds.

Each plan ends with a sentence for the reader. Everything is derived from the study and the
records, so the same command resumes the same plan.
"""

from collections.abc import Callable

from archsearch.core.closed_form import cost_of
from archsearch.core.family import Family
from archsearch.core.plans import Halve, MoreSeeds, Search, Tune
from archsearch.core.task import Data
from archsearch.families.naming import family_name
from archsearch.latency.model import features
from archsearch.searching.adaptive_plan import Steps
from archsearch.searching.adaptive_seeds import more_seeds
from archsearch.searching.gate import PILOT_CELLS, Pilot, pilot_by_cost, pilot_by_order, pilot_seeds
from archsearch.searching.halving import HalvingOutcome, cost_range, halving
from archsearch.searching.planned_networks import check_networks, domain_of
from archsearch.searching.rungs import Rung, rungs
from archsearch.searching.search import search
from archsearch.stats.nonnegative import weighted_sum
from archsearch.study import Study


def steps_of(study: Study, data: Data) -> Steps[str] | None:
    """Return the steps of the study's plan; None if it has only cells and seeds."""
    match study.plan:
        case MoreSeeds():
            return _more_seeds(study, data, study.plan)
        case Search():
            return _search(study, data, study.plan)
        case Halve():
            return _halving(study, data)
    return None


def check_plan(study: Study, data: Data) -> None:
    """Check that the study has a trial to begin with, by planning its first batch.

    Raises:
        ValueError: no cell can be trained, or the plan cannot begin; the message says why.
    """
    check_networks(study)
    if (steps := steps_of(study, data)) is not None:
        next(steps, None)


def plan_text(study: Study) -> str:
    """Return what the plan will train; an empty text if the study has only cells and seeds."""
    match study.plan:
        case MoreSeeds(max_seeds):
            return f"Networks that may be the best get more seeds, up to {max_seeds} each."
        case Search():
            plan = study.plan
            return f"Search: {plan.num_trials} variants, proposed by {plan.sampler}."
        case Halve():
            return _halving_cost_text(study, study.plan)
        case Tune():
            return _tuned_text(study)
    return ""


def _tuned_text(study: Study) -> str:
    """Return the learning rate of each family."""
    rates = {
        family_name(cell.variant): f"{cell.settings['lr']:g}"
        for cell in study.cells
        if cell.variant is not None
    }
    return f"Learning rates: {', '.join(f'{name} {rate}' for name, rate in rates.items())}."


def _halving_cost_text(study: Study, plan: Halve) -> str:
    networks = {c.variant for c in study.cells if c.variant is not None}
    num_seeds, pilot = len(study.seeds), min(PILOT_CELLS, len(networks))
    least, most = cost_range(len(networks), _ladder(study, plan), num_seeds, plan.pilot_seeds)
    grid = len(networks) * num_seeds
    warning = "" if least < grid else ": it cannot save anything here, because its pilot is large"
    return (
        f"Halving takes {least:.3g} to {most:.3g} full trainings, the grid {grid}{warning}. Its "
        f"pilot trains {pilot} networks with {plan.pilot_seeds} seed(s), short and in full."
    )


def _ladder(study: Study, plan: Halve) -> list[Rung]:
    return rungs(study.recipe, plan.rungs, plan.factor, plan.over)


def _more_seeds(study: Study, data: Data, plan: MoreSeeds) -> Steps[str]:
    outcome = yield from more_seeds(study, data, plan.max_seeds)
    return f"Seeds: {outcome.reason}."


def _search(study: Study, data: Data, plan: Search) -> Steps[str]:
    outcome = yield from search(
        domain_of(study, plan),
        study.recipe,
        data,
        task=study.task,
        num_trials=plan.num_trials,
        sampler=plan.sampler,
        objectives=plan.objectives,
        seed=plan.seed,
        training_seed=study.seeds[0],
        latency=_latency(study, data, plan),
    )
    num = len(outcome.trials)
    end = "; no other variant was found" if outcome.exhausted else ""
    names = ", ".join(trial.variant.name for trial in outcome.front)
    front = "Best" if len(plan.objectives) == 1 else "Pareto front"
    best = f"{front}: {names}" if names else "No variant gave a result"
    return f"Search: {num} variant{'' if num == 1 else 's'} tried{end}. {best}."


def _latency(study: Study, data: Data, plan: Search) -> Callable[[Family], float] | None:
    """Return the prediction of a search's latency; None without that objective."""
    if plan.latency is None:
        return None
    rates, size = plan.latency.rates, study.recipe.image_size
    return lambda variant: weighted_sum(rates, features(variant, size, data.num_classes))


def _halving(study: Study, data: Data) -> Steps[str]:
    outcome = yield from halving_of(study, data)
    return "Halving: " + "; ".join(outcome.notes) + "."


def halving_of(study: Study, data: Data) -> Steps[HalvingOutcome]:
    """Return the steps of a halving study."""
    plan = study.plan
    assert isinstance(plan, Halve)
    macs = {
        cell.variant: (cell.cost or cost_of(cell.variant)).macs
        for cell in study.cells
        if cell.variant is not None
    }
    cells = pilot_by_order(tuple(macs)) if plan.pilot_seeds == 1 else pilot_by_cost(macs)
    return halving(
        tuple(macs),
        _ladder(study, plan),
        data,
        study.seeds,
        Pilot(cells, pilot_seeds(study.seeds, plan.pilot_seeds)),
        task=study.task,
        measure=study.metric,
        force=plan.force,
    )
