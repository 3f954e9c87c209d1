"""A run as an Optuna study on disk, for optuna-dashboard; and what each number explains."""

from collections.abc import Sequence
from pathlib import Path

from archsearch.results import Results, load
from archsearch.searching.optuna_study import memory_study


def importances(results: Results, measure: str | None = None) -> dict[str, float]:
    """Share of the metric's variance over the run that each number explains (fANOVA), sum 1.

    Empty where there is nothing to explain: fewer than four complete trainings, no number that
    differs, or all values equal. On a budget the numbers are not free of each other (L3 follows
    from C1 and L1), so a share says which number goes with the metric, not which one causes it.

    Raises:
        ValueError: for an unknown metric.
    """
    import optuna

    by = results.study.task.metric(measure or results.study.metric)
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
    by = [results.study.task.metric(name) for name in objectives or (results.study.metric,)]
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
