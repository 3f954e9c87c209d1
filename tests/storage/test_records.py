"""Records: each is accepted only for its own trial and with numbers that can be."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archsearch import results
from archsearch.running.run import run_study
from archsearch.storage.study_folder import StudyFolder, TrialFolder
from archsearch.study import Record
from tests import toy
from tests.stored import edit

Values = dict[str, Any]


def metrics(**values: object) -> Callable[[Values], None]:
    return lambda record: record["metrics"].update(values)


WRONG: dict[str, tuple[Callable[[Values], object], str]] = {
    "over 100%": (metrics(val_accuracy=250.0), "val_accuracy: wanted 0 to 100 percent, got 250.0"),
    "under 0%": (metrics(test_accuracy=-5), "test_accuracy: wanted 0 to 100 percent, got -5"),
    "best over 100%": (metrics(best_val_accuracy=1e308), "best_val_accuracy: wanted 0 to 100"),
    "true": (metrics(val_accuracy=True), "bool"),
    "text": (metrics(val_accuracy="high\x1b[31m"), "str"),
    "list": (metrics(val_loss=[1]), "array"),
    "speed": (metrics(images_per_second=-1.0), "images_per_second: wanted 0 or more"),
    "memory": (metrics(peak_memory_bytes=-1), "peak_memory_bytes: wanted 0 or more"),
    "victory": (lambda record: record.update(status="victory"), "victory"),
    "seconds": (lambda record: record.update(seconds=-1e300), "seconds: wanted 0 or more"),
    "attempts": (lambda record: record.update(attempts="many"), "attempts"),
    "notes": (lambda record: record.update(notes=5), "notes"),
    "versions": (lambda record: record.update(versions=["x"]), "versions"),
    "no metrics": (lambda record: record.update(metrics=None), "metrics"),
    "curve of numbers": (lambda record: record.update(curve=[1, 2]), "curve"),
    "curve null": (lambda record: record.update(curve=None), "curve"),
    "curve without epoch": (lambda record: record.update(curve=[{"a": 1}]), "epoch: wanted a"),
    "curve with text": (lambda r: r.update(curve=[{"epoch": 1, "lr": "x"}]), "lr: wanted a number"),
    "curve 101%": (lambda r: r.update(curve=[{"epoch": 1, "val_accuracy": 101}]), "0 to 100"),
    "cost": (
        lambda r: r.update(cost={"params": -1, "macs": 1, "activations": 1, "image_size": 1}),
        "params: wanted 0 or more, got -1",
    ),
    "other trial": (lambda record: record.update(trial_id="0" * 16), "record of the trial '0000"),
    "no trial": (lambda record: record.update(trial_id=""), "record of the trial ''"),
    "newer layout": (lambda record: record.update(schema=9), "layout 9"),
}


IN_HEAD = {*list(WRONG)[:9], "no metrics", "other trial", "no trial", "newer layout"}
"""What a status notices, which reads only the head of a record."""


@pytest.mark.parametrize("name", WRONG)
def test_a_record_that_cannot_be_costs_its_own_trial_and_is_named(
    name: str, folder: StudyFolder, trial: TrialFolder, caplog: pytest.LogCaptureFixture
) -> None:
    change, reason = WRONG[name]
    trial.write_record(toy.complete_record(trial))
    edit(trial.path / "record.json", change)
    assert (trial.record_summary() is None) == (name in IN_HEAD)
    assert trial.record() is None
    assert f"{trial.path / 'record.json'}" in caplog.text
    assert re.search(re.escape(reason), caplog.text), caplog.text
    assert "\x1b" not in caplog.text
    states = {t.trial.id: (t.state, t.record) for t in results.load(folder.path).trials}
    assert set(states.values()) == {("pending", None)}


def test_a_record_copied_from_another_trial_is_not_accepted(
    folder: StudyFolder, trial: TrialFolder, caplog: pytest.LogCaptureFixture
) -> None:
    trial.write_record(toy.complete_record(trial))
    other = folder.trial(folder.ids()[1])
    other.write_spec(folder.trials()[1])
    (other.path / "record.json").write_bytes((trial.path / "record.json").read_bytes())
    assert other.record_summary() is None
    assert folder.states()[other.id] == "pending"
    assert f"it is the record of the trial '{trial.id}', not '{other.id}'" in caplog.text


@pytest.mark.parametrize("old", [True, False])
def test_the_summary_of_a_changed_record_is_not_used(trial: TrialFolder, old: bool) -> None:
    """Without a checksum a plausible value passes, as no one can tell."""
    trial.write_record(toy.complete_record(trial))
    path = trial.path / "record.json"
    content = path.read_text()
    if old:
        content = re.sub(r',"(head_)?crc32":"[0-9a-f]*"', "", content)
    path.write_text(content.replace('"val_accuracy":50.0', '"val_accuracy":51.0'))
    expected = ("complete", {"val_accuracy": 51.0}) if old else None
    assert trial.record_summary() == expected
    assert (trial.record() is not None) == old


def test_every_flipped_digit_of_a_record_is_noticed(trial: TrialFolder) -> None:
    trial.write_record(toy.complete_record(trial, seconds=12.5, curve=toy.curve(2, trial.id)))
    record, path = toy.record_of(trial), trial.path / "record.json"
    content = path.read_bytes()
    for i in (i for i, byte in enumerate(content) if chr(byte).isdigit()):
        path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        assert trial.record() in (None, record), i
        assert trial.record_summary() in (None, (record.status, record.metrics)), i


def test_a_record_with_impossible_numbers_is_not_written(trial: TrialFolder) -> None:
    record = Record(trial.id, "complete", {"val_accuracy": 101.0, "images_per_second": -1})
    with pytest.raises(ValueError, match=r"val_accuracy: .*; images_per_second: "):
        trial.write_record(record)
    with pytest.raises(ValueError, match="it is the record of the trial 'x'"):
        trial.write_record(Record("x", "complete"))
    assert not (trial.path / "record.json").exists()
    trial.write_record(Record(trial.id, "complete", {"val_accuracy": math.nan}))
    assert toy.record_of(trial).metrics == {"val_accuracy": None}


def test_a_record_with_a_damaged_end_is_trained_again(folder: StudyFolder) -> None:
    """Its head, which a status reads, is whole."""
    run_study(folder, folder.trials(), runner="inline", work="tests.toy:train")
    path = folder.trial(folder.ids()[1]).path / "record.json"
    path.write_bytes(path.read_bytes().replace(b'"epoch":2', b'"epoch":1', 1))
    assert folder.trial(folder.ids()[1]).record_summary() is not None
    counts = run_study(folder, folder.trials(), runner="inline", work="tests.toy:train")
    assert counts == {"complete": 3}
    assert toy.results(folder) == toy.expected_results(folder)
    assert path.with_name("record.json.corrupt").exists()


EVENTS = {
    "epoch text": ('{"epoch":"1"}', "epoch: wanted a whole number of 1 or more, got '1'"),
    "epoch list": ('{"epoch":[1]}', "epoch: wanted"),
    "epoch null": ('{"epoch":null}', "epoch: wanted"),
    "accuracy text": ('{"epoch":1,"val_accuracy":"high"}', "val_accuracy: wanted a number"),
    "NaN": ('{"epoch":1,"val_accuracy":NaN}', "NaN"),
    "no step": ('{"in_epoch":1}', "step is missing; steps is missing"),
    "no steps": ('{"in_epoch":1,"step":1,"steps":0}', "steps: wanted 1 or more"),
    "seconds": ('{"epoch":1,"seconds":"x"}', "seconds: wanted a number"),
    "list": ("[1]", "wanted a JSON object"),
}


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_that_cannot_be_is_left_out_and_named(
    name: str, trial: TrialFolder, caplog: pytest.LogCaptureFixture
) -> None:
    line, reason = EVENTS[name]
    path = trial.path / "events.jsonl"
    path.write_text(f'{line}\n{{"epoch":2}}\n')
    assert trial.curve() == ({"epoch": 2},)
    assert f"{path}: line 1 is damaged and not used: " in caplog.text
    assert reason in caplog.text


def test_attempts_with_wrong_types_are_left_out(trial: TrialFolder) -> None:
    path = trial.path / "attempts.jsonl"
    path.write_text('{"epoch":[1],"kind":3}\n{"kind":"crash","epoch":1,"steps":2}\n')
    assert [attempt["kind"] for attempt in trial.attempts()] == ["crash"]


def test_a_damaged_spec_costs_its_own_trial(
    folder: StudyFolder, trial: TrialFolder, caplog: pytest.LogCaptureFixture
) -> None:
    """Of trials beyond the plan: an empty folder, a damaged spec, and one of another trial."""
    contents = {"1" * 16: None, "2" * 16: "{}", "3" * 16: (trial.path / "spec.json").read_text()}
    for trial_id, content in contents.items():
        other = folder.trial(trial_id).path
        other.mkdir()
        if content is not None:
            (other / "spec.json").write_text(content)
    assert len(folder.trials()) == 3
    assert "1" * 16 not in caplog.text
    for trial_id in ("2" * 16, "3" * 16):
        assert f"{folder.trial(trial_id).path / 'spec.json'}" in caplog.text
    trial.path.joinpath("spec.json").write_text(json.dumps({"schema": 7}))
    trial.write_spec(folder.trials()[0])
    assert trial.trial() == folder.trials()[0]


@pytest.mark.parametrize("linked", ["trial", "trials"])
def test_folders_inside_a_run_are_never_links(
    linked: str, folder: StudyFolder, trial: TrialFolder, tmp_path: Path
) -> None:
    path = trial.path if linked == "trial" else trial.path.parent
    path.rename(tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    for use in (folder.states, folder.trials, lambda: folder.lock().__enter__()):
        with pytest.raises(ValueError, match=f"{path}.*link|link.*{path}"):
            use()
    linked_run = tmp_path / "link"
    path.unlink()
    (tmp_path / "outside").rename(path)
    linked_run.symlink_to(folder.path)
    assert set(StudyFolder(linked_run).states().values()) == {"pending"}
