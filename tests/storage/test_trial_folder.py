"""Trial folders: state, spec, events and record."""

import dataclasses
import json
import os

import pytest

from archsearch.storage.study_folder import StudyFolder, TrialFolder
from archsearch.study import Record
from tests import toy


def test_the_state_is_derived_from_the_files(folder: StudyFolder, trial: TrialFolder) -> None:
    assert set(folder.states().values()) == {"pending"}
    with trial.lock():
        assert trial.state() == "running"
    trial.append_event({"epoch": 1})
    assert trial.state() == "interrupted"
    trial.write_record(toy.complete_record(trial))
    assert folder.states()[trial.id] == trial.state() == "complete"


def test_a_record_is_written_once(trial: TrialFolder) -> None:
    trial.write_record(toy.complete_record(trial))
    with pytest.raises(RuntimeError, match="once"):
        trial.write_record(toy.complete_record(trial))
    assert trial.record() == toy.complete_record(trial)


def test_a_record_counts_failed_attempts(trial: TrialFolder) -> None:
    trial.append_attempt({"error": "worker died"})
    trial.write_record(toy.complete_record(trial, notes=("slow",)))
    stored = toy.record_of(trial)
    assert (stored.attempts, stored.notes) == (2, ("slow",))


def test_a_truncated_record_is_no_record(trial: TrialFolder) -> None:
    trial.write_record(toy.complete_record(trial))
    path = trial.path / "record.json"
    for size in reversed(range(path.stat().st_size - 1)):
        os.truncate(path, size)
        assert trial.record_summary() is None, size
        assert trial.record() is None, size
    trial.write_record(toy.complete_record(trial))
    assert toy.record_of(trial).notes == ("damaged, not used: record.json.corrupt",)


def test_a_damaged_record_of_an_earlier_failure_is_ignored(trial: TrialFolder) -> None:
    trial.write_record(Record(trial.id, "failed", kind="crash"))
    trial.set_record_aside()
    earlier = trial.path / "record.failed-1.json"
    earlier.write_bytes(earlier.read_bytes()[:40])
    trial.write_record(Record(trial.id, "failed", kind="data"))
    damaged = "damaged, not used: record.failed-1.json"
    assert toy.record_of(trial).notes == (damaged,)
    trial.set_record_aside()  # overwrites no file
    assert earlier.stat().st_size == 40
    assert [old.kind for old in trial.earlier_records()[0]] == ["data"]
    trial.write_record(toy.complete_record(trial))
    assert toy.record_of(trial).notes == (damaged, "failed before: data")


def test_truncated_events_keep_their_complete_lines(trial: TrialFolder) -> None:
    for epoch in (1, 2, 3):
        trial.append_event({"epoch": epoch, "val_accuracy": 10.0 * epoch})
    path = trial.path / "events.jsonl"
    content = path.read_bytes()
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        before = trial.events()
        complete = [json.loads(line) for line in content[: size + 1].split(b"\n")[:-1]]
        assert before == [{k: v for k, v in e.items() if k != "crc32"} for e in complete]
        trial.append_event({"epoch": 9})
        assert trial.events() == [*before, {"epoch": 9}], size


def test_a_repeated_epoch_counts_once_in_the_curve(trial: TrialFolder) -> None:
    for epoch, loss in ((1, 3.0), (2, 2.0), (2, 1.0)):
        trial.append_event({"epoch": epoch, "train_loss": loss})
    trial.append_event({"note": "no epoch"})
    assert [event["train_loss"] for event in trial.curve()] == [3.0, 1.0]


def test_nan_becomes_null_on_disk(trial: TrialFolder) -> None:
    trial.append_event({"losses": [float("nan"), 1.0], "lr": float("inf")})
    assert trial.events() == [{"losses": [None, 1.0], "lr": None}]


def test_a_spec_follows_data_that_moved(trial: TrialFolder) -> None:
    moved = dataclasses.replace(trial.trial(), data=dataclasses.replace(toy.DATA, name="new"))
    trial.write_spec(moved)
    assert trial.trial() == moved


def test_a_spec_in_the_wrong_folder_is_refused(folder: StudyFolder, trial: TrialFolder) -> None:
    wrong = folder.trial("0" * 16)
    wrong.path.mkdir()
    (wrong.path / "spec.json").write_bytes((trial.path / "spec.json").read_bytes())
    with pytest.raises(ValueError, match=f"describes the trial {trial.id}"):
        wrong.trial()
