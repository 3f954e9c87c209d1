"""Runs of MLflow, read back from its database."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

from archsearch.trackers import export_to, to_mlflow
from archsearch.trackers.to_mlflow import KEY
from tests.trackers import runs

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, of SQLAlchemy


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database with MLflow's tables, which takes seconds to create."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "m.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path.read_bytes()


@pytest.fixture
def uri(tmp_path: Path, empty: bytes) -> str:
    (tmp_path / "m.db").write_bytes(empty)
    return f"sqlite:///{tmp_path}/m.db"


def client_of(uri: str) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def stored(uri: str) -> list[Any]:
    client = client_of(uri)
    return list(client.search_runs([client.get_experiment_by_name("g").experiment_id]))


def test_a_training_is_a_run_with_its_settings_curve_and_state(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_mlflow, "MAX_METRICS", 2)
    monkeypatch.setattr(to_mlflow, "MAX_PARAMS", 10)
    assert export_to("mlflow", runs.make(tmp_path / "g").path, uri) == (3, 1)
    by_status = {run.data.tags["status"]: run for run in stored(uri)}
    states = {status: run.info.status for status, run in by_status.items()}
    assert states == {"complete": "FINISHED", "diverged": "FAILED", "failed": "FAILED"}
    run = by_status["complete"]
    assert run.data.params["recipe.lr"] == "0.1"
    assert run.data.params["seed"] == "0"
    assert run.data.metrics["final/val_accuracy"] == 80.0
    assert run.info.run_name == f"{run.data.tags['cell']}, seed 0"
    assert run.info.end_time - run.info.start_time == 6000
    history = client_of(uri).get_metric_history(run.info.run_id, "val_accuracy")
    points = [(m.step, m.value, m.timestamp - run.info.start_time) for m in history]
    assert sorted(points) == [(1, 60.0, 2000), (2, 80.0, 5000)]


def test_repeating_adds_what_is_new(tmp_path: Path, uri: str) -> None:
    folder = runs.make(tmp_path / "g")
    export_to("mlflow", folder.path, uri)
    assert export_to("mlflow", folder.path, uri) == (0, 1)
    runs.retry_the_failed(folder)
    assert export_to("mlflow", folder.path, uri) == (2, 0)
    assert len(stored(uri)) == 5


def test_an_interrupted_run_is_replaced(tmp_path: Path, uri: str) -> None:
    folder = runs.make(tmp_path / "g")
    export_to("mlflow", folder.path, uri)
    keys = sorted(run.data.tags[KEY] for run in stored(uri))
    client_of(uri).update_run(stored(uri)[0].info.run_id, "RUNNING")
    assert export_to("mlflow", folder.path, uri) == (1, 1)
    assert sorted(run.data.tags[KEY] for run in stored(uri)) == keys


@pytest.mark.parametrize("content", ["no database", ""])
def test_a_uri_that_cannot_be_written_to_is_refused(tmp_path: Path, content: str) -> None:
    folder, path = runs.make(tmp_path / "g"), tmp_path / "x.db"
    path.write_text(content * 100)
    uri = f"sqlite:///{path}" if content else "nonsense://x"
    with pytest.raises(ValueError, match=r"MLflow cannot write to .*give a tracking URI such as"):
        export_to("mlflow", folder.path, uri)
