"""The benchmark of large runs makes runs that every command can read, and measures a process."""

from pathlib import Path

import pytest

from archsearch.benchmarks import large_runs
from archsearch.results import load


def test_a_synthetic_run_is_finished_and_has_different_networks(tmp_path: Path) -> None:
    folder = large_runs.finished_run(tmp_path / "run", num_networks=45, num_seeds=2)
    results = load(folder.path)
    assert len({cell.label for cell in results.cells}) == 45
    assert {t.state for t in results.trials} == {"complete"}
    assert len(results.trials) == 90
    large_runs.resume(str(folder.path))
    assert set(large_runs.measures(folder.path)) >= {"status", "load", "report"}


def test_ten_thousand_networks_are_different() -> None:
    assert len({cell.variant for cell in large_runs.networks(10_000)}) == 10_000


def test_a_command_that_fails_is_not_measured() -> None:
    seconds, megabytes = large_runs.measure(["x = bytearray(50_000_000)"])
    assert seconds > 0
    assert 50 < megabytes < 1000
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        large_runs.measure(["1 / 0"])
