"""Timing of a training step: with only torch and numpy, and with a baseline that fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from archsearch.benchmarks import train_step
from archsearch.benchmarks.step_shares import step_shares
from archsearch.families.internimage import Variant
from cuda_ops import dcnv3
from internimage import dcnv3 as layer
from tests.training.trainings import new_training

BARE = """
import sys
for name in ("sklearn", "pandas", "scipy", "optuna", "ray", "kornia", "fvcore", "PIL", "typer",
             "rich", "jinja2", "matplotlib", "hypothesis"):
    sys.modules[name] = None
from archsearch.benchmarks import train_step
from archsearch.families.internimage import Variant
train_step.parse_network = lambda _: Variant(16, 8, 1, 1)
train_step.main(sys.argv[1:])
"""


def test_a_step_is_timed_without_optional_packages(tmp_path: Path) -> None:
    arguments = ["--device", "cpu", "--batch", "2", "--rounds", "1", "--precision", "fp32,bf16"]
    arguments += ["--out", str(tmp_path / "step.json")]
    subprocess.run([sys.executable, "-c", BARE, *arguments], check=True)
    written = json.loads((tmp_path / "step.json").read_text())
    assert [row["precision"] for row in written["rows"]] == ["fp32", "bf16"]
    for row in written["rows"]:
        assert row["batch"] == 2
        assert row["times_faster"] == row["seconds"]["reference"] / row["seconds"]["native"]
        assert row["images_at_a_time"] == {"native": 2, "reference": 2}
        assert row["failures"] == {}


def test_the_operator_is_replaced_while_it_is_timed() -> None:
    with train_step.use_operator("torch"):
        assert layer.dcnv3.keywords == {"backend": "torch"}
    assert layer.dcnv3 is dcnv3


def test_the_shares_of_a_step_sum_to_one_and_are_positive() -> None:
    training = new_training()
    shares = step_shares(training, next(training.remaining_batches()))
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0


def baseline(fails_in: str) -> Callable[..., Tensor]:
    """Return the native operator as a baseline that fails for one dtype."""

    def operator(x: Tensor, *tensors: Tensor, **arguments: Any) -> Tensor:
        if str(x.dtype) == f"torch.{fails_in}":
            raise RuntimeError(f"no kernel for {fails_in}\nand a stack of frames")
        return dcnv3(x, *tensors, **arguments)

    return operator


def test_a_failing_baseline_is_reported_and_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train_step, "parse_network", lambda _: Variant(16, 8, 1, 1))
    makers, left_out = {"A": "bfloat16"}, {"B": "absent"}
    monkeypatch.setattr(train_step, "find_baselines", lambda *_: (makers, left_out))
    monkeypatch.setattr(train_step, "as_dcnv3", baseline)
    monkeypatch.setattr(train_step, "step_shares", lambda *_: {"rest": None})
    path = tmp_path / "step.json"
    arguments = ["--device", "cpu", "--batch", "2", "--rounds", "1", "--precision", "bf16,fp32"]
    train_step.main([*arguments, "--baselines", "theirs", "--out", str(path)])
    written = json.loads(path.read_text())
    bf16, fp32 = written["rows"]
    assert written["left_out"] == {"B": "absent"}
    assert bf16["failures"] == {"A": "RuntimeError: no kernel for bfloat16"}
    assert bf16["seconds"]["A"] is bf16["times_faster_than_baselines"]["A"] is None
    assert bf16["times_faster"] > 0
    ratio = fp32["seconds"]["A"] / fp32["seconds"]["native"]
    assert fp32["times_faster_than_baselines"]["A"] == ratio
    printed = capsys.readouterr()
    assert "A          failed: RuntimeError: no kernel for bfloat16" in printed.err
    assert "times as fast as A" in printed.out
    assert "share of the time: rest -" in printed.out


def test_wrong_sizes_and_precisions_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train_step.main(["--image-size", "32,large", "--precision", "fp8"])
    error = capsys.readouterr().err
    assert "sizes are in pixels, precisions fp32, bf16 or fp16; got large, fp8" in error
