"""A training on annotated images that is killed, and the same command, give the same numbers."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from archsearch.running.train_full import WEIGHTS, training_folder
from tests.tasks.annotated import equal_numbers

SMALL = (
    "--data", "pasted:images=10", "--head-width", "8", "--epochs", "2", "--device", "cpu",
    *(f"--set={change}" for change in ("batch_size=4", "image_size=32", "threads=1")),
)  # fmt: skip
STEPS = 4
"""Optimizer steps before the kill: in the middle of the second epoch of three steps."""


@pytest.mark.parametrize("task", ["segment", pytest.param("detect", marks=pytest.mark.slow)])
def test_a_killed_training_ends_like_an_uninterrupted_one(task, tmp_path, run_cli):
    once, killed = (training_folder(tmp_path / name) for name in ("once", "killed"))
    command = ("train", "8-8-1-1", "--task", task, *SMALL, "--out")
    kill = [sys.executable, "-m", "archsearch.testing.killed", str(STEPS)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
    done = subprocess.run([*kill, *command, str(killed.path)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [row["epoch"] for row in killed.curve()] == [1]
    for folder in (once, killed):
        assert run_cli(*command, str(folder.path))[0] == 0
    equal_numbers(once, killed)
    weights = [load_file(folder.path / WEIGHTS) for folder in (once, killed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
