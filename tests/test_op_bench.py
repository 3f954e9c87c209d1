"""The benchmark: its floors by hand, and a run on a tiny shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cuda_ops import bench, timing
from cuda_ops.timing import Shape, shapes


def test_floors_are_the_bytes_that_have_to_be_moved() -> None:
    stage_1, _, _, stage_4 = shapes(["t224"], "cuda", None)
    assert stage_1 == Shape("t224 stage 1", 64, 56, 56, 4)
    # x and output 64 wide, offset 72, mask 36; backward reads the gradient and writes three more.
    pixels = 64 * 56 * 56
    assert stage_1.floor_bytes("forward", 4) == pixels * (64 + 72 + 36 + 64) * 4
    assert stage_1.floor_bytes("backward", 2) == pixels * 2 * (64 + 72 + 36 + 32) * 2
    assert stage_4.floor_bytes("forward", 4) == 64 * 7 * 7 * 59 * 32 * 4
    assert [shape.width for shape in shapes(["b800"], "cpu", None)] == [334, 167, 84, 42]


def test_a_run_writes_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(timing.ROUNDS, "cpu", 1)
    monkeypatch.setitem(timing.COPY_BYTES, "cpu", 1 << 20)
    monkeypatch.setattr(timing, "STAGES", {"t32": [(3, 2, 2)]})
    path = tmp_path / "rows.json"
    bench.main(["--device", "cpu", "--shapes", "t32", "--batch", "1", "--json", str(path)])
    written = json.loads(path.read_text())
    assert written["threads"] == torch.get_num_threads()
    forward, backward = written["rows"]
    assert [forward["direction"], backward["direction"]] == ["forward", "backward"]
    for row in (forward, backward):
        seconds = row["seconds"]
        assert row["times_faster"]["torch"] == seconds["torch"] / seconds["ours"]
        assert row["times_the_floor"] == seconds["ours"] / seconds["floor"]
        assert max(row["difference_to_ours"].values()) < 1e-4
    assert "t32 stage 1" in capsys.readouterr().out


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--device", "cpu", "--shapes", "t224,t64", "--dtypes", "fp8"])
    assert "unknown: t64, fp8" in capsys.readouterr().err
