"""Runs of MLflow on a server or in a database.

MLflow reports its use to its makers over the network; that is switched off here, and a server that
does not answer is tried three times. The variables that the user has set come first.
"""

import os
from collections.abc import Iterator, Sequence
from time import time

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

from mlflow.entities import Metric, Param, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from archsearch.trackers.trainings import Training

KEY = "archsearch.key"
"""The tag with the key of a training."""
MAX_PARAMS, MAX_METRICS = 100, 1000
"""MLflow's limits per request."""


def write(trainings: Sequence[Training], target: str) -> int:
    """Write each new training to the tracking URI ``target``; return their number.

    An experiment is named after the archsearch run. A run that an interrupted export left is
    deleted and written again.

    Raises:
        ValueError: MLflow cannot write to the URI.
    """
    try:
        client = MlflowClient(tracking_uri=target)
        names = dict.fromkeys(training.run for training in trainings)
        experiments = {name: _experiment(client, name) for name in names}
        known = {key for one in experiments.values() for key in _known(client, one)}
        new = [training for training in trainings if training.key not in known]
        for training in new:
            _write(client, experiments[training.run], training)
    except (MlflowException, SQLAlchemyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"MLflow cannot write to {target!r} ({reason}): give a tracking URI such as "
            "sqlite:///mlflow.db or http://localhost:5000"
        ) from error
    return len(new)


def _experiment(client: MlflowClient, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if experiment is None else experiment.experiment_id)


def _known(client: MlflowClient, experiment: str) -> Iterator[str]:
    """Yield the keys of the runs that are complete, and delete our incomplete ones."""
    token = None
    while token != "":
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        for run in page:
            if KEY in run.data.tags and RunStatus.is_terminated(
                RunStatus.from_string(run.info.status)
            ):
                yield run.data.tags[KEY]
            elif KEY in run.data.tags:
                client.delete_run(run.info.run_id)
        token = page.token or ""


def _write(client: MlflowClient, experiment: str, training: Training) -> None:
    end = int(time() * 1000)
    start = end - int(training.seconds * 1000)
    tags = {KEY: training.key, "cell": training.cell, **training.outcome}
    run = client.create_run(experiment, start, tags, run_name=training.name).info.run_id
    params = [Param(name, str(value)) for name, value in training.settings.items()]
    metrics = list(_metrics(training, start, end))
    for i in range(0, len(params), MAX_PARAMS):
        client.log_batch(run, params=params[i : i + MAX_PARAMS])
    for i in range(0, len(metrics), MAX_METRICS):
        client.log_batch(run, metrics=metrics[i : i + MAX_METRICS])
    client.set_terminated(run, "FINISHED" if training.complete else "FAILED", end)


def _metrics(training: Training, start: int, end: int) -> Iterator[Metric]:
    """Yield the curve and the final metrics; times in milliseconds."""
    for epoch, elapsed, values in training.curve:
        for name, value in values.items():
            yield Metric(name, value, start + int(elapsed * 1000), epoch)
    for name, value in training.final.items():
        yield Metric(name, value, end, training.last_epoch)
