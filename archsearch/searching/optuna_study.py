"""Trainings as an Optuna study in memory, for the search and for importances.

Only the records are stored; an Optuna study is built from them whenever one is needed.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archsearch.core.family import Family
from archsearch.core.metrics import Metric
from archsearch.study import Record, Trial

if TYPE_CHECKING:
    import optuna


def objective(trial: Trial, record: Record | None, by: Metric) -> float | None:
    """Return the value that a search compares: counted, or measured (None if not complete)."""
    if by.source == "budget":
        return float(getattr(trial.variant.cost(), by.field) / by.scale)
    return by.value_of(record)


def optuna_trial(
    trial: Trial,
    record: Record | None,
    objectives: Sequence[Metric],
    distributions: Mapping[str, Any],
) -> "optuna.trial.FrozenTrial":
    """Return a training as an Optuna trial: complete with its curve, failed, or enqueued.

    A diverged training becomes a failed trial, because it has no value.
    """
    from optuna.trial import TrialState, create_trial

    params = {k: v for k, v in trial.variant.params().items() if k in distributions}
    attributes = {"trial": trial.id, "seed": trial.seed, "epochs": trial.recipe.epochs}
    if record is None:
        fixed = {"fixed_params": params}
        return create_trial(state=TrialState.WAITING, user_attrs=attributes, system_attrs=fixed)
    attributes |= {"status": record.status, "seconds": record.seconds, "error": record.error}
    values = [value for by in objectives if (value := objective(trial, record, by)) is not None]
    complete = record.status == "complete" and len(values) == len(objectives)
    return create_trial(
        state=TrialState.COMPLETE if complete else TrialState.FAIL,
        values=values if complete else None,
        params=params,
        distributions={k: d for k, d in distributions.items() if k in params},
        user_attrs=attributes,
        intermediate_values=_curve(record, objectives[0]) if len(objectives) == 1 else {},
    )


def _curve(record: Record, by: Metric) -> dict[int, float]:
    """Return epoch -> value in the objective's unit; empty for what is not measured by epoch."""
    points = {p["epoch"]: by.value_in(p) for p in record.curve if "epoch" in p}
    return {epoch: value for epoch, value in points.items() if value is not None}


def directions_of(objectives: Sequence[Metric]) -> list[str]:
    """Return Optuna's direction of every objective."""
    return ["maximize" if by.higher_is_better else "minimize" for by in objectives]


def distributions_of(variants: Iterable[Family]) -> dict[str, Any]:
    """Return a distribution for every number or switch in which these variants differ."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    seen: dict[str, set[Any]] = {}
    for variant in variants:
        for name, value in variant.params().items():
            seen.setdefault(name, set()).add(value)
    return {
        name: IntDistribution(min(values), max(values))
        if all(isinstance(v, int) for v in values)
        else CategoricalDistribution(sorted(values, key=str))
        for name, values in seen.items()
        if len(values) > 1
    }


def memory_study(
    trials: Iterable[tuple[Trial, Record | None]],
    objectives: Sequence[Metric],
    distributions: Mapping[str, Any] | None = None,
) -> "optuna.Study":
    """Return an Optuna study of these trainings in memory.

    ``distributions`` default to the numbers and switches that differ.
    """
    import optuna

    listed = list(trials)
    if distributions is None:
        distributions = distributions_of(t.variant for t, _ in listed)
    with quiet():
        study = optuna.create_study(directions=directions_of(objectives))
        study.add_trials([optuna_trial(t, r, objectives, distributions) for t, r in listed])
    return study


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's log line per study and trial."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
