"""Input that is refused: exit code 2, all problems in words, and no folder that would refuse the
corrected command."""

import socket
from pathlib import Path
from typing import Any

import pytest

from archsearch.api import session
from archsearch.api.options import Launch
from archsearch.core.plans import Search
from archsearch.families.internimage import Variant
from internimage import save_weights
from tests import toy

SHORT = ["--epochs", "1", "--set", "data_fraction=0.05", "--no-quote", "--runner", "inline"]
GRID = ["grid", "--budget", "0.3M", "--c1", "8", "--group-channels", "4", "--l1", "1"]
SEARCH = ["search", "--budget", "0.3M", "--c1", "8,12,16", "--group-channels", "4", "--l1", "1,2"]
ON_RAY = ["--epochs", "1", "--no-quote", "--runner", "ray"]
TINY = "8-4-1-1"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


REFUSED = {
    "objectives must be different metrics": [
        *SEARCH, "--trials", "1", "--objectives", "val_accuracy,val_accuracy", *SHORT,
    ],
    "no variant of the search space was found that meets 20K params": [
        "search", "--over", "twelve", "--budget", "0.02M", "--trials", "1", *SHORT,
    ],
    "no cell can be trained": ["grid", "--budget", "0.001M", "--c1", "8", "--l1", "1,2", *SHORT],
    "one worker, got 3": [*GRID, *SHORT, "--workers", "3"],
    "Ray assigns GPUs itself": [*GRID, *ON_RAY, "--device", "cuda:1"],
    "a Ray address is HOST:PORT": [*GRID, *ON_RAY, "--ray-address", "nowhere"],
    "no Ray answers at 127.0.0.1:": [*GRID, *ON_RAY, "--ray-address", "127.0.0.1:FREE"],
    "absent.safetensors is not a file": ["train", TINY, "--start", "absent.safetensors"],
    "not a safetensors file": ["train", TINY, "--start", "wrong.safetensors"],
    "other.safetensors does not fit the network": ["train", TINY, "--start", "other.safetensors"],
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_refused_input_leaves_nothing(run_cli: Any, message: str, tmp_path: Path) -> None:
    Path("wrong.safetensors").write_text("no weights")
    save_weights(Variant(16, 4, 1, 1).build(10), "other.safetensors")
    before = sorted(tmp_path.rglob("*"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # nobody listens here
        port = str(free.getsockname()[1])
        code, out, err = run_cli(*(word.replace("FREE", port) for word in REFUSED[message]))
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


def test_all_problems_of_a_launch_are_reported_together(run_cli: Any, tmp_path: Path) -> None:
    code, _, err = run_cli(*GRID, *SHORT, "--workers", "3", "--data", "imagefolder:nowhere")
    assert code == 2
    assert "one worker" in err
    assert "nowhere" in err
    assert not list(tmp_path.iterdir())


def test_every_cell_that_cannot_be_trained_is_named(run_cli: Any) -> None:
    _, _, err = run_cli(*REFUSED["no cell can be trained"])
    assert err.count("the smallest legal model with C1 = ") == 4


def test_all_problems_of_a_fine_tuning_are_reported_together(run_cli: Any, tmp_path: Path) -> None:
    save_weights(Variant(16, 4, 1, 1).build(10), "other.safetensors")
    wrong = ["--data", "imagefolder:nowhere", "--set", "precision=fp16", "--device", "cpu"]
    code, _, err = run_cli("train", TINY, "--start", "other.safetensors", *wrong)
    assert (code, "3 errors" in err) == (2, True)
    for problem in ("nowhere", "fp16 needs a GPU", "it has 16, 32, 64, 128 channels"):
        assert problem in err
    assert [path.name for path in tmp_path.iterdir()] == ["other.safetensors"]


def test_a_start_is_not_needed_for_a_finished_training(run_cli: Any) -> None:
    short = ["train", TINY, "--epochs", "1", "--set", "data_fraction=0.05", "--out", "out"]
    save_weights(Variant(8, 4, 1, 1).build(7), "start.safetensors")
    command = [*short, "--start", "start.safetensors"]
    assert run_cli(*command)[0] == 0
    Path("start.safetensors").unlink()
    assert run_cli(*command)[0] == 0


def test_a_search_without_a_budget_is_refused(tmp_path: Path) -> None:
    plan = Search("four", {"c1": (16,)}, "tpe", ("val_accuracy",), 0, 1, 0.05)
    study = toy.study(epochs=1)
    study = type(study)(**{**vars(study), "plan": plan, "cells": (), "data": "digits"})
    with pytest.raises(ValueError, match="a search needs a budget"):
        session.train_and_report(study, Launch(out=tmp_path / "run"), ["archsearch"])
    assert not list(tmp_path.iterdir())
