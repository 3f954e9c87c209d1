"""Adaptive search under a budget: over the four numbers, or over all twelve hyper-parameters.

Optuna proposes from the records so far; nothing else is remembered, so a search that was
interrupted proposes the same again. What the rules or the budget forbid, or what was proposed
before, is never trained.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from archsearch.core.family import Family
from archsearch.core.metrics import Metric
from archsearch.core.plans import Sampler
from archsearch.core.recipe import Recipe
from archsearch.core.task import Data, Task
from archsearch.searching.adaptive_plan import Steps
from archsearch.searching.optuna_study import memory_study, objective, quiet
from archsearch.space.search_space import Domain
from archsearch.stats.intervals import pareto
from archsearch.study import Record, Trial
from archsearch.tasks.classification import CLASSIFICATION

if TYPE_CHECKING:
    import optuna

Done = Sequence[tuple[Trial, Record]]

REFUSALS = 100
"""Proposals in a row that may be unusable before the search takes what is left at random."""

LISTABLE = 10_000
"""Choices up to which a domain is small enough to be listed."""


@dataclass(frozen=True)
class Found:
    """What a search tried, in order, and which trainings no other one beats (`pareto`).

    ``exhausted``: every variant of the domain has been tried.
    """

    trials: tuple[Trial, ...]
    front: tuple[Trial, ...]
    exhausted: bool


def search(
    domain: Domain,
    recipe: Recipe,
    data: Data,
    *,
    task: Task = CLASSIFICATION,
    objectives: Sequence[str] | None = None,
    num_trials: int = 60,
    sampler: Sampler = "tpe",
    seed: int = 0,
    batch: int = 4,
    training_seed: int = 0,
) -> Steps[Found]:
    """Propose variants in batches, each batch from the records of all batches before it.

    ``objectives`` are metric names; several give a Pareto front. Waiting for a whole batch is
    what makes proposals the same after an interruption and for any number of workers; it leaves
    workers beyond ``batch`` idle. Each ask has a seed of its own, derived from ``seed``. Drive it
    with `archsearch.searching.adaptive_plan.drive`.

    Raises:
        ValueError: at the first step, naming all that is wrong; later if no variant is found.
    """
    by = _checked(task, sampler, objectives or (task.chooses,), num_trials, batch)
    done: list[tuple[Trial, Record]] = []
    exhausted = False
    while len(done) < num_trials and not exhausted:
        size = min(batch, num_trials - len(done))
        variants = _propose(domain, done, by, sampler, seed, size)
        exhausted = len(variants) < size
        trials = tuple(Trial(v, recipe, data, training_seed, task) for v in variants)
        records = yield trials
        done += [(trial, records[trial.id]) for trial in trials]
    if not done:
        raise ValueError(f"no variant of the space searched meets {domain.budget}: widen either")
    return Found(tuple(t for t, _ in done), _front(done, by), exhausted)


def _checked(
    task: Task, sampler: str, objectives: Sequence[str], num_trials: int, batch: int
) -> tuple[Metric, ...]:
    problems = []
    if sampler not in get_args(Sampler):
        problems.append(f"sampler wants one of {', '.join(get_args(Sampler))}, got {sampler!r}")
    if not objectives or len(set(objectives)) < len(objectives):
        problems.append(f"objectives want different metrics, got {', '.join(objectives) or '-'}")
    if num_trials < 1 or batch < 1:
        problems.append(f"wanted one trial and a batch of one at least, got {num_trials}, {batch}")
    found = []
    for name in objectives:
        try:
            found.append(task.metric(name))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(found)


def _front(done: Done, by: Sequence[Metric]) -> tuple[Trial, ...]:
    points: dict[str, list[float]] = {}
    for trial, record in done:
        values = [value for m in by if (value := objective(trial, record, m)) is not None]
        if record.status == "complete" and len(values) == len(by):
            points[trial.id] = values
    trials = {trial.id: trial for trial, _ in done}
    return tuple(trials[i] for i in pareto(points, [m.higher_is_better for m in by]))


def _propose(
    domain: Domain, done: Done, by: Sequence[Metric], sampler: Sampler, seed: int, size: int
) -> list[Family]:
    """New variants that meet the budget: ``size`` of them, fewer where the domain ends."""
    with quiet():
        study = memory_study(done, by, _distributions(domain, done))
        taken = {trial.variant for trial, _ in done}
        fresh: list[Family] = []
        for number in range(len(done), len(done) + size):
            found = _ask(study, domain, taken, sampler, [seed, number])
            if found is None:
                break
            taken.add(found)
            fresh.append(found)
    return fresh


def _ask(
    study: "optuna.Study", domain: Domain, taken: set[Family], sampler: Sampler, seed: list[int]
) -> Family | None:
    """One proposal; it stays open in ``study``, which keeps the next ones away from it."""
    from optuna.trial import TrialState

    for attempt in range(REFUSALS):
        study.sampler = _sampler(sampler, np.random.SeedSequence([*seed, attempt]))
        trial = study.ask()
        choice = {k: int(_suggest(trial, k, v)) for k, v in domain.choices.items()}
        meeting = domain.meeting(choice)
        if any(variant not in taken for variant in meeting):
            return _nearest(trial, meeting, taken)
        study.tell(trial, state=TrialState.FAIL)
    return _left(domain, taken, np.random.default_rng([*seed, REFUSALS]))


def _nearest(trial: "optuna.Trial", meeting: Sequence[Family], taken: set[Family]) -> Family:
    """The untried variant whose solved number is closest to the one that the sampler wants, among
    those in the budget."""
    wanted = trial.suggest_int(meeting[0].solved, meeting[0].solved_value, meeting[-1].solved_value)
    return min((v for v in meeting if v not in taken), key=lambda v: abs(v.solved_value - wanted))


def _left(domain: Domain, taken: set[Family], rng: np.random.Generator) -> Family | None:
    """One of the variants not tried yet, at random; None where all were."""
    if domain.num_choices > LISTABLE:
        raise ValueError(
            f"{REFUSALS} proposals in a row did not meet {domain.budget} or were tried before: "
            "widen the tolerance or the space"
        )
    left = [variant for variant in domain.variants() if variant not in taken]
    return left[int(rng.integers(len(left)))] if left else None


def _sampler(kind: Sampler, seed: np.random.SeedSequence) -> Any:
    from optuna.samplers import RandomSampler, TPESampler

    number = int(seed.generate_state(1)[0])
    if kind == "random":
        return RandomSampler(seed=number)
    return TPESampler(seed=number, multivariate=True)


def _distribution(values: Sequence[int]) -> Any:
    """Ordered where the values are evenly spaced, as C1 is; a choice among equals otherwise."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    steps = {b - a for a, b in pairwise(values)}
    if len(steps) > 1:
        return CategoricalDistribution(values)
    return IntDistribution(values[0], values[-1], step=steps.pop() if steps else 1)


def _suggest(trial: "optuna.Trial", name: str, values: Sequence[int]) -> Any:
    found = _distribution(values)
    if hasattr(found, "choices"):
        return trial.suggest_categorical(name, found.choices)
    return trial.suggest_int(name, found.low, found.high, step=found.step)


def _distributions(domain: Domain, done: Iterable[tuple[Trial, Record]]) -> dict[str, Any]:
    from optuna.distributions import IntDistribution

    known = {name: _distribution(values) for name, values in domain.choices.items()}
    variants = [trial.variant for trial, _ in done]
    if not variants:
        return known
    deepest = max(variant.params()[variants[0].solved] for variant in variants)
    return {**known, variants[0].solved: IntDistribution(1, deepest)}
