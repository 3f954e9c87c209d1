"""Verification: the same records give the same bytes, and every change is reported."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer import Exit

from archsearch.cli.runs import report
from archsearch.core.recipes import QUICK
from archsearch.reports.card import Card
from archsearch.reports.cards import CARDS
from archsearch.reports.page import page
from archsearch.reports.provenance import Verification, verify
from archsearch.reports.render import is_report_file, remove_earlier_report, render_all
from archsearch.reports.report import compute_report
from archsearch.results import Results, TrialResult, assemble, load
from archsearch.storage.study_folder import StudyFolder
from archsearch.studies import ablation, data_scale
from archsearch.study import Trial
from tests.golden import (
    DATA,
    complete,
    golden_results,
    grid_study,
    ladder_results,
    scale_results,
    write_run,
)
from tests.reports.test_families import compared
from tests.reports.test_operators import context as context_of_operators
from tests.stored import edit

PUBLISHED = Path(__file__).parents[2] / "studies/results"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(golden_results(2), tmp_path_factory.mktemp("runs") / "grid-30m")
    render_all([folder], folder / "reports")
    return folder


def test_an_unchanged_report_is_verified(run: Path) -> None:
    assert verify(run) == Verification(())


def test_the_same_records_give_the_same_bytes(run: Path) -> None:
    written = render_all([run], run.parent / "again").files
    stored = {p.name: p.read_bytes() for p in (run / "reports").iterdir()}
    assert {path.name for path in written.values()} == set(stored)
    assert {"heatmap.png", "heatmap.svg", "results.csv", "results.md"} <= set(stored)
    for path in written.values():
        if path.name != "numbers.json":  # its paths are relative to the report
            assert path.read_bytes() == stored[path.name], path.name


CHANGES = {
    "report.html": ("statistically tied with it", "worse than it"),
    "results.csv": ("complete", "completed"),
    "results.html": ("±", "+"),
    "results.md": ("Validation", "Test"),
    "results.tex": ("$\\pm$ ", "$\\pm$ 1"),
    "heatmap.svg": (">± ", ">± 9"),
    "learning.svg": ("fill: #", "fill: #0"),
    "pareto.csv": ("params", "parans"),
}


def test_every_changed_file_is_reported(run: Path) -> None:
    out = shutil.copytree(run / "reports", run / "copy")
    value = first_value(out)
    swap(out / "numbers.json", f'"val_accuracy_mean": {value}', '"val_accuracy_mean": 99.9')
    for name, (old, new) in CHANGES.items():
        swap(out / name, old, new)
    image = (out / "heatmap.png").read_bytes()
    (out / "heatmap.png").write_bytes(image[:-20] + b"x" * 20)
    (out / "recipe.csv").unlink()
    lines = verify(run, out).differences
    cell = next(line for line in lines if line.startswith("runs[0].cells["))
    assert f"val_accuracy_mean: the report says 99.9, the records give {value}" in cell
    assert "heatmap.png is not the figure of these records" in lines
    assert "recipe.csv is missing" in lines
    for name in CHANGES:
        assert sum(line.startswith(f"{name}") for line in lines) == 1, name
    assert len(lines) == 3 + len(CHANGES)


def first_value(out: Path) -> str:
    cells = json.loads((out / "numbers.json").read_text())["runs"][0]["cells"]
    return next(str(c["val_accuracy_mean"]) for c in cells if c["val_accuracy_mean"])


def swap(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, path
    path.write_text(text.replace(old, new, 1))


def add_to_accuracy(record: dict[str, Any]) -> None:
    record["metrics"]["val_accuracy"] += 0.5


def test_a_changed_record_is_reported(tmp_path: Path) -> None:
    folder = write_run(scale_results(2), tmp_path / "scale")
    render_all([folder], folder / "reports")
    trial = StudyFolder(folder).trials()[0]
    path = folder / "trials" / trial.id / "record.json"
    edit(path, add_to_accuracy)
    lines = verify(folder).differences
    assert any(line.startswith(f"runs[0].records.{trial.id}") for line in lines)
    assert any("val_accuracy_mean: the report says" in line for line in lines)


def test_a_report_of_two_runs_is_verified(tmp_path: Path) -> None:
    """This also holds for another metric than the study's, and from either run."""
    runs = [write_run(scale_results(2), tmp_path / name) for name in ("a", "b")]
    written = render_all(runs, tmp_path / "both", "val_error").files
    assert (tmp_path / "both" / "a" / "learning.png").exists()
    assert written["page"].read_text().count("<article") == 2
    assert verify(runs[1], tmp_path / "both") == Verification(())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four cells of the grid with one seed each, which are drawn quickly."""
    study = grid_study(1)
    cells = tuple(c for c in study.cells if c.requested["c1"] == 64 and int(c.requested["l1"]) < 3)
    study = replace(study, cells=cells)
    trials = tuple(complete(t, 90.0 + i) for i, t in enumerate(study.trials(DATA)))
    results = assemble("small", study, DATA, {"command": ["archsearch"]}, trials)
    folder = write_run(results, tmp_path_factory.mktemp("runs") / "small")
    render_all([folder], folder / "reports")
    return folder


def numbers_in(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "numbers.json").read_text())
    return content


def change_numbers(out: Path, **changes: Any) -> None:
    (out / "numbers.json").write_text(json.dumps(numbers_in(out) | changes))


@pytest.fixture
def copy(small: Path) -> Iterator[Path]:
    """A report that a test may change, beside the run's report, as its paths are relative."""
    out = Path(shutil.copytree(small / "reports", small / "changed"))
    yield out
    shutil.rmtree(out)


def test_figures_of_another_matplotlib_are_listed_if_not_compared(small: Path, copy: Path) -> None:
    """Figures that were not compared are named, and texts are still compared."""
    change_numbers(copy, drawn_with="matplotlib 3.0.0")
    result = verify(small, copy)
    assert result.differences == ()
    assert result.note.startswith("numbers.json says that matplotlib 3.0.0 drew this report; the ")
    assert result.note.endswith("which draws the same bytes.")
    (copy / "heatmap.png").write_bytes(b"anything")
    swap(copy / "learning.svg", "fill: #", "fill: #0")
    swap(copy / "results.csv", "complete", "completed")
    result = verify(small, copy)
    assert result.note.endswith("NOT compared as images: heatmap.png, learning.svg")
    (line,) = result.differences
    assert line.startswith("results.csv: ")


def test_the_command_prints_which_files_were_not_compared(
    small: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report([small], out=copy, verify=True)
    assert capsys.readouterr().err == f"{small}: every number follows from the records\n"
    change_numbers(copy, drawn_with="matplotlib 3.0.0")
    (copy / "heatmap.png").write_bytes(b"anything")
    report([small], out=copy, verify=True)
    assert "NOT compared as images: heatmap.png" in capsys.readouterr().err
    (copy / "planted.csv").write_text("")
    with pytest.raises(Exit):
        report([small], out=copy, verify=True)
    assert f"{small}: CHANGED\n  planted.csv does not follow" in capsys.readouterr().err


def test_files_that_do_not_follow_from_the_records_are_reported(small: Path, copy: Path) -> None:
    for name in ("importances.csv", "extra.SVG", "notes.txt", "study.json"):
        (copy / name).write_text("")
    for folder in ("old", "user", "another"):
        (copy / folder).mkdir()
    (copy / "old/heatmap.png").write_bytes(b"")
    (copy / "user/thesis.png").write_bytes(b"")
    shutil.copy(copy / "heatmap.png", copy / "another/heatmap.png")
    shutil.copy(copy / "numbers.json", copy / "another/numbers.json")
    assert verify(small, copy).differences == (
        "extra.SVG does not follow from the records",
        "importances.csv does not follow from the records",
        "old/heatmap.png does not follow from the records",
    )


def test_outdated_figures_are_removed_and_nothing_else(tmp_path: Path) -> None:
    folder, out = write_run(scale_results(2), tmp_path / "run"), tmp_path / "out"
    for name in ("heatmap.png", "law.csv"):
        out.mkdir(exist_ok=True)
        (out / name).write_text("by the user")
    render_all([folder], out)
    assert (out / "heatmap.png").read_text() == "by the user"  # there was no earlier report
    for name in ("data-scale-2.md", "importances.csv", "thesis.png", "heatmap.txt"):
        (out / name).write_text("by the user")
    render_all([folder], out)
    names = {path.name for path in out.iterdir()}
    assert not {"heatmap.png", "law.csv", "data-scale-2.md"} & names
    assert {"importances.csv", "thesis.png", "heatmap.txt", "results.csv"} <= names


def test_a_report_of_fewer_runs_leaves_no_folder_behind(tmp_path: Path) -> None:
    runs = [write_run(scale_results(2), tmp_path / name) for name in ("a", "b")]
    out = tmp_path / "out"
    render_all(runs, out)
    (out / "b/notes.txt").write_text("")
    render_all(runs[:1], out)
    assert {p.name for p in out.iterdir() if p.is_dir()} == {"b"}
    assert [p.name for p in (out / "b").iterdir()] == ["notes.txt"]
    assert verify(runs[0], out) == Verification(())


def test_a_report_that_cannot_be_drawn_keeps_the_earlier_one(small: Path, copy: Path) -> None:
    before = {p.name: p.read_bytes() for p in copy.iterdir()}
    with pytest.raises(ValueError, match="axes must be"):
        render_all([small], copy, axes=("depth", "l1", "c1"))
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before


@pytest.mark.parametrize("names", [["..", "a"], ["a/b", "x"], "ab", [3], None])
def test_names_in_a_damaged_report_remove_no_other_files(names: Any, tmp_path: Path) -> None:
    out, users_file = tmp_path / "out", tmp_path / "heatmap.png"
    (out / "a/b").mkdir(parents=True)
    for path in (users_file, out / "a/b/heatmap.png"):
        path.write_text("by the user")
    (out / "report.html").write_text("")
    runs = names if isinstance(names, str | None) else [{"name": n} for n in names]
    (out / "numbers.json").write_text(json.dumps({"runs": runs}))
    remove_earlier_report(out)
    assert users_file.exists()
    assert (out / "a/b/heatmap.png").exists()


def test_every_file_of_a_report_belongs_to_a_card() -> None:
    """A file that belongs to no card would not be removed by the next report."""
    study = ablation.study(recipe=QUICK)
    trained = tuple(map(with_gradients, study.trials(DATA)))
    every = [golden_results(2), scale_results(2), ladder_results(), *data_scale_runs()]
    every += [
        assemble("ablation", study, DATA, {}, trained),
        replace(ladder_results(), others=golden_results(1).trials[:2]),
        compared(1.0).results,
        context_of_operators().results,
        load(PUBLISHED / "downstream-digits"),
        load(PUBLISHED / "latency-digits"),
    ]
    report = compute_report(every)
    contents = [c for run in report.runs for c in run.contents]
    contents += [c for c in report.cross if c.has_files]
    tables = {c.name for c in contents if c.table}
    figures = {c.name for c in contents if c.figure}
    of_runs = [card for card in CARDS if isinstance(card, Card)]
    assert tables == {card.name for card in of_runs if card.table} | {"data-scale"}
    possible = {card.name for card in of_runs if card.figure} | {"data-scale"}
    assert figures <= possible
    assert possible - figures <= {"importances"}  # drawn only if an association is significant
    assert all(is_report_file(f"{n}.{s}") for n in tables for s in ("csv", "md", "tex", "html"))
    assert all(is_report_file(f"{n}.{s}") for n in figures for s in ("png", "svg"))
    assert is_report_file("data-scale-12.csv")
    for name in ("law.txt", "heatmap.csv", "results.png", "data-scale-x.csv", "report.html", "law"):
        assert not is_report_file(name)


def with_gradients(trial: Trial) -> TrialResult:
    result = complete(trial, 90.0)
    assert result.record is not None
    norms = {"grad_norm": 1.0, "grad_norm_max": 2.0}
    curve = tuple({**event, **norms} for event in result.curve)
    return TrialResult(trial, "complete", replace(result.record, curve=curve), curve)


def data_scale_runs() -> list[Results]:
    accuracy = {0.01: 30.0, 0.1: 80.0, 1.0: 97.0}
    return [
        assemble(
            study.name, study, DATA, {"command": ["archsearch"]},
            tuple(complete(t, accuracy[t.recipe.data_fraction]) for t in study.trials(DATA)),
        )
        for study in data_scale.studies(recipe=QUICK)
    ]  # fmt: skip


def test_the_table_of_a_data_scale_study_is_verified_too(tmp_path: Path) -> None:
    runs = [write_run(r, tmp_path / r.name) for r in data_scale_runs()[:2]]
    out = tmp_path / "reports"
    render_all(runs, out)
    swap(out / "data-scale.csv", "0.01", "0.02")
    (out / "data-scale.png").write_bytes(b"")
    (out / "data-scale-2.md").write_text("")
    assert [line.partition(" ")[0] for line in verify(runs[0], out).differences] == [
        "data-scale.png", "data-scale.csv:", "data-scale-2.md",
    ]  # fmt: skip


def test_axes_are_stored_and_drawn_again(small: Path, tmp_path: Path) -> None:
    out, axes = tmp_path / "by-depth", ("l1", "group_channels", "c1")
    written = render_all([small], out, axes=axes).files
    assert numbers_in(out)["axes"] == [*axes]
    for text in (written["page"].read_text(), (out / "heatmap.svg").read_text()):
        assert "L₁ = 1</text>" in text
        assert "L₁ = 2</text>" in text
        assert "C′ = " not in text
    assert verify(small, out) == Verification(())
    change_numbers(out, axes=None)
    changed = {line.partition(" ")[0].rstrip(":") for line in verify(small, out).differences}
    assert changed == {"heatmap.png", "heatmap.svg", "report.html"}


def test_the_error_for_wrong_axes_lists_the_plans_names(small: Path, tmp_path: Path) -> None:
    names = r"panel,y,x, from c1, group_channels, l1; got depth, l1, c1$"
    with pytest.raises(ValueError, match=names):
        render_all([small], tmp_path / "out", axes=("depth", "l1", "c1"))
    with pytest.raises(ValueError, match="two cells have the position l1 = 1: choose other axes"):
        report([small], axes="l1", out=tmp_path / "out")
    with pytest.raises(ValueError, match="two cells have the position"):
        render_all([small], tmp_path / "out", axes=("c1", "c1", "l1"))
    assert not (tmp_path / "out").exists()


def test_the_page_says_which_run_has_no_heatmap_by_these_axes(small: Path, tmp_path: Path) -> None:
    other = write_run(scale_results(2), tmp_path / "scale")
    axes = ("l1", "c1", "group_channels")
    written = render_all([small, other], tmp_path / "out", axes=axes).files
    assert "small/heatmap.png" in written
    assert "scale/heatmap.png" not in written
    assert "No heatmap: no coordinate l1, c1, group_channels" in written["page"].read_text()


def test_a_target_is_stored_printed_and_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ladders = [ladder_results(), ladder_results(1.15, 1.32, 0.2)]
    runs = [write_run(r, tmp_path / r.name) for r in ladders]
    out = tmp_path / "out"
    report(runs, target="400M", out=out)
    text = compute_report([load(run) for run in runs], target=400_000_000).recommendation
    assert text.startswith("At 400M parameters ")
    assert text in capsys.readouterr().err
    assert "At 400M parameters" in (out / "report.html").read_text()
    assert numbers_in(out)["target"] == numbers_in(out)["recommended"][0]["size"] == 400_000_000
    change_numbers(out, target=300_000_000)
    lines = verify(runs[0], out).differences
    (size,) = (line for line in lines if line.startswith("recommended[0].size"))
    assert size.endswith("the report says 400000000.0, the records give 300000000.0")
    changed = {re.split(r"[\[: ]", line)[0] for line in lines}
    assert changed == {"recommended", "report.html"}
    alone = page(compute_report(ladders[:1], target=400_000_000))
    assert alone.index("is best, with") < alone.index("no other pair was trained")


def test_wrong_options_are_refused_with_a_message(small: Path) -> None:
    with pytest.raises(ValueError, match=r"--target must be parameters, .* got '5G'"):
        report([small], target="5G")
    with pytest.raises(ValueError, match="a budget is a positive number"):
        report([small], target="large")
    with pytest.raises(ValueError, match="leave out --metric, --target"):
        report([small], metric="val_error", target="1M", verify=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("runs", None), ("runs", []), ("runs", [{}]), ("runs", ["a"]), ("metric", {}),
        ("axes", "l1"), ("target", "1M"), ("target", -1), ("target", True), ("drawn_with", None),
    ],
)  # fmt: skip
def test_damaged_numbers_are_refused(small: Path, copy: Path, name: str, value: Any) -> None:
    change_numbers(copy, **{name: value})
    with pytest.raises(ValueError, match=rf"is damaged: .*{name}.*; draw it again"):
        verify(small, copy)
    (copy / "numbers.json").write_text(
        json.dumps({k: v for k, v in numbers_in(copy).items() if k != name})
    )
    with pytest.raises(ValueError, match=rf"is damaged: .*{name}.*; draw it again"):
        verify(small, copy)


def test_a_folder_without_a_report_is_refused_with_a_message(tmp_path: Path, run: Path) -> None:
    with pytest.raises(ValueError, match=r"numbers\.json is missing; draw it first"):
        verify(tmp_path)
    with pytest.raises(ValueError, match="is not a report of"):
        verify(tmp_path, run / "reports")
    (tmp_path / "numbers.json").write_text('{"schema": 2}')
    with pytest.raises(ValueError, match=r"is not a report of this version .* draw it again"):
        verify(tmp_path, tmp_path)
    (tmp_path / "numbers.json").write_text("{torn")
    with pytest.raises(ValueError, match="is damaged"):
        verify(tmp_path, tmp_path)
    with pytest.raises(ValueError, match="at least one run folder"):
        render_all([], tmp_path)
    with pytest.raises(ValueError, match="unknown metric"):
        render_all([run], tmp_path, "speed")
