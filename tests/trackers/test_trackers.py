"""What every tracker is given, and that a repeated or interrupted export is completed."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archsearch.results import load
from archsearch.storage.lock import Locked, hold
from archsearch.trackers import TRACKERS, folders
from archsearch.trackers.folders import write_folders
from archsearch.trackers.trainings import Training, file_name, trainings_of
from tests.trackers import runs


def of(path: Path) -> tuple[list[Training], int]:
    return trainings_of(load(path))


def test_every_finished_training_is_one_of_them(tmp_path: Path) -> None:
    trainings, num_unfinished = of(runs.make(tmp_path / "g").path)
    first, failed, diverged = sorted(trainings, key=lambda t: t.outcome["status"])[:3]
    assert num_unfinished == 1
    assert first.curve == (
        (1, 2.0, {"val_accuracy": 60.0, "seconds": 2.0}),
        (2, 5.0, {"val_accuracy": 80.0, "val_loss": 0.5, "seconds": 3.0}),
    )
    assert first.final == {"final/val_accuracy": 80.0, "final/seconds": 6.0}
    assert (first.run, first.name, first.complete) == ("g", f"{first.cell}, seed 0", True)
    assert dict(failed.outcome) == {"status": "diverged", "error": "the loss is nan"}
    assert dict(diverged.outcome) == {"status": "failed", "kind": "crash", "error": "stopped"}
    assert (diverged.last_epoch, diverged.final) == (0, {"final/seconds": 6.0})


def test_the_settings_are_all_that_the_identity_is_made_of(tmp_path: Path) -> None:
    folder = runs.make(tmp_path / "g")
    training, trial = of(folder.path)[0][0], folder.trials()[0]
    assert training.settings["variant.c1"] == 16
    assert training.settings["recipe.lr"] == 0.1
    assert training.settings["recipe.flip"] is False
    assert training.settings["data.fingerprint"] == "f" * 16
    assert (training.settings["id"], training.settings["seed"]) == (trial.id, 0)
    assert "recipe.layer_scale" not in training.settings  # None


def test_seeds_are_apart_and_share_their_cell(tmp_path: Path) -> None:
    trainings, _ = of(runs.make(tmp_path / "g").path)
    cells = [(t.cell, t.seed) for t in trainings]
    assert len({t.key for t in trainings}) == len(set(cells)) == 3
    assert len({cell for cell, _ in cells}) == 2


def test_another_result_has_another_key(tmp_path: Path) -> None:
    folder = runs.make(tmp_path / "g")
    before = {t.key for t in of(folder.path)[0]}
    assert before == {t.key for t in of(folder.path)[0]}
    runs.retry_the_failed(folder)
    after = {t.key for t in of(folder.path)[0]}
    assert (len(after), len(after & before)) == (4, 2)


def test_a_second_failure_of_the_same_kind_has_another_key(tmp_path: Path) -> None:
    folder = runs.make(tmp_path / "g")
    before = {t.key for t in of(folder.path)[0]}
    folder.trial(folder.ids()[2]).set_record_aside()
    runs.finish(folder, 2, "failed", kind="crash", error="stopped", curve=(), seconds=7.0)
    assert len({t.key for t in of(folder.path)[0]} - before) == 1


def test_pilots_are_included_under_a_name_of_their_own(tmp_path: Path) -> None:
    results = load(runs.make(tmp_path / "g").path)
    pilot = load(runs.make(tmp_path / "pilot-rates").path)
    trainings, num_unfinished = trainings_of(replace(results, pilots={pilot.name: pilot}))
    assert [t.run for t in trainings] == ["g"] * 3 + ["g-pilot-rates"] * 3
    assert len({t.key for t in trainings}) == 6
    assert num_unfinished == 2


@pytest.mark.parametrize(
    ("label", "name"),
    [("(64, 16, 4, 18)", "64-16-4-18"), ("16-8 kernel_size=5", "16-8-kernel_size=5"), ("..", "run"),
     ("a/../b", "a-..-b")],
)  # fmt: skip
def test_labels_become_names_of_folders(label: str, name: str) -> None:
    assert file_name(label) == name


def test_an_interrupted_folder_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings, _ = of(runs.make(tmp_path / "g").path)
    calls = iter((True, False, True, True))

    def write(training: Training, temporary: Path) -> Path:
        folder = temporary / training.key
        folder.mkdir()
        if not next(calls):
            raise KeyboardInterrupt
        return folder

    def export() -> int:
        pattern = "runs/seed-*"
        return write_folders(
            trainings, tmp_path / "out", pattern, write, lambda t, _: f"runs/seed-0-{t.key}"
        )

    with pytest.raises(KeyboardInterrupt):
        export()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"runs", ".lock"}
    (tmp_path / "out/.incomplete-x/folder").mkdir(parents=True)  # as after SIGKILL
    monkeypatch.setattr(folders, "WAIT_SECONDS", 0.0)
    with hold(tmp_path / "out/.lock"), pytest.raises(Locked):
        export()
    assert (export(), export()) == (2, 0)
    assert len(list((tmp_path / "out/runs").iterdir())) == 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"runs", ".lock"}


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_missing_package_is_named_with_its_extra(
    tracker: str, run_cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, tracker, None)
    run = runs.make(tmp_path / "g").path
    code, _, err = run_cli("export", str(run), f"--{tracker}", str(tmp_path / "out"))
    message = " ".join(err.split())
    assert code == 2
    assert f"needs the package {tracker}" in message
    assert "pip install 'archsearch[trackers]'" in message
    assert not (tmp_path / "out").exists()


def test_what_a_tracker_is_given_needs_no_tracker() -> None:
    script = (
        "import sys, archsearch.trackers, archsearch.trackers.trainings\n"
        "print({'tensorboard', 'wandb', 'mlflow', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
