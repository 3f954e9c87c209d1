"""A run works from wherever it lies: what is advised names its present folder."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archsearch.cli.runs import newest
from archsearch.core.plans import Halve, MoreSeeds, Plan, Search
from archsearch.storage.resume import resume_command
from archsearch.storage.status import study_status
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record
from tests import toy

GRID = ["archsearch", "grid", "--budget", "30M"]


@pytest.mark.parametrize(
    ("command", "path", "expected"),
    [
        (GRID, "b", "archsearch grid --budget 30M --out b"),
        ([*GRID, "--out", "a"], "b", "archsearch grid --budget 30M --out b"),
        (
            ["archsearch", "grid", "--out=a", "--seeds", "3"],
            "/x y/b",
            "archsearch grid --seeds 3 --out '/x y/b'",
        ),
        ([*GRID, "--out", "a"], "-b", "archsearch grid --budget 30M --out ./-b"),
        (["archsearch", "run"], "b", "archsearch.run(study, out='b')"),
        (["archsearch", "run", "own.py"], "b", "archsearch run own.py --out b"),
        (
            ["archsearch", "study", "data-scale", "--out", "a"],
            "/r/data-scale-1-percent",
            "archsearch study data-scale --out /r",
        ),
        ([], "b", "the same command"),
    ],
)
def test_the_command_names_the_present_folder(command: list[str], path: str, expected: str) -> None:
    assert resume_command(command, Path(path)) == expected


def create(path: Path, plan: Plan | None = None, finished: int = 0) -> StudyFolder:
    """Two trials, of which so many are finished."""
    study = replace(toy.study(2), plan=plan)
    folder = StudyFolder(path).create(study, toy.DATA, [*GRID, "--out", str(path)])
    for trial in folder.trials()[:finished]:
        folder.trial(trial.id).write_spec(trial)
        folder.trial(trial.id).write_record(Record(trial.id, "complete", {"val_accuracy": 90.0}))
    return folder


def test_status_of_a_moved_run_advises_its_own_folder(
    run_cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    create(Path("a"), finished=1)
    Path("a").rename("b")
    code, _, err = run_cli("status", "b")
    assert code == 0
    assert "Resume with:\n  archsearch grid --budget 30M --out b\n" in err


def test_retry_advises_the_present_folder_too(
    run_cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = create(Path("a"))
    trial = folder.trials()[0]
    folder.trial(trial.id).write_spec(trial)
    folder.trial(trial.id).write_record(Record(trial.id, "failed", kind="crash"))
    Path("a").rename("b")
    assert (
        "Train them with: archsearch grid --budget 30M --out b\n"
        in run_cli("retry", "b", "--failed")[2]
    )
    assert "there is nothing to retry" in run_cli("retry", "b", "--failed")[2]


SEARCH = Search("four", {}, "tpe", ("val_accuracy",), 0, 2, 0.05)


@pytest.mark.parametrize(
    ("plan", "num_finished", "finished"),
    [
        (None, 0, False),
        (None, 1, False),
        (None, 2, True),
        (SEARCH, 2, True),
        (replace(SEARCH, num_trials=3), 2, None),
        (MoreSeeds(5), 1, False),
        (MoreSeeds(5), 2, None),
        (Halve("epochs", force=True), 0, False),
        (Halve("epochs", force=True), 1, None),
    ],
)
def test_only_a_run_with_something_left_is_told_how_to_resume(
    run_cli: Any, tmp_path: Path, plan: Plan | None, num_finished: int, finished: bool | None
) -> None:
    folder = create(tmp_path / "run", plan, num_finished)
    assert study_status(folder.path).finished is finished
    err = run_cli("status", str(folder.path))[2]
    assert ("It is finished." in err) is (finished is True)
    assert ("Resume with:" in err) is (finished is False)
    assert ("The plan may add trials; to make sure, run:" in err) is (finished is None)


def without_trials(path: Path) -> Path:
    """Return a run as git keeps it, which has no empty folders."""
    create(path)
    (path / "trials").rmdir()
    return path


@pytest.mark.parametrize("command", ["report", "status", "export", "retry"])
def test_a_run_without_the_folder_of_its_trials_is_a_run(
    run_cli: Any, tmp_path: Path, command: str
) -> None:
    options = {
        "export": ["--optuna", f"sqlite:///{tmp_path}/x.db", "--records", str(tmp_path / "copy")],
        "retry": ["--failed"],
    }
    run = without_trials(tmp_path / "run")
    code, _, err = run_cli(command, str(run), *options.get(command, []))
    assert (code, "Traceback" in err) == (0, False)


def test_it_does_not_hide_its_neighbor(tmp_path: Path) -> None:
    old, new = without_trials(tmp_path / "a"), create(tmp_path / "b", finished=1).path
    for path in old.iterdir():
        os.utime(path, (1, 1))
    assert newest(tmp_path) == new
    shutil.rmtree(new)
    assert newest(tmp_path) == old
    (tmp_path / "c").mkdir()
    (tmp_path / "c/study.json").symlink_to("nowhere")
    assert newest(tmp_path) == old
