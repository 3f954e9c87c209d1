"""A report proves itself: the same records give the same bytes, and any change is found."""

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
from archsearch.core.recipe import QUICK
from archsearch.reports.card import Card
from archsearch.reports.cards import CARDS
from archsearch.reports.page import page
from archsearch.reports.provenance import Proof, verify
from archsearch.reports.render import clear, is_report_file, render_all
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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(golden_results(2), tmp_path_factory.mktemp("runs") / "grid-30m")
    render_all([folder], folder / "reports")
    return folder


def test_an_untouched_report_is_proven(run: Path) -> None:
    assert verify(run) == Proof(())


def test_the_same_records_give_the_same_bytes(run: Path) -> None:
    written = render_all([run], run.parent / "again").files
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
    found = verify(run, out).differences
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
    found = verify(folder).differences
    assert any(line.startswith(f"runs[0].records.{trial.id}") for line in found)
    assert any("val_accuracy_mean: the report says" in line for line in found)


def test_a_report_of_two_runs_is_proven(tmp_path: Path) -> None:
    """Also from another metric than the study's, and from either run."""
    runs = [write_run(scale_results(2), tmp_path / name) for name in ("a", "b")]
    written = render_all(runs, tmp_path / "both", "val_error").files
    assert (tmp_path / "both" / "a" / "learning.png").exists()
    assert written["page"].read_text().count("<article") == 2
    assert verify(runs[1], tmp_path / "both") == Proof(())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four cells of the grid with one seed each: soon drawn."""
    study = grid_study(1)
    cells = tuple(c for c in study.cells if c.requested["c1"] == 64 and int(c.requested["l1"]) < 3)
    study = replace(study, cells=cells)
    trials = tuple(complete(t, 90.0 + i) for i, t in enumerate(study.trials(DATA)))
    results = assemble("small", study, DATA, {"command": ["archsearch"]}, trials)
    folder = write_run(results, tmp_path_factory.mktemp("runs") / "small")
    render_all([folder], folder / "reports")
    return folder


def told(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "numbers.json").read_text())
    return content


def tell(out: Path, **changes: Any) -> None:
    (out / "numbers.json").write_text(json.dumps(told(out) | changes))


@pytest.fixture
def copy(small: Path) -> Iterator[Path]:
    """A report that may be changed, at the depth of the run's own: it names the run by its path."""
    out = Path(shutil.copytree(small / "reports", small / "changed"))
    yield out
    shutil.rmtree(out)


def test_pictures_of_another_matplotlib_are_never_passed_over(small: Path, copy: Path) -> None:
    """Its word is no proof: what was not compared is named, texts are compared all the same."""
    tell(copy, drawn_with="matplotlib 3.0.0")
    proof = verify(small, copy)
    assert proof.differences == ()
    assert proof.note.startswith("numbers.json says that matplotlib 3.0.0 drew this report; here ")
    assert proof.note.endswith("which draws the same to the byte.")
    (copy / "heatmap.png").write_bytes(b"anything")
    swap(copy / "learning.svg", "fill: #", "fill: #0")
    swap(copy / "results.csv", "complete", "completed")
    proof = verify(small, copy)
    assert proof.note.endswith("NOT compared as pictures: heatmap.png, learning.svg")
    (line,) = proof.differences
    assert line.startswith("results.csv: ")


def test_the_command_prints_what_was_not_compared(
    small: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report([small], out=copy, verify=True)
    assert capsys.readouterr().err == f"{small}: every number follows from the records\n"
    tell(copy, drawn_with="matplotlib 3.0.0")
    (copy / "heatmap.png").write_bytes(b"anything")
    report([small], out=copy, verify=True)
    assert "NOT compared as pictures: heatmap.png" in capsys.readouterr().err
    (copy / "planted.csv").write_text("")
    with pytest.raises(Exit):
        report([small], out=copy, verify=True)
    assert f"{small}: CHANGED\n  planted.csv is not given" in capsys.readouterr().err


def test_what_the_records_do_not_give_is_found(small: Path, copy: Path) -> None:
    for name in ("importances.csv", "extra.SVG", "notes.txt", "study.json"):
        (copy / name).write_text("")
    for folder in ("old", "mine", "another"):
        (copy / folder).mkdir()
    (copy / "old/heatmap.png").write_bytes(b"")
    (copy / "mine/thesis.png").write_bytes(b"")
    shutil.copy(copy / "heatmap.png", copy / "another/heatmap.png")
    shutil.copy(copy / "numbers.json", copy / "another/numbers.json")
    assert verify(small, copy).differences == (
        "extra.SVG is not given by the records",
        "importances.csv is not given by the records",
        "old/heatmap.png is not given by the records",
    )


def test_a_picture_that_is_drawn_no_longer_goes_and_nothing_else_does(tmp_path: Path) -> None:
    folder, out = write_run(scale_results(2), tmp_path / "run"), tmp_path / "out"
    for name in ("heatmap.png", "law.csv"):
        out.mkdir(exist_ok=True)
        (out / name).write_text("mine")
    render_all([folder], out)
    assert (out / "heatmap.png").read_text() == "mine"  # there was no report before
    for name in ("data-scale-2.md", "importances.csv", "thesis.png", "heatmap.txt"):
        (out / name).write_text("mine")
    render_all([folder], out)
    names = {path.name for path in out.iterdir()}
    assert not {"heatmap.png", "law.csv", "data-scale-2.md"} & names
    assert {"importances.csv", "thesis.png", "heatmap.txt", "results.csv"} <= names


def test_a_report_of_fewer_runs_leaves_no_folder_behind(tmp_path: Path) -> None:
    runs = [write_run(scale_results(2), tmp_path / name) for name in ("a", "b")]
    out = tmp_path / "out"
    render_all(runs, out)
    (out / "b/mine.txt").write_text("")
    render_all(runs[:1], out)
    assert {p.name for p in out.iterdir() if p.is_dir()} == {"b"}
    assert [p.name for p in (out / "b").iterdir()] == ["mine.txt"]
    assert verify(runs[0], out) == Proof(())


def test_a_report_that_cannot_be_drawn_leaves_the_earlier_one(small: Path, copy: Path) -> None:
    before = {p.name: p.read_bytes() for p in copy.iterdir()}
    with pytest.raises(ValueError, match="axes want"):
        render_all([small], copy, axes=("depth", "l1", "c1"))
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before


@pytest.mark.parametrize("names", [["..", "a"], ["a/b", "x"], "ab", [3], None])
def test_names_in_a_damaged_report_lead_nowhere_else(names: Any, tmp_path: Path) -> None:
    out, mine = tmp_path / "out", tmp_path / "heatmap.png"
    (out / "a/b").mkdir(parents=True)
    for path in (mine, out / "a/b/heatmap.png"):
        path.write_text("mine")
    (out / "report.html").write_text("")
    runs = names if isinstance(names, str | None) else [{"name": n} for n in names]
    (out / "numbers.json").write_text(json.dumps({"runs": runs}))
    clear(out)
    assert mine.exists()
    assert (out / "a/b/heatmap.png").exists()


def test_every_file_of_a_report_is_known_as_one() -> None:
    """What a report writes and does not know as its own would stay when it is drawn no longer."""
    study = ablation.study(recipe=QUICK)
    trained = tuple(map(with_gradients, study.trials(DATA)))
    every = [golden_results(2), scale_results(2), ladder_results(), *data_scale_runs()]
    every += [
        assemble("ablation", study, DATA, {}, trained),
        replace(ladder_results(), others=golden_results(1).trials[:2]),
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
    assert possible - figures <= {"importances"}  # drawn where chance is excluded
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


def test_the_table_of_a_data_scale_study_is_proven_with_the_rest(tmp_path: Path) -> None:
    runs = [write_run(r, tmp_path / r.name) for r in data_scale_runs()[:2]]
    out = tmp_path / "reports"
    render_all(runs, out)
    swap(out / "data-scale.csv", "0.01", "0.02")
    (out / "data-scale.png").write_bytes(b"")
    (out / "data-scale-2.md").write_text("")
    assert [line.partition(" ")[0] for line in verify(runs[0], out).differences] == [
        "data-scale.csv:", "data-scale.png", "data-scale-2.md",
    ]  # fmt: skip


def test_axes_are_stored_and_drawn_again(small: Path, tmp_path: Path) -> None:
    out, axes = tmp_path / "turned", ("l1", "group_channels", "c1")
    written = render_all([small], out, axes=axes).files
    assert told(out)["axes"] == [*axes]
    for text in (written["page"].read_text(), (out / "heatmap.svg").read_text()):
        assert "L₁ = 1</text>" in text
        assert "L₁ = 2</text>" in text
        assert "C′ = " not in text
    assert verify(small, out) == Proof(())
    tell(out, axes=None)
    changed = {line.partition(" ")[0].rstrip(":") for line in verify(small, out).differences}
    assert changed == {"heatmap.png", "heatmap.svg", "report.html"}


def test_wrong_axes_are_told_with_the_plans_names(small: Path, tmp_path: Path) -> None:
    names = r"panel,y,x, out of c1, group_channels, l1; got depth, l1, c1$"
    with pytest.raises(ValueError, match=names):
        render_all([small], tmp_path / "out", axes=("depth", "l1", "c1"))
    with pytest.raises(ValueError, match=r"three coordinates of the plan, .* got l1$"):
        report([small], axes="l1", out=tmp_path / "out")
    with pytest.raises(ValueError, match="two cells stand at"):
        render_all([small], tmp_path / "out", axes=("c1", "c1", "l1"))
    assert not (tmp_path / "out").exists()


def test_a_run_without_these_axes_says_so_beside_one_that_has_them(
    small: Path, tmp_path: Path
) -> None:
    other = write_run(scale_results(2), tmp_path / "scale")
    axes = ("l1", "c1", "group_channels")
    written = render_all([small, other], tmp_path / "out", axes=axes).files
    assert "small/heatmap.png" in written
    assert "scale/heatmap.png" not in written
    assert "No map: no coordinate l1, c1, group_channels" in written["page"].read_text()


def test_a_target_is_stored_told_and_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ladders = [ladder_results(), ladder_results(1.15, 1.32, 0.2)]
    runs = [write_run(r, tmp_path / r.name) for r in ladders]
    out = tmp_path / "out"
    report(runs, target="500M", out=out)
    words = compute_report([load(run) for run in runs], target=500_000_000).recommendation
    assert words.startswith("At 500M parameters ")
    assert words in capsys.readouterr().err
    assert "At 500M parameters" in (out / "report.html").read_text()
    assert told(out)["target"] == told(out)["recommended"][0]["size"] == 500_000_000
    tell(out, target=400_000_000)
    found = verify(runs[0], out).differences
    (size,) = (line for line in found if line.startswith("recommended[0].size"))
    assert size.endswith("the report says 500000000.0, the records give 400000000.0")
    changed = {re.split(r"[\[: ]", line)[0] for line in found}
    assert changed == {"recommended", "report.html"}
    alone = page(compute_report(ladders[:1], target=500_000_000))
    assert alone.index("is best, with") < alone.index("no other pair was trained")


def test_wrong_options_are_refused_in_words(small: Path) -> None:
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
def test_numbers_that_are_damaged_are_told(small: Path, copy: Path, name: str, value: Any) -> None:
    tell(copy, **{name: value})
    with pytest.raises(ValueError, match=rf"is damaged: {name} missing or wrong"):
        verify(small, copy)
    (copy / "numbers.json").write_text(
        json.dumps({k: v for k, v in told(copy).items() if k != name})
    )
    with pytest.raises(ValueError, match=rf"is damaged: {name} missing or wrong"):
        verify(small, copy)


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
