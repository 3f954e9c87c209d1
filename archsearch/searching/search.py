"""Adaptive search under a budget: over the four numbers, or over all twelve hyper-parameters.

Optuna proposes variants from the records so far. Nothing else is stored, so an interrupted search
makes the same proposals again. A variant that breaks a rule, misses the budget or was tried before
is never trained.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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

Records = Sequence[tuple[Trial, Record]]

MAX_REFUSALS = 100
"""After this many unusable proposals in a row the search picks an untried variant at random."""

MAX_LISTED = 10_000
"""A domain of at most this many choices can be listed."""


@dataclass(frozen=True)
class SearchOutcome:
    """The trials of a search in order, and its Pareto front (`pareto`).

    ``exhausted`` means that no other variant was found: every one of the domain was tried, or of
    a large domain `MAX_REFUSALS` proposals in a row did not meet the budget or were tried before.
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
    latency: Callable[[Family], float] | None = None,
) -> Steps[SearchOutcome]:
    """Propose variants in batches; each batch uses the records of all earlier batches.

    ``objectives`` are metric names; several give a Pareto front. Because a batch must finish before
    the next one, proposals are the same after an interruption and for any number of workers;
    workers beyond ``batch`` are idle. Each proposal has its own seed, derived from ``seed``.
    ``latency`` predicts the seconds of a variant, for that objective. Drive it with
    `archsearch.searching.adaptive_plan.drive`.

    Raises:
        ValueError: at the first step, naming every wrong argument, or if no variant is found.
    """
    by = _metrics(task, sampler, objectives or (task.ranking_metric,), num_trials, batch)
    done: list[tuple[Trial, Record]] = []
    exhausted = False
    while len(done) < num_trials and not exhausted:
        size = min(batch, num_trials - len(done))
        variants = _propose(domain, done, by, sampler, seed, size)
        exhausted = len(variants) < size
        if not variants:
            break
        trials = tuple(Trial(v, recipe, data, training_seed, task) for v in variants)
        records = yield trials
        done += [(t, _with_latency(t.variant, records[t.id], latency)) for t in trials]
    if not done:
        raise ValueError(
            f"no variant of the search space was found that meets {domain.budget}: widen the "
            "tolerance or the space"
        )
    return SearchOutcome(tuple(t for t, _ in done), _front(done, by), exhausted)


def _with_latency(
    variant: Family, record: Record, latency: Callable[[Family], float] | None
) -> Record:
    if latency is None:
        return record
    return replace(record, metrics={**record.metrics, "latency_seconds": latency(variant)})


def _metrics(
    task: Task, sampler: str, objectives: Sequence[str], num_trials: int, batch: int
) -> tuple[Metric, ...]:
    """Return the metrics of the objectives, or report every wrong argument."""
    errors, metrics = [], []
    if sampler not in get_args(Sampler):
        errors.append(f"sampler must be one of {', '.join(get_args(Sampler))}, got {sampler!r}")
    if not objectives or len(set(objectives)) < len(objectives):
        errors.append(f"objectives must be different metrics, got {', '.join(objectives) or '-'}")
    if num_trials < 1 or batch < 1:
        errors.append(f"trials and batch must be at least 1, got {num_trials} and {batch}")
    for name in objectives:
        try:
            metrics.append(task.choosing_metric(name))
        except ValueError as error:
            errors.append(str(error))
    if errors:
        raise ValueError("; ".join(errors))
    return tuple(metrics)


def _front(done: Records, by: Sequence[Metric]) -> tuple[Trial, ...]:
    points: dict[str, list[float]] = {}
    for trial, record in done:
        values = [value for m in by if (value := objective(trial, record, m)) is not None]
        if record.status == "complete" and len(values) == len(by):
            points[trial.id] = values
    trials = {trial.id: trial for trial, _ in done}
    return tuple(trials[i] for i in pareto(points, [m.higher_is_better for m in by]))


def _propose(
    domain: Domain, done: Records, by: Sequence[Metric], sampler: Sampler, seed: int, size: int
) -> list[Family]:
    """Return ``size`` untried variants that meet the budget; fewer if the domain has no more."""
    with quiet():
        study = memory_study(done, by, _distributions(domain, done))
        tried = {trial.variant for trial, _ in done}
        proposals: list[Family] = []
        for number in range(len(done), len(done) + size):
            variant = _propose_one(study, domain, tried, sampler, [seed, number])
            if variant is None:
                break
            tried.add(variant)
            proposals.append(variant)
    return proposals


def _propose_one(
    study: "optuna.Study", domain: Domain, tried: set[Family], sampler: Sampler, seed: list[int]
) -> Family | None:
    """Return one proposal; it stays open in ``study``, so that the sampler avoids it next time."""
    from optuna.trial import TrialState

    if _is_exhausted(domain, tried):
        return None
    for attempt in range(MAX_REFUSALS):
        study.sampler = _sampler(sampler, np.random.SeedSequence([*seed, attempt]))
        trial = study.ask(_choice_distributions(domain))
        meeting = domain.variants_of(trial.params)
        if any(variant not in tried for variant in meeting):
            return _nearest(trial, meeting, tried)
        study.tell(trial, state=TrialState.FAIL)
    return _random_untried(domain, tried, np.random.default_rng([*seed, MAX_REFUSALS]))


def _nearest(trial: "optuna.Trial", meeting: Sequence[Family], tried: set[Family]) -> Family:
    """Return the untried variant whose solved number is closest to the sampler's suggestion.

    ``meeting`` are the variants within the budget, by their solved number.
    """
    first, last = meeting[0], meeting[-1]
    target = trial.suggest_int(first.solved, first.solved_value, last.solved_value)
    return min((v for v in meeting if v not in tried), key=lambda v: abs(v.solved_value - target))


def _is_exhausted(domain: Domain, tried: set[Family]) -> bool:
    """Return whether every variant was tried; False if the domain is too large to list."""
    return domain.num_choices <= MAX_LISTED and all(v in tried for v in domain.variants())


def _random_untried(domain: Domain, tried: set[Family], rng: np.random.Generator) -> Family | None:
    """Return a random variant that was not tried yet; None if the domain is too large to list."""
    if domain.num_choices > MAX_LISTED:
        return None
    left = [variant for variant in domain.variants() if variant not in tried]
    return left[int(rng.integers(len(left)))]


def _sampler(kind: Sampler, seed: np.random.SeedSequence) -> Any:
    from optuna.samplers import RandomSampler, TPESampler

    number = int(seed.generate_state(1)[0])
    if kind == "random":
        return RandomSampler(seed=number)
    return TPESampler(seed=number, multivariate=True)


def _distribution(values: Sequence[int]) -> Any:
    """Return an ordered distribution for evenly spaced values such as C1's, else a categorical."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    steps = {b - a for a, b in pairwise(values)}
    if len(steps) > 1:
        return CategoricalDistribution(values)
    return IntDistribution(values[0], values[-1], step=steps.pop() if steps else 1)


def _distributions(domain: Domain, done: Records) -> dict[str, Any]:
    """Return the distributions of the choices and, once a variant is done, of the solved number."""
    from optuna.distributions import IntDistribution

    distributions = _choice_distributions(domain)
    variants = [trial.variant for trial, _ in done]
    if not variants:
        return distributions
    deepest = max(variant.params()[variants[0].solved] for variant in variants)
    return {**distributions, variants[0].solved: IntDistribution(1, deepest)}


def _choice_distributions(domain: Domain) -> dict[str, Any]:
    return {name: _distribution(values) for name, values in domain.choices.items()}
