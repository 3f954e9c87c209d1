"""A report proves itself: the same records give the same bytes, and any change is found."""

import json
import shutil
from pathlib import Path

import pytest

from archsearch.storage.store import StudyFolder
from reports.render import render_all
from reports.verify import verify
from tests.golden import golden_results, scale_results, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(golden_results(2), tmp_path_factory.mktemp("runs") / "grid-30m")
    render_all([folder], folder / "reports")
    return folder


def test_an_untouched_report_is_proven(run: Path) -> None:
    assert verify(run) == []


def test_the_same_records_give_the_same_bytes(run: Path) -> None:
    written = render_all([run], run.parent / "again")
    stored = {p.name: p.read_bytes() for p in (run / "reports").iterdir()}
    assert {path.name for path in written.values()} == set(stored)
    assert {"heatmap.png", "heatmap.svg", "results.csv", "results.md"} <= set(stored)
    for path in written.values():
        if path.name != "numbers.json":  # it says where the run lies from there
            assert path.read_bytes() == stored[path.name], path.name


CHANGES = {
    "report.html": ("cannot be told from it", "can be told from it"),
    "results.csv": ("complete", "completed"),
    "results.html": ("±", "+"),
    "results.md": ("Validation", "Test"),
    "results.tex": ("$\\pm$ ", "$\\pm$ 1"),
    "heatmap.svg": (">± ", ">± 9"),
    "learning.svg": ("fill: #", "fill: #0"),
    "pareto.csv": ("params", "parans"),
}


def test_every_changed_file_is_found(run: Path) -> None:
    out = shutil.copytree(run / "reports", run / "copy")
    value = first_value(out)
    swap(out / "numbers.json", f'"val_accuracy_mean": {value}', '"val_accuracy_mean": 99.9')
    for name, (old, new) in CHANGES.items():
        swap(out / name, old, new)
    picture = (out / "heatmap.png").read_bytes()
    (out / "heatmap.png").write_bytes(picture[:-20] + b"x" * 20)
    (out / "recipe.csv").unlink()
    found = verify(run, out)
    cell = next(line for line in found if line.startswith("runs[0].cells["))
    assert f"val_accuracy_mean: the report says 99.9, the records give {value}" in cell
    assert "heatmap.png is not the picture of these records" in found
    assert "recipe.csv is missing" in found
    for name in CHANGES:
        assert sum(line.startswith(f"{name}") for line in found) == 1, name
    assert len(found) == 3 + len(CHANGES)


def first_value(out: Path) -> str:
    cells = json.loads((out / "numbers.json").read_text())["runs"][0]["cells"]
    return next(str(c["val_accuracy_mean"]) for c in cells if c["val_accuracy_mean"])


def swap(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, path
    path.write_text(text.replace(old, new, 1))


def test_a_changed_record_breaks_the_proof(tmp_path: Path) -> None:
    folder = write_run(scale_results(2), tmp_path / "scale")
    render_all([folder], folder / "reports")
    trial = StudyFolder(folder).trials()[0]
    path = folder / "trials" / trial.id / "record.json"
    record = json.loads(path.read_text())
    record["metrics"]["val_accuracy"] += 0.5
    path.write_text(json.dumps(record, separators=(",", ":")) + "\n")
    found = verify(folder)
    assert any(line.startswith(f"runs[0].records.{trial.id}") for line in found)
    assert any("val_accuracy_mean: the report says" in line for line in found)


def test_a_report_of_two_runs_is_proven(tmp_path: Path) -> None:
    """Also from another metric than the study's, and from either run."""
    runs = [write_run(scale_results(2), tmp_path / name) for name in ("a", "b")]
    written = render_all(runs, tmp_path / "both", "val_error")
    assert (tmp_path / "both" / "a" / "learning.png").exists()
    assert written["page"].read_text().count("<article") == 2
    assert verify(runs[1], tmp_path / "both") == []


def test_what_is_no_report_is_refused_in_words(tmp_path: Path, run: Path) -> None:
    with pytest.raises(ValueError, match=r"numbers\.json is missing; draw it first"):
        verify(tmp_path)
    with pytest.raises(ValueError, match="is no report of"):
        verify(tmp_path, run / "reports")
    (tmp_path / "numbers.json").write_text("{torn")
    with pytest.raises(ValueError, match="is damaged"):
        verify(tmp_path, tmp_path)
    with pytest.raises(ValueError, match="at least one run folder"):
        render_all([], tmp_path)
    with pytest.raises(ValueError, match="unknown metric"):
        render_all([run], tmp_path, "speed")
