"""The study in parts: balanced when stopped, and continued from its committed records alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from archsearch.benchmarks import evidence
from archsearch.benchmarks.evidence import train_in_parts
from archsearch.core.cell import Cell
from archsearch.core.recipes import resolve
from archsearch.families.internimage import Variant
from archsearch.reports.provenance import verify
from archsearch.results import load
from archsearch.running.run import StudyStopped
from archsearch.storage.checksum import verified
from archsearch.storage.files import write_json
from archsearch.study import Study

RECIPE = resolve("quick", {"epochs": "1", "data_fraction": "0.05", "val_fraction": "0.2"})


def tiny(name: str, seeds: int, *l1: int) -> Study:
    variants = [Variant(8, 8, n, n) for n in l1]
    cells = (Cell({"l1": v.l1, "c1": 8}, "exact", v, v.cost()) for v in variants)
    return Study(
        name, "Does it continue?", "tests", tuple(cells), RECIPE, seeds=tuple(range(seeds))
    )


STUDIES = [tiny("one", 2, 1, 2), tiny("two", 4, 1)]
"""Two parts: one seed of two networks, then two seeds of one network."""


class Killed(Exception):
    """The end of a machine in the middle of a study."""


def train(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None
) -> list[Any]:
    """Train in ``folder``; return the trainings that were launched, by study and seed."""
    launched = []

    def run_study(study_folder: Any, trials: Any, **options: Any) -> None:
        if stop_after is not None and len(launched) >= stop_after:
            raise Killed
        launched.extend((study_folder.path.name, t.seed) for t in trials)
        real(study_folder, trials, **options)

    real = evidence.__dict__["run_study"]
    with monkeypatch.context() as patch:
        patch.setattr(evidence, "run_study", run_study)
        train_in_parts(STUDIES, 2, folder / "runs", folder / "records", runner="inline",
                       device="cpu")  # fmt: skip
    return launched


@pytest.mark.slow
def test_another_machine_continues_from_the_records_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, whole = tmp_path / "first", tmp_path / "second", tmp_path / "whole"
    with pytest.raises(Killed):
        train(first, monkeypatch, stop_after=4)
    shutil.copytree(first / "records", second / "records")
    assert not list((second / "records").rglob("*.pt"))
    launched = train(second, monkeypatch)
    assert launched == [("one", 1), ("one", 1), ("two", 2), ("two", 3)]
    assert train(second, monkeypatch) == []

    order = train(whole, monkeypatch)
    assert [seed for _, seed in order] == [0, 0, 0, 1, 1, 1, 2, 3]
    for name in ("one", "two"):
        assert accuracies(second / "records" / name) == accuracies(whole / "records" / name)
        assert verify(second / "records" / name).differences == ()


def accuracies(run: Path) -> dict[str, Any]:
    values = {t.trial.id: t.record for t in load(run).trials}
    assert all(values.values())
    return {i: r.metrics["val_accuracy"] for i, r in values.items() if r is not None}


def test_a_run_takes_the_records_of_another_machine_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first machine has an older state of the run than the records that it pulls."""
    with pytest.raises(Killed):
        train(tmp_path, monkeypatch, stop_after=3)
    shutil.copytree(tmp_path / "runs", tmp_path / "older")
    train(tmp_path, monkeypatch)
    shutil.rmtree(tmp_path / "runs")
    (tmp_path / "older").rename(tmp_path / "runs")
    assert train(tmp_path, monkeypatch) == []


def test_the_records_of_another_run_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Killed):
        train(tmp_path, monkeypatch, stop_after=0)
    path = tmp_path / "records/one/study.json"
    stored = verified(json.loads(path.read_text()))
    write_json(path, stored | {"created": "2000-01-01T00:00:00+00:00"}, indent=1)
    with pytest.raises(ValueError, match="not a copy of"):
        train(tmp_path, monkeypatch)


def test_the_time_limit_stops_the_study(tmp_path: Path) -> None:
    with pytest.raises(StudyStopped, match="max-hours"):
        train_in_parts(STUDIES, 2, tmp_path / "runs", tmp_path / "records", max_hours=0.0,
                       runner="inline", device="cpu")  # fmt: skip
    assert (tmp_path / "records/one/study.json").exists()
