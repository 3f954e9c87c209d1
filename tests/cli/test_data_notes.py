"""What is left out of the data is said before training, in the record, the status and the page."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.test_data import write_tree

NOTE = "left out of train/: 1 hidden, 1 .txt"
SHORT = ["--epochs", "1", "--set", "val_fraction=0.2", "--set", "image_size=32"]
SMALL = ["--budget", "1M", "--c1", "16", "--group-channels", "8", "--l1", "2"]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    tree = write_tree(tmp_path / "set", {"train": 8, "test": 3})
    (tree / "train" / "cat" / "notes.txt").write_text("x")
    (tree / "train" / "cat" / "._0.png").write_text("x")
    return f"cifar10:{tree}"


def test_a_study_says_what_is_left_out_everywhere(
    run_cli: Any, tmp_path: Path, images: str
) -> None:
    command = ["grid", *SMALL, *SHORT, "--data", images, "--runner", "inline", "--out", "one"]
    code, _, err = run_cli(*command)
    assert code == 0
    assert err.index(f"\nData: {NOTE}\n") < err.index("Folder: one.")
    (record,) = tmp_path.rglob("record.json")
    assert json.loads(record.read_text())["notes"] == [f"data: {NOTE}"]
    assert NOTE in (tmp_path / "one/reports/report.html").read_text()
    assert f"Data: {NOTE}\n" in run_cli("status", "one")[2]
    assert run_cli("report", "one", "--verify")[0] == 0


def test_a_full_training_says_what_is_left_out_before_it_begins(
    run_cli: Any, tmp_path: Path, images: str, caplog: pytest.LogCaptureFixture
) -> None:
    where = ["--data", images, "--device", "cpu", "--out", "full"]
    assert run_cli("train", "16-8-1-1", *SHORT, *where)[0] == 0
    assert caplog.messages == [f"Data: {NOTE}"]
    record = json.loads((tmp_path / "full/record.json").read_text())
    assert record["notes"] == [f"data: {NOTE}"]


def test_a_study_whose_data_grew_names_the_numbers_of_images(
    run_cli: Any, tmp_path: Path, images: str
) -> None:
    command = ["grid", *SMALL, *SHORT, "--data", images, "--runner", "inline", "--out", "one"]
    assert run_cli(*command)[0] == 0
    write_tree(tmp_path / "set" / "train" / "cat" / "more", {"2024": 1})
    from archsearch.training import data

    data._load.cache_clear()
    code, _, err = run_cli(*command)
    assert code == 2
    assert "data.fingerprint: the folder has" in err
    assert "data.num_train: the folder has 12, requested 14" in err
