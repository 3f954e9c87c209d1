"""Latency as a budget and an objective: measured once, resumed, refused, and reported."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import archsearch as a
from archsearch.api import latency, latency_measurements
from archsearch.core.interrupted import Stop
from archsearch.results.latencies import MeasuredLatencies
from archsearch.storage.study_folder import TrialFolder
from archsearch.study import Record
from tests.cli.test_compare import SHORT, THIN, records

GRID = ("grid", "--family", "thin.py:Thin", "--set-axis", "width=16,24,32", "--budget", "1ms",
        "--tolerance", "0.2", *SHORT)  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "thin.py").write_text(THIN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Latencies are computed, and not measured; the values change what is computed."""
    monkeypatch.setattr(latency_measurements, "WORK", f"{__name__}:fake_latency")
    monkeypatch.setattr(latency, "_processor", lambda: "cpu (Toy)")
    changes.clear()
    changes["failing"] = 0
    return changes


changes: dict[str, float] = {}

SOLVED = {"16-5", "24-3", "32-2"}
"""The networks of 1 ms by `fake_latency`."""


def fake_latency(path: Path, device: str, stop: Stop) -> None:
    """The work of a repeat: 0.01 ms per block and channel, and some noise."""
    del device, stop
    folder = TrialFolder(path)
    trial = folder.trial()
    width, depth = trial.variant.numbers
    if changes["failing"] == width:
        error = "the target bench failed with exit code 3; it printed:\nno board"
        folder.write_record(Record(trial.id, "failed", kind="target", error=error))
        return
    noise = changes.get(f"noise_of_{width}", 0.01)
    seconds = 1e-5 * width * (depth + 1) * (1 + noise * (trial.seed - 2))
    folder.write_record(Record(trial.id, "complete", {"latency_seconds": seconds}))


def test_a_grid_of_one_latency_is_measured_once(
    folder: Path, run_cli: Any, timed: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, command = folder / "runs/grid-Thin-1ms-digits", (*GRID, "--target", "cpu")
    code, out, err = run_cli(*command, "--plan")
    assert (code, out) == (0, "")
    assert "has no measured latency: there is no plan yet" in err
    timed["failing"] = 24
    code, _, err = run_cli(*command)
    assert code == 2
    assert "the latency of 24-1 cannot be measured: the target bench failed" in err
    assert err.rstrip().endswith("no board")
    before = {path: text for path, text in records(run).items() if b'"failed"' not in text}
    assert before
    timed["failing"] = 0
    code, _, err = run_cli(*command)
    assert code == 0, err
    finished = records(run)
    assert before.items() <= finished.items()
    results = a.load(run).results
    assert {c.cell.variant.name for c in results.cells if c.cell.variant} == SOLVED
    assert "24-3" in run_cli(*command, "--plan")[1]
    measured = MeasuredLatencies(results.latencies)
    best = results.network(results.compare().ranking.best).cell.variant
    assert best in measured.times
    assert run_cli("report", str(run), "--verify")[0] == 0
    check_report(run)
    timed["noise_of_24"] = 0.3  # what the trainings began with is not measured again
    assert run_cli(*command)[0] == 0
    assert records(run) == finished
    code, _, err = run_cli(*GRID[:5], "--budget", "50K", *SHORT, "--out", "other")
    assert code == 0, err
    code, _, err = run_cli(*command, "--out", "other")
    assert code == 2
    assert "other holds the study grid-Thin without a latency" in err
    monkeypatch.setattr(latency, "_processor", lambda: "cpu (Other)")
    code, _, err = run_cli(*command)
    assert code == 2
    assert "plan.device: the folder has 'cpu (Toy)', requested 'cpu (Other)'" in err


def check_report(run: Path) -> None:
    """Every network is there, with what was predicted and measured."""
    assert (
        "grid-Thin at a latency of 1ms on cpu: 3 cells" in (run / "reports/results.md").read_text()
    )
    text = (run / "reports/latency.md").read_text()
    assert "on cpu (cpu (Toy), 1 thread), random weights; the median of 5 repeats" in text
    assert "Kendall's tau between latency and multiply-adds is" in text
    with (run / "reports/latency.csv").open() as file:
        rows = {row["network"]: row for row in csv.DictReader(file)}
    assert {name for name, row in rows.items() if row["in_plan"] == "True"} == SOLVED
    row = rows["24-3"]
    assert float(row["measured_ms"]) == pytest.approx(0.96)
    assert float(row["measured_low_ms"]) < 0.96 < float(row["measured_high_ms"])
    error = float(row["predicted_ms"]) / float(row["measured_ms"]) - 1
    assert float(row["error_percent"]) == pytest.approx(100 * error, abs=0.01)
    assert (run / "reports/latency-macs.png").is_file()


def test_unstable_times_are_refused(run_cli: Any, timed: dict[str, float]) -> None:
    timed["noise_of_24"] = 0.3
    command = (*GRID, "--target", "cpu")
    code, _, err = run_cli(*command)
    assert code == 2
    assert "24-3 are not stable: they are measured again" in err
    assert (
        "the middle half of 5 repeats spreads over more than the tolerance of 20% for 24-3" in err
    )
    before = records(Path("runs/grid-Thin-1ms-digits"))
    timed["noise_of_24"] = 0.01
    code, _, err = run_cli(*command)
    assert code == 0, err
    after = records(Path("runs/grid-Thin-1ms-digits"))
    kept = {path for path in before if after[path] == before[path]}
    others = {path for path in before if b"measured before" not in after[path]}
    assert kept == others
    assert 5 <= len(kept) < len(before)


def test_the_latency_of_a_search_is_predicted_and_the_front_measured(
    folder: Path, run_cli: Any, timed: dict[str, float]
) -> None:
    del timed
    command = ("search", "--family", "thin.py:Thin", "--set-axis", "width=16,20,24,28,32",
               "--budget", "30K", "--tolerance", "0.5", "--objectives", "val_accuracy,latency",
               "--trials", "4", "--target", "cpu", *SHORT)  # fmt: skip
    code, _, err = run_cli(*command)
    assert code == 0, err
    run = next((folder / "runs").iterdir())
    finished = records(run)
    assert run_cli(*command)[0] == 0
    assert records(run) == finished
    results = a.load(run).results
    measured, metric = MeasuredLatencies(results.latencies), results.metric("latency")
    for cell in results.cells:
        (value,) = cell.values(metric).values()
        width, depth = cell.cell.variant.numbers
        assert value == pytest.approx(1e-2 * width * (depth + 1), rel=0.2)
    front = {c.cell.variant for c in results.cells if c.cell.variant in measured.times}
    assert front
    rows = json.loads((run / "reports/numbers.json").read_text())
    assert "latency" in json.dumps(rows)
    assert run_cli("report", str(run), "--verify")[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("grid", "--budget", "5ms"), "is a latency: give its --target"),
        (("grid", "--budget", "30M", "--target", "cpu"), "the budget is a latency, such as 5ms"),
        (("grid", "--budget", "0ms", "--target", " "), "2 errors"),
        (("search", "--objectives", "val_accuracy,latency"), "latency is measured: give its"),
        (("search", "--target", "cpu"), "give --objectives val_accuracy,latency too"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    run_cli: Any, folder: Path, options: tuple[str, ...], message: str
) -> None:
    code, _, err = run_cli(*options)
    assert code == 2
    assert message in err
    assert [path.name for path in folder.iterdir()] == ["thin.py"]
