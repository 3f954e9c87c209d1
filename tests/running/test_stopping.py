"""Signals: they stop a study, and its workers save."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests import toy
from tests.processes import has_ended, wait_for
from tests.running.toy_runs import drive


@pytest.mark.parametrize("runner", ["inline", "local"])
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_reports_how_to_resume(
    tmp_path: Path, runner: str, signum: signal.Signals, code: int
) -> None:
    folder = toy.create(tmp_path / "toy", cells=4)
    with drive(folder, runner, "run_until_stopped") as process:
        wait_for(lambda: list(folder.path.glob("trials/*/events.jsonl")))
        os.killpg(process.pid, signum)  # as a terminal does; workers must ignore it
        output, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Resume with: archsearch toy" in output
    assert "failed" not in folder.states().values()
    assert list(folder.path.glob("trials/*/stopped"))
    assert not list(folder.path.glob("trials/*/attempts.jsonl"))


@pytest.mark.parametrize("runner", ["inline", "local"])
def test_a_second_ctrl_c_ends_immediately(tmp_path: Path, runner: str) -> None:
    folder = toy.create(tmp_path / "toy", cells=4)
    with drive(folder, runner, "ignore_stop") as process:
        pids = wait_for(lambda: list(folder.path.glob("trials/*/pid")))
        wait_for(lambda: "running" in folder.states().values())
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "ended immediately" in output
    wait_for(lambda: all(has_ended(int(path.read_text())) for path in pids))
    assert "running" not in folder.states().values()
