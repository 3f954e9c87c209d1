"""A run as an Optuna study: for importances, for the search, and for optuna-dashboard.

The records are the truth; an Optuna study is made from them whenever one is needed.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.core.metrics import Metric, metric
from archsearch.core.study import Record, Trial
from archsearch.families.internimage import AnyVariant, Variant
from archsearch.families.internimage_cost import count
from archsearch.results import Results, load

if TYPE_CHECKING:
    import optuna

Params = dict[str, Any]


def params_of(variant: AnyVariant) -> Params:
    """The numbers and switches of a variant under the names that Optuna sees.

    A free variant's G_i appear as the channels per group, ``group_channels_i`` = C_i / G_i.
    """
    if isinstance(variant, Variant):
        return asdict(variant)
    values = asdict(variant)
    channels, groups, depths = (values.pop(name) for name in ("channels", "groups", "depths"))
    widths = [c // g for c, g in zip(channels, groups, strict=True)]
    lists = {"c": channels, "group_channels_": widths, "l": depths}
    free = {f"{name}{i}": v for name, many in lists.items() for i, v in enumerate(many, 1)}
    return {**free, **values}


def objective(trial: Trial, record: Record | None, by: Metric) -> float | None:
    """What a search compares: measured (None without a complete record) or counted."""
    if by.source == "budget":
        return float(getattr(count(trial.variant.config()), by.field) / by.scale)
    return by.of(record)


def frozen(
    trial: Trial,
    record: Record | None,
    objectives: Sequence[Metric],
    distributions: Mapping[str, Any],
) -> "optuna.trial.FrozenTrial":
    """One training as an Optuna trial: complete with its curve, failed, or waiting (enqueued).

    A diverged training counts as failed: it has no value, and none is made up.
    """
    from optuna.trial import TrialState, create_trial

    params = {k: v for k, v in params_of(trial.variant).items() if k in distributions}
    attributes = {"trial": trial.id, "seed": trial.seed, "epochs": trial.recipe.epochs}
    if record is None:
        waiting = {"fixed_params": params}
        return create_trial(state=TrialState.WAITING, user_attrs=attributes, system_attrs=waiting)
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
    points = {p["epoch"]: p.get(by.field) for p in record.curve if "epoch" in p}
    return {epoch: value for epoch, value in points.items() if value is not None}


def distributions_of(variants: Iterable[AnyVariant]) -> dict[str, Any]:
    """An Optuna distribution per number or switch that differs between these variants."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    seen: dict[str, set[Any]] = {}
    for variant in variants:
        for name, value in params_of(variant).items():
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
    **where: Any,
) -> "optuna.Study":
    """An Optuna study of these trainings, in memory unless ``where`` (storage, study_name) says
    otherwise. ``distributions`` default to the numbers and switches that differ."""
    import optuna

    listed = list(trials)
    found = (
        distributions_of(t.variant for t, _ in listed) if distributions is None else distributions
    )
    directions = ["maximize" if by.higher_is_better else "minimize" for by in objectives]
    with quiet():
        study = optuna.create_study(directions=directions, **where)
        study.add_trials([frozen(t, r, objectives, found) for t, r in listed])
    return study


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's line per study and trial."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def importances(results: Results, measure: str | None = None) -> dict[str, float]:
    """Share of the metric's variance over the run that each number explains (fANOVA), sum 1.

    Empty where there is nothing to explain: fewer than four complete trainings, no number that
    differs, or all values equal. On a budget the numbers are not free of each other (L3 follows
    from C1 and L1), so a share says which number goes with the metric, not which one causes it.

    Raises:
        ValueError: for an unknown metric.
    """
    import optuna

    by = metric(measure or results.study.metric)
    done = [(t.trial, t.record) for t in results.trials if t.value(by) is not None]
    study = memory_study(done, [by])
    values = {trial.value for trial in study.trials}
    if len(done) < 4 or len(values) < 2 or not study.trials[0].params:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def export_optuna(run_dir: str | Path, url: str, objectives: Sequence[str] = ()) -> int:
    """Write a run, pending trainings enqueued, to a database for optuna-dashboard.

    ``url`` is Optuna's, such as ``sqlite:///runs.db``; the study is named after the run's folder.
    The number of trainings written.

    Raises:
        ValueError: for an unknown objective, a database that cannot be written or would not be
            kept, or one that has a study of that name.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    results = load(run_dir)
    by = [metric(name) for name in objectives or (results.study.metric,)]
    trials = [(t.trial, t.record) for t in results.trials]
    try:
        _check_kept(url)
        memory_study(trials, by, storage=url, study_name=results.name)
    except optuna.exceptions.DuplicatedStudyError:
        raise ValueError(
            f"{url} already holds a study named {results.name!r}: give another database"
        ) from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"cannot write to the database {url!r} ({reason}): wanted one such as sqlite:///runs.db"
        ) from error
    return len(trials)


def _check_kept(url: str) -> None:
    """SQLite takes a URL without a file's name, and forgets all when this process ends.

    Raises:
        ValueError: for such a URL.
        sqlalchemy.exc.ArgumentError: for what is no URL.
    """
    from sqlalchemy.engine import make_url

    place = make_url(url)
    in_memory = (
        not place.database
        or ":memory:" in place.database
        or "memory" in place.query.get("mode", "")
    )
    if place.get_backend_name() == "sqlite" and in_memory:
        raise ValueError(
            f"wanted a database that is kept, got {url!r}, which SQLite holds in memory only: name "
            "a file, such as sqlite:///runs.db"
        )
