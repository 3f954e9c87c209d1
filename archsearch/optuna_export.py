"""Export of a run to an Optuna database, and the importance of each number."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from archsearch.results import Results, load
from archsearch.searching.optuna_study import memory_study

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

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
    the run's folder; pending trainings are enqueued.

    Raises:
        ValueError: for an unknown objective, a database that cannot be written or is in memory
            only, or one that already has a study of that name.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    results = load(run_dir)
    by = [results.study.task.metric(name) for name in objectives or (results.study.metric,)]
    trials = [(t.trial, t.record) for t in results.trials]
    try:
        _check_on_disk(url)
        with _closing(url) as storage:
            memory_study(trials, by, storage=storage, study_name=results.name)
    except optuna.exceptions.DuplicatedStudyError:
        raise ValueError(
            f"{url} already holds a study named {results.name!r}: give another database"
        ) from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"cannot write to the database {url!r} ({reason}): give one such as sqlite:///runs.db"
        ) from error
    return len(trials)


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
