"""Runs from somebody else: no link is followed, a wrong file is named, escapes stay visible."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archsearch.api.estimate import compare_estimate
from archsearch.api.live import say
from archsearch.api.session import write_reports
from archsearch.cli.output import print_blocks, print_json, print_rows
from archsearch.core.visible import visible
from archsearch.results import load
from archsearch.running.work import output_to
from archsearch.storage import lock
from archsearch.storage.files import log, write_json
from archsearch.storage.publish import publish
from archsearch.storage.status import study_status
from archsearch.storage.study_folder import StudyFolder, TrialFolder
from tests import toy
from tests.stored import edit

RED = "\x1b[31mred\x9b\u202e"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("precious\n")
    return path


@pytest.mark.parametrize("name", ["lock", "log.txt", "events.jsonl", "attempts.jsonl"])
def test_a_link_in_a_run_is_not_written_through(
    name: str, trial: TrialFolder, victim: Path
) -> None:
    writers: dict[str, Callable[[Path], Any]] = {
        "lock": lambda _: trial.lock().__enter__(),
        "log.txt": lambda path: output_to(path).__enter__(),
        "events.jsonl": lambda _: trial.append_event({"epoch": 1}),
        "attempts.jsonl": lambda _: trial.append_attempt({"kind": "crash"}),
    }
    path = trial.path / name
    path.symlink_to(victim)
    with pytest.raises(ValueError, match=f"{path} is a link"):
        writers[name](path)
    assert victim.read_text() == "precious\n"
    assert not lock.is_held(path)


def test_a_linked_lock_of_a_study_is_refused(folder: StudyFolder, victim: Path) -> None:
    (folder.path / "lock").unlink()
    (folder.path / "lock").symlink_to(victim)
    with pytest.raises(lock.Locked, match=r"lock is a link, .* put the file itself there$"):
        folder.create(toy.study(), toy.DATA)
    assert victim.read_text() == "precious\n"


def test_a_fifo_as_a_lock_holds_nothing(folder: StudyFolder, trial: TrialFolder) -> None:
    os.mkfifo(trial.path / "lock")
    assert folder.states()[trial.id] == "pending"


def test_a_report_replaces_links_and_refuses_a_linked_folder(
    folder: StudyFolder, trial: TrialFolder, victim: Path, tmp_path: Path
) -> None:
    trial.write_record(toy.complete_record(trial))
    reports = folder.path / "reports"
    reports.mkdir()
    for name in ("report.html", "numbers.json", "results.csv", "tradeoff-macs.png"):
        (reports / name).symlink_to(victim)
    write_reports([folder.path])
    assert victim.read_text() == "precious\n"
    assert not (reports / "report.html").is_symlink()
    reports.rename(tmp_path / "elsewhere")
    reports.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="reports is a link"):
        write_reports([folder.path])
    write_reports([folder.path], out=reports / ".." / ".." / "elsewhere")


def test_an_export_copies_no_file_from_outside(
    folder: StudyFolder, trial: TrialFolder, victim: Path, tmp_path: Path
) -> None:
    (trial.path / "record.json").symlink_to(victim)
    publish(folder.path, tmp_path / "copy")
    assert not (tmp_path / "copy" / "trials" / trial.id / "record.json").exists()


STUDIES: dict[str, dict[str, Any]] = {
    "cells null": {"cells": None},
    "cells of lists": {"cells": [[1]]},
    "seeds text": {"seeds": "abc"},
    "seeds negative": {"seeds": [-1]},
    "too many seeds": {"seeds": list(range(1000))},
    "axes": {"axes": [1]},
    "metric": {"metric": "__class__"},
    "plan list": {"plan": [1]},
    "plan kind": {"plan": {"kind": "evil"}},
    "plan without fields": {"plan": {"kind": "search"}},
    "recipe": {"recipe": {"epochs": 10**18, "name": "x"}},
    "data": {"data": ["digits"]},
    "command": {"command": 5},
    "versions": {"versions": 5},
    "created": {"created": 5},
    "question": {"question": 5},
    "budget": {"budget": "many"},
    "task": {"task": {"task": "os:system"}},
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_with_wrong_values_is_refused_by_name(name: str, folder: StudyFolder) -> None:
    path = folder.path / "study.json"
    edit(path, lambda values: values.update(STUDIES[name]))
    with pytest.raises(ValueError, match=f"{path}"):
        load(folder.path)


def test_a_coordinate_that_is_a_number_and_a_text_is_refused(folder: StudyFolder) -> None:
    edit(folder.path / "study.json", lambda v: v["cells"][0]["requested"].update(c1="<b>x</b>"))
    with pytest.raises(ValueError, match=r"study\.json .*numbers and text for the coordinate c1"):
        load(folder.path)


def test_a_study_with_a_foreign_trial_id_is_refused(folder: StudyFolder) -> None:
    edit(folder.path / "study.json", lambda v: v["cells"][0]["trials"].update({"0": "../../etc"}))
    with pytest.raises(ValueError, match=r"study\.json is damaged: .*cells\[0\]\.trials"):
        study_status(folder.path)


@pytest.mark.parametrize(
    "content", ["[" * 10**5, "[1]", '{"seconds":"x"}', '{"seconds":{"../x":1}}', '{"seconds":{}}']
)
def test_a_damaged_estimate_costs_only_the_comparison(folder: StudyFolder, content: str) -> None:
    (folder.path / "quote.json").write_text(content)
    text = compare_estimate(folder)
    assert (f"{folder.path / 'quote.json'} is damaged" in text) != (content == '{"seconds":{}}')


def test_an_estimate_of_zero_is_not_compared(folder: StudyFolder, trial: TrialFolder) -> None:
    trial.write_record(toy.complete_record(trial, seconds=1.0))
    write_json(folder.path / "quote.json", {"seconds": {trial.id: 0.0}})
    assert compare_estimate(folder) == ""


def test_nothing_that_a_terminal_obeys_reaches_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say(f"one\ttwo\n{RED}")
    print_rows([{"note": RED}], title=RED)
    print_blocks([{"note": RED}], title=RED)
    print_json({"note": RED})
    monkeypatch.setattr(logging, "lastResort", handler := logging.StreamHandler())
    log.warning("%s", RED)
    handler.flush()
    printed = capsys.readouterr()
    assert {c for c in printed.out + printed.err if not c.isprintable()} == {"\n", "\t"}
    assert printed.out.count("\\x1b[31mred\\x9b\\u202e") == 4
    assert json.loads(printed.out[printed.out.rindex("{") :]) == {"note": RED}
    assert visible("C₁ ± 1 – “x”") == "C₁ ± 1 – “x”"


def test_stored_text_is_visible_in_status_and_errors(
    folder: StudyFolder, trial: TrialFolder, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    toy.finish(trial, "failed", kind=RED, error=RED)
    edit(folder.path / "study.json", lambda values: values.update(command=[RED], question=RED))
    code, out, err = run_cli("status", str(folder.path))
    assert code == 0
    assert "\\x1b[31mred" in out
    assert "\\x1b[31mred" in err
    edit(folder.path / "study.json", lambda values: values.update(metric=RED))
    code, more_out, more_err = run_cli("status", str(folder.path))
    assert code == 2
    assert not {"\x1b", "\x9b"} & set(out + err + more_out + more_err)
