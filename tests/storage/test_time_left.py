"""The time left as a reader of the files computes it."""

import os
import time
from pathlib import Path

import pytest

from archsearch.storage.files import write_json
from archsearch.storage.status import study_status
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record
from tests import toy


def quoted(path: Path) -> StudyFolder:
    """A study of four trials, each quoted at 10 s with a start of 1 s, and 3 s for the report."""
    folder = toy.create(path / "toy", cells=4)
    quote = {"seconds": dict.fromkeys(folder.ids(), 10.0), "workers": 2}
    quote |= {"start_seconds": 1.0, "setup_seconds": 2.0, "report_seconds": 3.0}
    write_json(folder.path / "quote.json", quote)
    return folder


def finish(folder: StudyFolder, index: int, seconds: float) -> None:
    trial = folder.trials()[index]
    folder.trial(trial.id).write_spec(trial)
    metrics = {"val_accuracy": 50.0, "latency_seconds": 1000.0}  # the second is of the user's task
    metrics |= {"start_seconds": 1.0, "steps_seconds": seconds - 1.0}
    record = Record(trial.id, "complete", metrics, seconds=seconds)
    folder.trial(trial.id).write_record(record)


def seconds_left(folder: StudyFolder) -> float:
    left = study_status(folder.path).left
    assert left is not None
    return left.seconds


def test_finished_trials_correct_the_quote(tmp_path: Path) -> None:
    folder = quoted(tmp_path)
    assert seconds_left(folder) == 2 * 10 + 3
    finish(folder, 0, 20.0)
    assert study_status(folder.path).rows[0]["seconds"] == 20.0
    assert seconds_left(folder) == pytest.approx(1.5 * 2 * 10 + 3)  # the quote counts as a trial
    finish(folder, 1, 20.0)
    finish(folder, 2, 20.0)
    left = study_status(folder.path).left
    assert left is not None
    assert left.seconds == pytest.approx((3 * 20 + 10) / 40 * 10 + 3)
    assert left.low is not None
    finish(folder, 3, 20.0)
    assert study_status(folder.path).left is None


def test_a_running_trial_counts_its_epochs_and_the_time_since(tmp_path: Path) -> None:
    folder = quoted(tmp_path)
    for i in range(3):
        finish(folder, i, 10.0)
    last = folder.trials()[3]
    trial = folder.trial(last.id)
    trial.write_spec(last)
    with trial.lock():
        launched = time.time() - 4.5
        os.utime(trial.path / "lock", (launched, launched))
        assert seconds_left(folder) == pytest.approx(10 - 4.5 + 3, abs=1)
        trial.append_event(toy.curve(1, last.id)[0])
        events = trial.path / "events.jsonl"
        os.utime(events, (time.time() - 2, time.time() - 2))
        assert seconds_left(folder) == pytest.approx(9 * 2 / 3 - 2 + 3, abs=1)


def test_nothing_is_known_without_a_quote_and_a_damaged_one_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = quoted(tmp_path)
    (folder.path / "quote.json").write_text("{")
    assert study_status(folder.path).left is None
    assert "No time left is predicted" in caplog.text
    (folder.path / "quote.json").unlink()
    assert study_status(folder.path).left is None
