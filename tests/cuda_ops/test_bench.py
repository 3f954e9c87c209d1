"""The benchmark: its memory floors against hand-computed ones, and a run on tiny shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cuda_ops import ConvArgs, bench, inner_loops, timing
from cuda_ops.reference import dcnv3_torch
from cuda_ops.timing import Shape, shapes


def test_floors_are_the_bytes_to_move() -> None:
    stage_1, _, _, stage_4 = shapes(["t224"], "cuda", None)
    assert stage_1 == Shape("t224 stage 1", 64, 56, 56, 4)
    # x and output 64 wide, offset 72, mask 36; backward reads the gradient and writes three more.
    pixels = 64 * 56 * 56
    assert stage_1.floor_bytes("forward", 4) == pixels * (64 + 72 + 36 + 64) * 4
    assert stage_1.floor_bytes("backward", 2) == pixels * 2 * (64 + 72 + 36 + 32) * 2
    assert stage_4.floor_bytes("forward", 4) == 64 * 7 * 7 * 59 * 32 * 4
    assert [shape.width for shape in shapes(["b800"], "cpu", None)] == [334, 167, 84, 42]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the shapes by two of few pixels, each timed once."""
    monkeypatch.setitem(timing.ROUNDS, "cpu", 1)
    monkeypatch.setitem(timing.COPY_BYTES, "cpu", 1 << 20)
    monkeypatch.setattr(timing, "STAGES", {"t32": [(3, 2, 2), (2, 2, 1)]})


@pytest.mark.usefixtures("tiny")
def test_a_run_writes_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "rows.json"
    bench.main(["--device", "cpu", "--shapes", "t32", "--batch", "1", "--json", str(path)])
    written = json.loads(path.read_text())
    assert written["threads"] == torch.get_num_threads()
    assert [row["direction"] for row in written["rows"]] == ["forward", "backward"] * 2
    for row in written["rows"]:
        seconds = row["seconds"]
        assert row["times_faster"]["torch"] == seconds["torch"] / seconds["ours"]
        assert row["times_the_floor"] == seconds["ours"] / seconds["floor"]
        assert max(row["difference_to_ours"].values()) < 1e-4
        assert row["failures"] == {}
    assert "t32 stage 1" in capsys.readouterr().out


Call = Callable[[Tensor, Tensor, Tensor], Tensor]


class FailsBackward(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor, offset: Tensor, mask: Tensor, args: Any) -> Tensor:
        return dcnv3_torch(x, offset, mask, args)

    @staticmethod
    def backward(_ctx: Any, *_grads: Tensor) -> None:
        raise RuntimeError("no kernel for the gradient\nand a stack of frames")


def fails_forward(_groups: int) -> Call:
    def call(_x: Tensor, _offset: Tensor, _mask: Tensor) -> Tensor:
        raise TypeError("incompatible function arguments")

    return call


def fails_backward(groups: int) -> Call:
    args = ConvArgs(groups, softmax=True)
    return lambda x, offset, mask: FailsBackward.apply(x, offset, mask, args)


BASELINES = {"A": fails_forward, "B": fails_backward}


@pytest.mark.usefixtures("tiny")
def test_a_failing_baseline_has_a_dash_and_its_reason_is_printed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[dict[str, Any]] = []

    def with_baselines(*arguments: Any) -> list[dict[str, Any]]:
        rows = timing.measure(*arguments[:4], BASELINES)
        measured.extend(rows)
        return rows

    monkeypatch.setattr(bench, "measure", with_baselines)
    path = tmp_path / "rows.json"
    bench.main(["--device", "cpu", "--shapes", "t32", "--batch", "1", "--json", str(path)])
    forward, backward, *_ = json.loads(path.read_text())["rows"]
    assert forward["failures"] == {"A": "TypeError: incompatible function arguments"}
    assert forward["seconds"]["A"] is forward["times_faster"]["A"] is None
    assert forward["seconds"]["B"] > 0
    assert backward["failures"]["B"] == "RuntimeError: no kernel for the gradient"
    assert (
        backward["seconds"]["A"]
        is backward["seconds"]["B"]
        is backward["times_faster"]["B"]
        is None
    )
    assert backward["seconds"]["ours"] > 0
    assert capsys.readouterr().err == (
        "A fails at t32 stage 1 float32: TypeError: incompatible function arguments\n"
        "B fails at t32 stage 1 float32: RuntimeError: no kernel for the gradient\n"
    )
    columns = ["torch", "A", "B", "ours"]
    row = bench.table_row(measured[1], columns)
    assert row.split().count("-") == 4
    assert len(row) == len(bench.table_header(columns))


@pytest.mark.usefixtures("tiny")
def test_an_error_of_our_operator_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("ours is broken")

    monkeypatch.setattr(timing, "dcnv3", broken)
    with pytest.raises(RuntimeError, match="ours is broken"):
        timing.measure(shapes(["t32"], "cpu", 1)[0], torch.float32, "cpu", 1e9, {})


@pytest.mark.usefixtures("tiny")
def test_an_interrupted_run_keeps_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(shape: Shape, *arguments: Any) -> list[dict[str, Any]]:
        if shape.name == "t32 stage 2":
            raise KeyboardInterrupt
        return timing.measure(shape, *arguments)

    monkeypatch.setattr(bench, "measure", interrupted)
    path = tmp_path / "rows.json"
    with pytest.raises(KeyboardInterrupt):
        bench.main(["--device", "cpu", "--shapes", "t32", "--batch", "1", "--json", str(path)])
    assert [row["name"] for row in json.loads(path.read_text())["rows"]] == ["t32 stage 1"] * 2
    assert list(tmp_path.iterdir()) == [path]


def test_the_gpu_sleeps_while_the_host_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Stub:
        def __init__(self, **_: Any) -> None:
            self.zero_, self.synchronize = partial(events.append, "zero"), lambda: None
            self.record = partial(events.append, "record")

        def elapsed_time(self, _end: Any) -> float:
            return 2.0

    monkeypatch.setattr(torch, "empty", lambda *_, **__: Stub())
    monkeypatch.setattr(torch.cuda, "Event", Stub)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda clocks: events.append(f"sleep {clocks}"))
    assert timing.seconds_cuda(lambda: events.append("call")) == 2e-3
    assert events == ["zero", "sleep 2000000", "record", "call", "record"]


def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--device", "cpu", "--shapes", "t224,t64", "--dtypes", "fp8"])
    assert "unknown shapes or dtypes: t64, fp8" in capsys.readouterr().err


def test_inner_loops_are_compared_with_the_floor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(inner_loops, "bandwidth", lambda _: 59 * 4e9)  # a pair's bytes in 1 ns
    monkeypatch.setattr(inner_loops, "seconds_per_pair", lambda: {"forward": 3e-9})
    inner_loops.main()
    assert "inner loops    3.0 ns, floor    1.0 ns: 3.00x" in capsys.readouterr().out


def test_inner_loops_are_built_and_take_some_time() -> None:
    seconds = inner_loops.seconds_per_pair()
    assert list(seconds) == ["forward", "backward"]
    assert all(value > 0 for value in seconds.values())
