"""Export of a run to an Optuna database, and the importance of each number."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from archsearch.core.metrics import Metric
from archsearch.results import Results, load
from archsearch.searching.optuna_study import (
    directions_of,
    distributions_of,
    memory_study,
    optuna_trial,
    quiet,
)

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

T = TypeVar("T")

MAX_IN_FOREST = 2000
"""The importances of more trainings are those of a random part, because a forest's time and memory
grow faster than the number of trainings. A forest over fewer trainings attributes more of the noise
to the weaker numbers: of 10,000 synthetic trainings the largest share was 0.86 from 2,000 of them,
0.91 from 4,000."""


def importances(results: Results, measure: str | None = None) -> dict[str, float]:
    """Return the share of the metric's variance that each number explains (fANOVA); the sum is 1.

    Empty if there is nothing to explain: fewer than four complete trainings, no number that
    differs, or all values equal. Under a budget the numbers depend on each other (L3 follows from
    C1 and L1), so a share shows association with the metric, not cause. Of many trainings a random
    part is used (`MAX_IN_FOREST`).

    Raises:
        ValueError: for an unknown metric.
    """
    import optuna

    by = results.study.task.metric(measure or results.study.metric)
    complete = [(t.trial, t.record) for t in results.trials if t.value(by) is not None]
    complete = _at_most(MAX_IN_FOREST, complete)
    study = memory_study(complete, [by])
    values = {trial.value for trial in study.trials}
    if len(complete) < 4 or len(values) < 2 or not study.trials[0].params:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _at_most(number: int, trials: list[T]) -> list[T]:
    """Return a random part of the trials, in their order; all of them if there are fewer."""
    if len(trials) <= number:
        return trials
    picked = np.random.default_rng(0).choice(len(trials), number, replace=False)
    return [trials[int(i)] for i in np.sort(picked)]


def export_optuna(run_dir: str | Path, url: str, objectives: Sequence[str] = ()) -> int:
    """Write a run to a database for optuna-dashboard; return the number of trainings written.

    ``url`` is a database URL of Optuna, such as ``sqlite:///runs.db``. The study is named after
    the run's folder; pending trainings are enqueued. Repeat the call to complete an interrupted
    export, or to add what the run has had since; nothing is written twice.

    Raises:
        ValueError: for an objective that is unknown or of the test split, a database that cannot be
            written or is in memory only, or one whose study of that name is not of this run and
            these objectives.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    results = load(run_dir)
    by = [results.study.task.choosing_metric(n) for n in objectives or (results.study.metric,)]
    listed = [(t.trial, t.record) for t in results.trials]
    distributions = distributions_of(trial.variant for trial, _ in listed)
    trials = [optuna_trial(trial, record, by, distributions) for trial, record in listed]
    try:
        _check_on_disk(url)
        with _closing(url) as storage, quiet():
            return _write(storage, results.name, by, trials)
    except ForeignStudy as error:
        raise ValueError(f"{url} already holds {error}: give another database") from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"cannot write to the database {url!r} ({reason}): give one such as sqlite:///runs.db"
        ) from error


class ForeignStudy(Exception):
    """Raised for a study of the same name that holds something else than this run."""


def _write(
    storage: "RDBStorage", name: str, by: Sequence[Metric], trials: Sequence["FrozenTrial"]
) -> int:
    """Write what the study does not have yet; return the number of trials written.

    Optuna writes a new trial in one transaction. An enqueued trial is filled in first and finished
    last, so that a later call repeats what was interrupted.
    """
    import optuna

    study = optuna.create_study(
        storage=storage, study_name=name, directions=directions_of(by), load_if_exists=True
    )
    stored = study.get_trials(deepcopy=False)
    current = {trial.user_attrs.get("trial"): trial for trial in stored}  # the last one of an id
    _check_same(study, by, stored, trials)
    with warnings.catch_warnings():  # Optuna calls names of objectives experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([metric.name for metric in by])
    changed = [trial for trial in trials if _is_new(trial, current.get(trial.user_attrs["trial"]))]
    for trial in changed:
        earlier = current.get(trial.user_attrs["trial"])
        if earlier is None or earlier.state.is_finished():
            study.add_trial(trial)
        else:
            _finish(storage, earlier, trial)
    return len(changed)


def _is_new(trial: "FrozenTrial", stored: "FrozenTrial | None") -> bool:
    """Return whether the database has no trial of that id, or an earlier state of it."""
    from optuna.trial import TrialState

    if stored is None:
        return True
    if not trial.state.is_finished():
        return bool(stored.state.is_finished())  # it failed, and was made runnable again
    if stored.state != trial.state:
        return True
    return stored.state == TrialState.FAIL and bool(stored.user_attrs != trial.user_attrs)


def _finish(storage: "RDBStorage", stored: "FrozenTrial", trial: "FrozenTrial") -> None:
    """Fill in an enqueued trial, and finish it at the end."""
    from optuna.trial import TrialState

    number = stored._trial_id
    if stored.state == TrialState.WAITING:
        storage.set_trial_state_values(number, TrialState.RUNNING)
    for name, value in trial.params.items():
        distribution = trial.distributions[name]
        internal = distribution.to_internal_repr(value)
        storage.set_trial_param(number, name, internal, distribution)
    for key, attribute in trial.user_attrs.items():
        storage.set_trial_user_attr(number, key, attribute)
    for step, intermediate in trial.intermediate_values.items():
        storage.set_trial_intermediate_value(number, step, intermediate)
    storage.set_trial_state_values(number, trial.state, trial.values)


def _check_same(
    study: "Study", by: Sequence[Metric], stored: Sequence["FrozenTrial"],
    trials: Sequence["FrozenTrial"],
) -> None:  # fmt: skip
    """Refuse a study of the same name that is not an export of this run by these objectives.

    Raises:
        ForeignStudy: saying what the study holds.
    """
    names, ours = [metric.name for metric in by], {t.user_attrs["trial"]: t for t in trials}
    if stored and study.metric_names not in (None, names):
        objectives = ", ".join(study.metric_names or ())
        raise ForeignStudy(f"a study named {study.study_name!r} with the objectives {objectives}")
    if [d.name.lower() for d in study.directions] != directions_of(by):
        raise ForeignStudy(
            f"a study named {study.study_name!r} with objectives of other directions"
        )
    if name := _other_choices(stored, trials):
        raise ForeignStudy(f"a study named {study.study_name!r} with other choices of {name}")
    if any(_contradicts(old, ours.get(old.user_attrs.get("trial"))) for old in stored):
        raise ForeignStudy(f"a study named {study.study_name!r} with other trials or values")


def _other_choices(stored: Sequence["FrozenTrial"], trials: Sequence["FrozenTrial"]) -> str:
    """Return a parameter whose choices differ, which Optuna cannot change; empty if none do."""
    from optuna.distributions import check_distribution_compatibility

    ours = {name: d for trial in trials for name, d in trial.distributions.items()}
    pairs = {(n, d) for old in stored for n, d in old.distributions.items() if n in ours}
    for name, distribution in pairs:
        try:
            check_distribution_compatibility(distribution, ours[name])
        except ValueError:
            return str(name)
    return ""


def _contradicts(stored: "FrozenTrial", trial: "FrozenTrial | None") -> bool:
    """Return whether a stored trial is not of this run, or has a result that the run has not."""
    if trial is None:
        return True
    return stored.values is not None and stored.values != trial.values


@contextmanager
def _closing(url: str) -> Iterator["RDBStorage"]:
    """Yield a database whose connections are closed at the end, which Optuna leaves to chance."""
    from optuna.storages import RDBStorage

    storage = RDBStorage(url)
    try:
        yield storage
    finally:
        storage.engine.dispose()


def _check_on_disk(url: str) -> None:
    """Refuse an SQLite database in memory, which is lost when this process ends.

    Raises:
        ValueError: for such a URL.
        sqlalchemy.exc.ArgumentError: if ``url`` is not a URL.
    """
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    in_memory = (
        not parsed.database
        or ":memory:" in parsed.database
        or "memory" in parsed.query.get("mode", "")
    )
    if parsed.get_backend_name() == "sqlite" and in_memory:
        raise ValueError(
            f"the database must be a file, got {url!r}, which SQLite keeps in memory only: give "
            "one such as sqlite:///runs.db"
        )
