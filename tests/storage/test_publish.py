"""Copies of a run without weights: they hold everything that reports read, and are runs."""

from pathlib import Path

import pytest

from archsearch.reports.provenance import verify
from archsearch.reports.render import render_all
from archsearch.results import load
from archsearch.storage.publish import publish
from archsearch.storage.study_folder import StudyFolder
from tests import toy
from tests.golden import golden_results, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Trials of every status, with checkpoints and locks as in a real run."""
    folder = write_run(golden_results(2), tmp_path / "run")
    (folder / "quote.json").write_text('{"seconds": {}}')
    for trial in (folder / "trials").iterdir():
        (trial / "checkpoint-00001-abc.pt").write_bytes(b"weights")
        (trial / "log.txt").write_text("a path of this machine")
    return folder


def test_a_copy_has_the_results_of_the_run(run: Path, tmp_path: Path) -> None:
    num_copied = publish(run, tmp_path / "copy")
    assert num_copied == len(StudyFolder(run).launched())
    original, copy = load(run), load(tmp_path / "copy")
    assert copy.rows() == original.rows()
    assert copy.seed_rows() == original.seed_rows()
    assert {c.state for c in copy.cells} >= {"failed", "diverged", "interrupted", "infeasible"}
    assert (tmp_path / "copy/quote.json").exists()


def test_weights_logs_and_locks_are_not_copied(run: Path, tmp_path: Path) -> None:
    publish(run, tmp_path / "copy")
    names = {path.name for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert names == {"study.json", "quote.json", "spec.json", "record.json", "events.jsonl"}
    finished = [p.parent for p in (tmp_path / "copy").rglob("record.json")]
    assert not any((folder / "events.jsonl").exists() for folder in finished)


def test_a_copy_is_updated_and_its_report_verified(tmp_path: Path) -> None:
    folder = toy.create(tmp_path / "run")
    first, *others = folder.trials()
    folder.trial(first.id).write_spec(first)
    publish(folder.path, tmp_path / "copy")
    for trial in others:
        folder.trial(trial.id).write_spec(trial)
        toy.finish(folder.trial(trial.id), metrics={"val_accuracy": 50.0})
    assert publish(folder.path, tmp_path / "copy") == 3
    assert [t.state for t in load(tmp_path / "copy").trials] == ["pending", "complete", "complete"]
    render_all([tmp_path / "copy"], tmp_path / "copy/reports")
    assert verify(tmp_path / "copy").differences == ()


def test_the_history_of_failures_is_copied(tmp_path: Path) -> None:
    folder = toy.create(tmp_path / "run", cells=1)
    trial = folder.trial(folder.ids()[0])
    trial.write_spec(folder.trials()[0])
    trial.append_attempt({"kind": "crash", "error": "x", "epoch": 0})
    toy.finish(trial, "failed", kind="crash")
    trial.set_record_aside()
    toy.finish(trial, metrics={"val_accuracy": 50.0})
    publish(folder.path, tmp_path / "copy")
    names = {path.name for path in (tmp_path / "copy/trials" / trial.id).iterdir()}
    assert {"record.failed-1.json", "attempts.failed-1.jsonl", "record.json"} <= names


def test_only_an_earlier_copy_is_overwritten(run: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/thesis.txt").write_text("text")
    other = toy.create(tmp_path / "other").path
    for target in (tmp_path / "own", other, run):
        with pytest.raises(ValueError, match="choose another folder"):
            publish(run, target)
    with pytest.raises(ValueError, match="holds no study"):
        publish(tmp_path / "own", tmp_path / "copy")
