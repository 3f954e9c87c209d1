"""Exports beside a run: in order, one at a time, and of no effect on the trainings if they fail."""

import time
from pathlib import Path
from typing import Any

import pytest

import archsearch as a
from archsearch.storage.files import write_json
from archsearch.storage.trial_folder import TrialFolder
from archsearch.study import Record
from archsearch.trackers import live
from archsearch.trackers.trainings import full_training, is_full_training
from tests.processes import wait_for
from tests.trackers import runs

LOGS = (live.Log("tensorboard", "tb"),)
WRITES = "import sys; open({!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')"
"""A program in the place of an export: it adds its arguments to a file."""


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trackers look installed, and exports follow each other at once."""
    monkeypatch.setattr("archsearch.trackers.find_spec", lambda _: object())
    monkeypatch.setattr(live, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(live, "PAUSE_PER_SECOND", 0.0)


def program(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(live, "PROGRAM", ("-c", text))


def exports(folder: Path, said: list[str], **options: Any) -> live.Live:
    return live.Live(LOGS, folder, said.append, **options)


def test_a_record_during_an_export_is_exported_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, said = tmp_path / "written", list[str]()
    program(monkeypatch, WRITES.format(str(written)))
    trackers = exports(tmp_path / "g", said)
    trackers.add()
    trackers.add()
    trackers.close()
    line = f"{tmp_path / 'g'}  tensorboard tb {live.LIMIT_SECONDS}\n"
    assert (written.read_text(), said) == (2 * line, [])
    trackers = exports(tmp_path / "g", said)
    trackers.close()
    assert written.read_text() == 2 * line  # nothing is new


def test_exports_have_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = tmp_path / "written"
    program(monkeypatch, WRITES.format(str(written)))
    trackers = exports(tmp_path / "g", [])
    trackers.add()
    wait_for(written.exists)
    monkeypatch.setattr(live, "PAUSE_SECONDS", 600.0)
    trackers.add()
    for _ in range(20):
        trackers.poll()
        time.sleep(0.05)
    assert len(written.read_text().splitlines()) == 1
    trackers.close()  # the end of a run has no pause
    assert len(written.read_text().splitlines()) == 2


def test_a_failure_is_said_once_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()
    program(monkeypatch, "raise SystemExit('the disk is full')")
    trackers = exports(tmp_path / "g" / "pilot", said, run=tmp_path / "g")
    trackers.add()
    wait_for(lambda: trackers.poll() or said)
    began = time.monotonic()
    trackers.close()
    assert time.monotonic() - began < live.FINAL_SECONDS / 2  # it is not tried again and again
    (message,) = said
    assert "TensorBoard was not written: the disk is full." in message
    assert message.endswith(f"archsearch export {tmp_path / 'g'} --tensorboard tb")


def test_a_tracker_without_an_answer_ends_by_itself_or_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()
    waits = "import signal, time; signal.alarm({}); time.sleep(600)"
    monkeypatch.setattr(live, "FINAL_SECONDS", 0.5)
    program(monkeypatch, waits.format(600))
    trackers = exports(tmp_path, said)
    trackers.add()
    began = time.monotonic()
    trackers.close()
    assert time.monotonic() - began < 10
    assert "it took too long at the end of the run" in said[0]
    program(monkeypatch, waits.format(1))
    trackers = exports(tmp_path, said)
    trackers.add()
    wait_for(lambda: trackers.poll() or said[1:])
    assert f"no end after {live.LIMIT_SECONDS} seconds" in said[1]
    trackers.close()


def test_wrong_trackers_are_refused_together_before_anything_is_made(
    run_cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("archsearch.trackers.find_spec", lambda _: None)
    wrong = ["--log", "tb", "--log", "wandb:", "--log", "mlflow:sqlite:///x.db"]
    for command in (["grid", "--budget", "1M"], ["train", "8-4-1-1"]):
        code, _, err = run_cli(*command, *wrong)
        message = " ".join(err.split())
        assert code == 2
        for problem in ("got 'tb'", "got 'wandb:'", "needs the package mlflow"):
            assert problem in message
    assert not list(tmp_path.iterdir())


def test_a_run_and_a_full_training_are_exported_as_they_end(
    run_cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = tmp_path / "written"
    program(monkeypatch, WRITES.format(str(written)))
    short = {"epochs": 1, "set": {"data_fraction": 0.05}}
    grid = {"budget": "0.3M", "c1": [8], "group_channels": [4], "l1": [1], "quote": False}
    a.grid(**grid, **short, runner="inline", out=tmp_path / "g", log=["tensorboard:tb"])
    assert written.read_text().startswith(f"{tmp_path / 'g'}  tensorboard tb")
    written.unlink()
    options = ["--epochs", "1", "--set", "data_fraction=0.05", "--out", "full"]
    assert run_cli("train", "8-4-1-1", *options, "--log", "wandb:wb")[0] == 0
    assert written.read_text().startswith("full  wandb wb")
    (training,), num_unfinished = full_training(Path("full"))
    assert (training.run, training.complete, training.last_epoch) == ("full", True, 1)
    assert training.settings["recipe.data_fraction"] == 0.05
    assert training.settings["data.name"] == "digits"
    assert num_unfinished == 0


def test_a_full_training_without_a_result_is_counted(tmp_path: Path) -> None:
    assert not is_full_training(tmp_path)
    identity = {"seed": 3, "recipe.lr": 0.1}
    write_json(tmp_path / "request.json", {"identity": identity, "recipe": "quick", "data": {}})
    assert is_full_training(tmp_path)
    assert full_training(tmp_path) == ([], 1)
    TrialFolder(tmp_path, trial_id="").write_record(Record("", "diverged", error="the loss is nan"))
    (training,), _ = full_training(tmp_path)
    assert (training.seed, training.complete) == (3, False)
    assert not is_full_training(runs.make(tmp_path / "g").path)


@pytest.mark.slow
def test_tensorboard_has_a_run_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    grid = {"budget": "0.3M", "c1": [8], "group_channels": [4], "l1": [1], "quote": False}
    a.grid(**grid, epochs=1, set={"data_fraction": 0.05}, out="g", log="tensorboard:tb")
    assert len(list(Path("tb").glob("g/*/seed-0-*"))) == 1
    a.train("8-4-1-1", epochs=1, set={"data_fraction": 0.05}, out="full", log="tensorboard:tb")
    assert len(list(Path("tb").glob("full/full/seed-0-*"))) == 1
    assert "was not written" not in capfd.readouterr().err
