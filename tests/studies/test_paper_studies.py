"""The paper's other studies: each changes only what it names, and has reports of its own."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsearch import cli
from archsearch.cli import paper
from archsearch.core.recipe import Recipe
from archsearch.core.recipes import QUICK
from archsearch.families.internimage import ORIGIN, FreeVariant, Variant
from archsearch.paper.claim import as_printed
from archsearch.paper.weight_sharing import sharing_rows
from archsearch.reports import page
from archsearch.reports.card import CardContent
from archsearch.reports.context import Context
from archsearch.reports.data_scale import DATA_SCALE
from archsearch.reports.formats import Table
from archsearch.reports.gradients import GRADIENTS, gradient_figure, gradient_table, traces
from archsearch.reports.paper import PAPER, paper_table
from archsearch.reports.render import render_results
from archsearch.reports.report import compute_report
from archsearch.reports.weight_sharing import sharing_table
from archsearch.results import Results, TrialResult, assemble
from archsearch.studies import ablation, data_scale, deformable_attention, kernel_size, sizes
from archsearch.study import Record, Study, Trial
from archsearch.training.data import load, split
from tests.golden import DATA


def ended(trial: Trial, accuracy: float, **curve: float) -> TrialResult:
    events = tuple(
        {"epoch": e, "epochs": 2, "val_accuracy": accuracy} | {k: v * e for k, v in curve.items()}
        for e in (1, 2)
    )
    metrics = {"val_accuracy": accuracy, "images_per_second": 320.0, "peak_memory_bytes": 5e8}
    record = Record(trial.id, "complete", metrics, events, seconds=3.0)
    return TrialResult(trial, "complete", record, events)


def results(study: Study, accuracy: Callable[[Trial], float], **curve: float) -> Results:
    trials = tuple(ended(t, accuracy(t) + 0.01 * t.seed, **curve) for t in study.trials(DATA))
    return assemble(study.name, study, DATA, {"command": ["archsearch"]}, trials)


def test_kernels_change_operator_and_side_branch_as_table_d_counts() -> None:
    study = kernel_size.study(recipe=QUICK, size="full")
    for cell, kernel in zip(study.cells, (3, 5, 7), strict=True):
        assert cell.variant == replace(ORIGIN, kernel_size=kernel)
        assert cell.cost is not None
        assert as_printed(cell.cost.params, cell.paper["params"]) == cell.paper["params"]
        assert as_printed(cell.cost.macs, cell.paper["FLOPs"]) == cell.paper["FLOPs"]
    assert [cell.paper["accuracy"] for cell in study.cells] == [83.5, 83.6, 82.8]


def test_an_ablation_removes_one_change() -> None:
    study = ablation.study(recipe=QUICK, size="full")
    plain, unshared, one_group, sigmoid = (cell.variant for cell in study.cells)
    assert plain == ORIGIN
    assert unshared == replace(ORIGIN, operator="dcnv3-unshared")
    assert sigmoid == replace(ORIGIN, operator="dcnv3-sigmoid")
    assert isinstance(one_group, FreeVariant)
    assert one_group.groups == (1, 1, 1, 1)
    many = ORIGIN.config()
    assert replace(one_group.config(), groups=many.groups) == many
    assert [cell.paper["accuracy"] for cell in study.cells] == [83.5, 83.6, 82.3, 65.7]
    with pytest.raises(KeyError):
        ablation.without(ORIGIN, "layers")


def test_deformable_attention_has_no_depthwise_branch() -> None:
    study = deformable_attention.study(recipe=QUICK, size="full")
    dcnv3, attention = (cell.cost for cell in study.cells)
    assert dcnv3 is not None
    assert attention is not None
    widths = [c for c, d in zip((64, 128, 256, 512), (4, 4, 18, 4), strict=True) for _ in range(d)]
    assert dcnv3.params - attention.params == sum(9 * c + 3 * c for c in widths)
    assert [cell.paper["accuracy"] for cell in study.cells] == [83.5, 81.9]


def test_shares_are_nested_and_stratified_and_have_separate_trials() -> None:
    studies = data_scale.studies(recipe=QUICK, seeds=(0, 1))
    assert [s.recipe.data_fraction for s in studies] == [0.01, 0.1, 1.0]
    assert [c.paper["accuracy"] for s in studies for c in s.cells] == [
        5.9,
        4.1,
        56.0,
        49.9,
        83.5,
        81.9,
    ]
    ids = [t.id for s in studies for t in s.trials(DATA)]
    assert len(set(ids)) == len(ids) == 12
    assert len({s.name for s in studies}) == 3
    labels = load("digits").train.labels
    parts = [split(labels, QUICK.val_fraction, s.recipe.data_fraction) for s in studies]
    for (small, val_small), (large, val_large) in pairwise(parts):
        assert set(small) < set(large)
        assert np.array_equal(val_small, val_large)
    assert np.bincount(labels[parts[0][0]], minlength=10).tolist() == [1] * 10


@pytest.mark.parametrize(
    "module", [kernel_size, ablation, deformable_attention, data_scale], ids=lambda m: m.__name__
)
def test_the_small_study_has_the_same_cells_at_a_thirtieth_of_the_size(module: Any) -> None:
    make = getattr(module, "studies", None) or (lambda **options: (module.study(**options),))
    small, full = make(recipe=QUICK), make(recipe=QUICK, size="full")
    for a, b in zip(small, full, strict=True):
        assert [c.requested for c in a.cells] == [c.requested for c in b.cells]
        for x, y in zip(a.cells, b.cells, strict=True):
            assert x.cost is not None
            assert y.cost is not None
            assert x.cost.params < 0.1 * y.cost.params


def test_the_papers_figures_are_in_separate_columns() -> None:
    run = results(kernel_size.study(recipe=QUICK), lambda t: 90.0 + t.variant.kernel_size)
    table = paper_table(Context.of(run))
    columns = {head: [row[i] for row in table.body] for i, head in enumerate(table.header)}
    assert columns["K"] == ["3", "5", "7"]
    assert columns["top-1 (%), paper"] == ["83.5", "83.6", "82.8"]
    assert columns["FLOPs, paper"] == ["5G", "6G", "8G"]
    assert [float(v) for v in columns["Validation accuracy (%), ours"]] == [93.0, 95.0, 97.0]
    assert columns["Step (ms), ours"] == ["200.0"] * 3  # 64 images at 320 a second
    assert columns["Peak memory (GB), ours"] == ["0.50"] * 3
    assert all(("ours" in h) != ("paper" in h) for h in table.header[1:])
    assert "a step of 64 images" in table.note
    untimed = replace(run, cells=tuple(replace(c, trials=()) for c in run.cells))
    table = paper_table(Context.of(untimed))
    assert not any("Step" in head for head in table.header)
    assert "no full batch of images to time" in table.note
    report = compute_report([run])
    assert "paper" in {c.name for c in report.runs[0].contents if c.table}
    assert "ours beside the paper" in page.page(report)
    other = replace(run, study=replace(run.study, reports=("table",)))
    assert PAPER.skip_reason(Context.of(other)) is not None


def test_gradient_norms_are_means_of_means_and_the_largest_of_all() -> None:
    study = ablation.study(recipe=QUICK, seeds=(0, 1))

    def of(trial: Trial) -> TrialResult:
        wild = trial.variant.operator == "dcnv3-sigmoid"
        norm = (2.0 if wild else 1.0) + trial.seed
        return ended(trial, 90.0, grad_norm=norm, grad_norm_max=(40.0 if wild else 3.0) * norm)

    run = assemble("a", study, DATA, {}, tuple(of(t) for t in study.trials(DATA)))
    assert traces(run.cells[0]) == [(1, 1.5, 6.0), (2, 3.0, 12.0)]
    assert traces(run.cells[3]) == [(1, 2.5, 120.0), (2, 5.0, 240.0)]
    table, figure = gradient_table(Context.of(run)), gradient_figure(Context.of(run))
    assert table.body[3] == ("removed: softmax", "3.75", "5.00", "240.00", "40.0", "0 of 2")
    assert [row[4] for row in table.body] == ["3.0", "3.0", "3.0", "40.0"]
    assert "a small run may not show it" in table.note
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()][3:] == [  # type: ignore[union-attr]
        "removed: softmax"
    ]
    other = replace(run, study=replace(study, reports=("paper",)))
    assert GRADIENTS.skip_reason(Context.of(other)) is not None


def test_gradients_that_are_zero_have_no_spike() -> None:
    study = ablation.study(recipe=QUICK)
    trials = study.trials(DATA)
    still = tuple(ended(t, 90.0, grad_norm=0.0, grad_norm_max=0.0) for t in trials)
    table = gradient_table(Context.of(assemble("a", study, DATA, {}, still)))
    assert {row[4] for row in table.body} == {"–"}
    assert {row["spike"] for row in table.rows} == {None}


def by_share(trial: Trial) -> float:
    """30, 80 and 97% on a hundredth, a tenth and all of the images; attention 5 points less."""
    accuracy = {0.01: 30.0, 0.1: 80.0, 1.0: 97.0}[trial.recipe.data_fraction]
    return accuracy - 5 * (trial.variant.operator == "deformable-attention")


def data_scale_runs(recipe: Recipe = QUICK, **options: Any) -> list[Results]:
    return [results(s, by_share) for s in data_scale.studies(recipe=recipe, **options)]


def data_scale_contents(runs: Sequence[Results]) -> list[CardContent]:
    return [*DATA_SCALE.contents([Context.of(run) for run in runs])]


def data_scale_tables(runs: Sequence[Results]) -> list[Table]:
    return [c.table for c in data_scale_contents(runs) if c.table]


def across(runs: Sequence[Results]) -> list[Table]:
    """The tables that compare runs."""
    return [c.table for c in compute_report(runs).cross if c.table]


def written(runs: Sequence[Results], out: Path) -> set[str]:
    """The names of the files of a report."""
    return set(render_results(runs, [out / run.name for run in runs], out).files)


def columns_of(table: Table) -> dict[str, list[str]]:
    return {head: [row[i] for row in table.body] for i, head in enumerate(table.header)}


def test_data_scale_sets_shares_side_by_side(tmp_path: Path) -> None:
    runs = data_scale_runs()[::-1]
    (table,) = data_scale_tables(runs)
    columns = columns_of(table)
    operators = ["dcnv3", "deformable-attention", "ResNet-50", "ConvNeXt-T", "Swin-T"]
    assert columns["Core operator or network"] == operators
    ours = {h: v for h, v in columns.items() if "ours" in h}
    assert [h.partition(":")[0] for h in ours] == ["1%", "10%", "100%"]
    assert [list(map(float, v[:2])) for v in ours.values()] == [[30, 25], [80, 75], [97, 92]]
    assert all(v[2:] == ["–"] * 3 for v in ours.values())
    paper = [v for h, v in columns.items() if "paper" in h]
    assert paper == [
        ["5.9", "4.1", "12.2", "8.4", "failed"],
        ["56.0", "49.9", "57.5", "52.6", "12.1"],
        ["83.5", "81.9", "80.4", "82.1", "81.3"],
    ]
    assert "Not in this table" not in table.note
    assert "Runs with the same share" not in table.note
    assert across(runs)[0].name == "data-scale"
    assert written(runs, tmp_path) >= {"data-scale.png", "data-scale.csv"}
    assert data_scale_tables(runs[:1]) == []
    other = [results(kernel_size.study(recipe=QUICK), lambda _: 1.0)] * 2
    assert data_scale_tables(other) == []


def test_data_scale_runs_that_are_not_comparable_have_separate_tables(tmp_path: Path) -> None:
    """Runs with another recipe or data set are not merged; each table lists what it leaves out."""
    quick, slow = data_scale_runs(), data_scale_runs(replace(QUICK, epochs=9, name="slow"))
    slow = [replace(r, name=f"slow-{r.name}") for r in slow]
    other = replace(quick[1], name="other", data=replace(DATA, name="else", fingerprint="else"))
    tables = data_scale_tables([slow[0], *quick, other, *slow[1:]])
    assert [(t.name, {row["run"] for row in t.rows}) for t in tables] == [
        ("data-scale", {r.name for r in slow}),
        ("data-scale-2", {r.name for r in quick}),
    ]
    assert "9 epochs" in tables[0].note
    assert (
        "Not in this table, since the runs differ in data (digits, else) and epochs (9, 2): "
        "data-scale-1-percent, data-scale-10-percent, data-scale-100-percent and other."
    ) in tables[0].note
    files = written([*quick, *slow], tmp_path)
    assert {f"data-scale{n}.{s}" for n in ("", "-2") for s in ("png", "svg", "csv")} <= files
    assert data_scale_tables([quick[0], other]) == data_scale_tables([quick[0], slow[1]]) == []
    note = next(t.note for t in across([quick[0], slow[1]]) if t.name == "runs")
    assert "Differences: epochs (2, 9) and data fraction (0.01, 0.1)." in note


def test_the_name_of_a_recipe_is_not_a_difference() -> None:
    first, *rest = data_scale_runs()
    study = replace(first.study, recipe=replace(first.study.recipe, name="renamed"))
    (table,) = data_scale_tables([replace(first, study=study), *rest])
    assert len({row["share"] for row in table.rows}) == 3


def test_two_runs_of_one_share_are_both_shown() -> None:
    runs = data_scale_runs()
    again = [replace(r, name="again") for r in data_scale_runs(seeds=(100, 101))][1]
    (table,) = data_scale_tables([*runs, again])
    columns = columns_of(table)
    ours = {h.partition(":")[0]: v[0] for h, v in columns.items() if "ours" in h}
    assert {h: float(v.partition(" ")[0]) for h, v in ours.items()} == {
        "1%": 30, "10%, data-scale-10-percent": 80, "10%, again": 81, "100%": 97,
    }  # fmt: skip
    assert sum("paper" in h for h in columns) == 3
    note = "Runs with the same share have a column each: 10%: data-scale-10-percent and again."
    assert note in table.note
    assert {row["run"] for row in table.rows} == {r.name for r in [*runs, again]}
    (content,) = data_scale_contents([*runs, again])
    assert content.figure is not None
    figure = content.figure
    points = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert len(points) == 2 * 4


def test_networks_with_the_same_operator_have_separate_rows() -> None:
    """The small study at one share and the full one at another have different networks."""
    small, full = data_scale_runs()[:1], data_scale_runs(size="full")[1:2]
    (table,) = data_scale_tables([*small, *full])
    assert columns_of(table)["Core operator or network"][:4] == [
        "dcnv3, 16-8-2-4", "deformable-attention, 16-8-2-4",
        "dcnv3, 64-16-4-18", "deformable-attention, 64-16-4-18",
    ]  # fmt: skip


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run a command on toy networks: (exit code, stdout, stderr)."""
    tiny = sizes.Scale(Variant(8, 4, 1, 1), "quick", 1)
    monkeypatch.setitem(sizes.SCALES, "small", tiny)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["archsearch", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capfd.readouterr()
        return int(end.value.code or 0), captured.out, captured.err  # type: ignore[arg-type]

    return call


TOY = ("--set", "image_size=16", "--set", "batch_size=256", "--runner", "inline", "--no-quote")


def test_a_study_is_planned_trained_and_reported(run: Any, tmp_path: Path) -> None:
    code, out, _ = run("study", "ablation", "--plan", "--format", "json")
    assert code == 0
    assert [row["paper_accuracy"] for row in json.loads(out)] == [83.5, 83.6, 82.3, 65.7]
    code, _, err = run("study", "ablation", *TOY)
    assert code == 0
    assert "report.html" in err
    assert "8-4-1-1 operator=dcnv3-sigmoid: complete" in err
    _, out, _ = run("status", "runs/ablation-digits", "--format", "json")
    assert len({row["network"] for row in json.loads(out)}) == 4
    files = _names(tmp_path / "runs/ablation-digits/reports")
    assert {"paper.csv", "gradients.png", "gradients.csv"} <= files
    assert run("report", "runs/ablation-digits", "--verify")[0] == 0


def test_data_scale_is_three_runs_and_one_report(run: Any, tmp_path: Path) -> None:
    code, _, err = run("study", "data-scale", *TOY)
    assert code == 0
    assert [f"\n\ndata-scale-{share}-percent:\n" in err for share in (1, 10, 100)] == [True] * 3
    parent = tmp_path / "runs/data-scale-digits"
    fractions = [
        json.loads((parent / f"data-scale-{share}-percent" / "study.json").read_text())["recipe"]
        for share in (1, 10, 100)
    ]
    assert [recipe["data_fraction"] for recipe in fractions] == [0.01, 0.1, 1.0]
    assert {"report.html", "data-scale.png", "data-scale.md"} <= _names(parent / "reports")
    assert "Data scale, as in Table H" in (parent / "reports/report.html").read_text()
    reported = ("--out", str(parent / "reports"), "--verify")
    assert run("report", str(parent / "data-scale-1-percent"), *reported)[0] == 0
    (parent / "reports/data-scale.md").write_text("")
    assert run("report", str(parent / "data-scale-1-percent"), *reported)[0] == 1


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["study", "ablation", "--full"], ["--data imagefolder:PATH"]),
        (["study", "ablation", "--full", "--seeds", "x"], ["2 errors", "--data", "'x'"]),
        (["weight-sharing", "--measure", "T,W"], ["no model is called W"]),
    ],
)
def test_bad_input_gets_a_clear_message(
    run: Any, arguments: Sequence[str], parts: list[str]
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert all(part in err for part in parts)


def test_weight_sharing_prints_json_and_writes_a_report(run: Any, tmp_path: Path) -> None:
    code, out, _ = run("weight-sharing", "--format", "json", "--out", "ws")
    rows = {row["model"]: row for row in json.loads(out)}
    assert code == 0
    assert round(rows["T"]["more_params"], 1) == 61.8
    assert rows["T"]["paper_more_params"] == 66.1
    assert rows["H"]["measured_bytes"] is None
    assert {"weight-sharing.png", "weight-sharing.csv"} <= _names(tmp_path / "ws")


def test_unmeasured_quantities_have_no_columns() -> None:
    row = sharing_rows(["T"])[0]
    heads = sharing_table([row], 32, 224).header
    assert not any("measured" in head for head in heads)
    body = columns_of(
        sharing_table([replace(row, measured=3 * 10**9, measured_unshared=4 * 10**9)], 32, 224)
    )
    assert body["Peak (GB), measured, shared"] == ["3.00"]
    assert body["Memory saved (%), measured"] == ["25.0"]
    assert set(heads) < set(body)


def test_every_study_is_listed_with_a_command_that_exists(run: Any) -> None:
    _, out, _ = run("studies", "--format", "json")
    listed = {row["study"]: row["command"].split()[1] for row in json.loads(out)}
    names = {"claims", "kernel_size", "ablation", "weight_sharing", "data_scale"}
    assert names | {"deformable_attention"} <= set(listed)
    commands = {command.__name__.replace("_", "-") for command in paper.COMMANDS}
    assert {listed[name] for name in names} <= commands


def test_the_papers_table_notes_that_seeds_differ() -> None:
    study = kernel_size.study(recipe=QUICK, seeds=(0, 1, 2))
    complete = results(study, lambda t: 90.0 + t.variant.kernel_size)
    trials = tuple(t for c in complete.cells for t in c.trials if c.index or t.trial.seed)
    uneven = assemble(study.name, study, DATA, {"command": ["archsearch"]}, trials)
    for run, noted in ((complete, False), (uneven, True)):
        table = paper_table(Context.of(run))
        assert ("Cells have different seeds" in table.note) is noted
