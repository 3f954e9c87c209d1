"""One repeat of a latency: which call counts, and by which clock; the three kinds of target."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from archsearch.core.cell import Cell
from archsearch.core.family import Family
from archsearch.core.plans import Latency
from archsearch.core.recipes import QUICK
from archsearch.core.task import Data
from archsearch.families.convnext import ConvNeXt
from archsearch.families.internimage import Variant
from archsearch.latency import timing
from archsearch.latency.target import Target
from archsearch.latency.timing import fastest, latency, time_latency
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Study, Trial

DATA = Data("none", "0" * 16, 10, 3, 1, 1, 1)
SMALL, LARGE = Variant(8, 8, 1, 1), Variant(16, 8, 2, 12)


def trial(variant: Family, seed: int = 0) -> Trial:
    return Trial(variant, replace(QUICK, image_size=32), DATA, seed)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.02)


@pytest.mark.parametrize(("threads", "clock"), [(1, "thread_time"), (2, "perf_counter")])
def test_the_fastest_call_counts(threads: int, clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now, durations = [0.0], iter([9.0, 9.0, 0.5, 0.3, 0.2, 0.4, 0.6])

    def call() -> None:
        now[0] += next(durations)

    other = {"thread_time": "perf_counter", "perf_counter": "thread_time"}[clock]
    monkeypatch.setattr(time, clock, lambda: now[0])
    monkeypatch.setattr(time, other, lambda: pytest.fail("the other clock was read"))
    seconds = fastest(call, threads)
    monkeypatch.undo()
    assert seconds == pytest.approx(0.2)


@pytest.mark.parametrize("family", ["internimage", "convnext"])
def test_torch_on_this_processor(family: str, tmp_path: Path) -> None:
    pair = (SMALL, LARGE) if family == "internimage" else (ConvNeXt(8, 1, 1), ConvNeXt(32, 2, 12))
    small, large = (latency(trial(v), Target("cpu"), tmp_path / "files") for v in pair)
    assert 0 < 2 * small < large < 1
    assert not (tmp_path / "files").exists()


def test_an_exported_file_on_onnxruntime_and_by_a_command(tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    files = tmp_path / "files"
    assert 0 < latency(trial(SMALL), Target("onnxruntime"), files) < 1
    (file,) = files.iterdir()
    written = file.stat().st_mtime_ns
    script = tmp_path / "size.py"
    script.write_text("import os, sys; print(os.path.getsize(sys.argv[1]) / 1e9)")
    command = Target.parse(f"{sys.executable} {script}")
    assert latency(trial(SMALL, seed=1), command, files) == file.stat().st_size / 1e9
    assert file.stat().st_mtime_ns == written  # one file for all repeats


def test_a_repeat_is_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell({"network": "x", "purpose": "model"}, "exact", SMALL, SMALL.cost())
    plan = Latency("bench", "")
    study = Study("latency", "?", "tests", (cell,), trial(SMALL).recipe, seeds=(0, 1), plan=plan)
    folder = StudyFolder(tmp_path).create(study, DATA)

    def measured(one: Trial, target: Target, files: Path) -> float:
        assert (target.text, files) == ("bench", tmp_path / "onnx")
        if one.seed:
            raise ValueError("the target bench failed")
        return 0.25

    monkeypatch.setattr(timing, "latency", measured)
    for one in folder.trials():
        folder.trial(one.id).write_spec(one)
        time_latency(folder.trial(one.id).path)
    good, bad = (folder.trial(one.id).record() for one in folder.trials())
    assert good is not None
    assert (good.status, good.metrics["latency_seconds"]) == ("complete", 0.25)
    assert bad is not None
    assert (bad.status, bad.kind, bad.error) == ("failed", "target", "the target bench failed")
