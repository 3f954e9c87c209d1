"""Fine-tuning a run: which weights each training starts from, and what is refused."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import archsearch as a
from archsearch.core.family import Family
from archsearch.core.interrupted import Interrupted
from archsearch.core.recipes import QUICK
from archsearch.core.start import Start, start_of
from archsearch.families.vit import ViT
from archsearch.heads.upernet_model import UperNet
from archsearch.results import Results, load
from archsearch.running.train_trial import train_trial
from archsearch.storage.publish import publish
from archsearch.storage.stored_json import read_json
from archsearch.storage.study_folder import StudyFolder
from archsearch.studies.downstream import TABLE_6_AP, study
from archsearch.study import Study, Trial
from archsearch.tasks.detection import Detection
from archsearch.tasks.segmentation import Segmentation
from archsearch.training.images import DataError
from tests import toy
from tests.running.toy_runs import run
from tests.stored import edit
from tests.tasks.annotated import TINY, equal_numbers

RECIPE = replace(
    QUICK, name="tiny", epochs=1, batch_size=4, image_size=32, lr=1e-30, weight_decay=0.0,
    warmup_epochs=0, val_fraction=0.25,
)  # fmt: skip
TASK, DATA = Segmentation(width=8), "pasted:images=10"
COMMAND = ("--head-width", "8", "--data", DATA, "--no-quote", "--runner", "inline")


def keep(folder: StudyFolder, trial_id: str, content: bytes = b"weights") -> Path:
    """A file of weights as trials keep them."""
    content += trial_id.encode()
    digest = hashlib.sha256(content).hexdigest()
    path = folder.trial(trial_id).path / f"checkpoint-00009-{digest}.pt"
    path.write_bytes(content)
    return path


@pytest.fixture
def source(tmp_path: Path) -> StudyFolder:
    """A finished run of three networks and two seeds with kept weights."""
    folder = toy.create(tmp_path / "source", seeds=(0, 1))
    run(folder, "train")
    for trial_id in folder.ids():
        keep(folder, trial_id)
    return folder


def fine_tuned(source: StudyFolder, results: Results | None = None, **changes: Any) -> Study:
    values = {"task": TASK, "recipe": RECIPE, "data": DATA, **changes}
    return study(results or load(source.path), source.path, **values)


def test_a_seed_starts_from_the_weights_of_the_same_seed_else_from_the_others_in_turn() -> None:
    starts = {str(seed): Start("run", "a", seed, "f") for seed in (0, 10, 2)}
    seeds = [start_of(starts, seed) for seed in (0, 2, 10, 1, 3, 5)]
    assert [start and start.seed for start in seeds] == [0, 2, 10, 2, 0, 10]
    assert start_of({}, 0) is None


def test_initial_weights_are_part_of_a_trials_identity_and_their_folder_is_not() -> None:
    data, start = TASK.describe(DATA, RECIPE), Start("run", "a", 0, "f" * 64)
    plain = Trial(TINY, RECIPE, data, 0, TASK)
    trial = replace(plain, start=start)
    assert replace(trial, start=replace(start, run="moved", trial="b", seed=3)).id == trial.id
    assert len({plain.id, trial.id, replace(trial, start=replace(start, sha256="e" * 64)).id}) == 3


def test_every_cell_starts_from_its_own_trainings(source: StudyFolder, tmp_path: Path) -> None:
    planned = fine_tuned(source)
    data = TASK.describe(DATA, RECIPE)
    classified = {(t.variant, t.seed): t.id for t in source.trials()}
    for trial in planned.trials(data):
        assert trial.start is not None
        assert trial.start.trial == classified[trial.variant, trial.seed]
    assert [cell.fate for cell in planned.cells] == [*["exact"] * 3, "repaired", "infeasible"]
    folder = StudyFolder(tmp_path / "out").create(planned, data)
    assert folder.study() == planned
    assert folder.trials() == planned.trials(data)
    assert "starts" not in read_json(source.path / "study.json")["cells"][0]


def test_the_best_networks_are_those_with_the_best_means(source: StudyFolder) -> None:
    results = load(source.path)
    means = {c.label: c.mean(results.metric("val_accuracy")) or 0.0 for c in results.cells[:3]}
    best = max(means, key=lambda label: means[label])
    chosen = [cell.variant for cell in fine_tuned(source, best=1).cells]
    assert set(chosen) == {results.network(best).cell.variant}
    assert len({c.variant for c in fine_tuned(source, best=2).cells}) == 2


def test_a_cell_whose_trainings_failed_stays_as_one_that_cannot_be_trained(tmp_path: Path) -> None:
    folder = toy.create(tmp_path / "source")
    run(folder, "train", folder.trials()[:2])
    run(folder, "diverge", folder.trials()[2:])
    for trial_id in folder.ids()[:2]:
        keep(folder, trial_id)
    third = fine_tuned(folder).cells[2]
    assert (third.fate, third.variant) == ("infeasible", None)
    assert third.reason == "its classification training has no result: diverged"


def test_everything_in_the_way_is_one_message(
    source: StudyFolder, tmp_path: Path, run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are gone, damaged, or of a cell that did not finish; and wrong options."""
    monkeypatch.chdir(tmp_path)
    first, second, third = ([t.id for t in source.trials() if t.variant.by_name["l1"] == n]
                            for n in (1, 2, 3))  # fmt: skip
    for trial_id in first:
        next(source.trial(trial_id).path.glob("checkpoint-*")).unlink()
    for trial_id in second:
        next(source.trial(trial_id).path.glob("checkpoint-*")).write_bytes(b"damaged")
    for trial_id in (*third, first[1]):
        (source.trial(trial_id).path / "record.json").unlink()
    code, _, err = run_cli("downstream", "source", *COMMAND)
    assert code == 2
    assert "the cell (16, 16, 3, 6) of source did not finish" in err
    assert "no undamaged weights of the cells (16, 16, 1, 4), (16, 16, 2, 5)" in err
    assert "checkpoint-*.pt" in err
    wrong = ("--cells", "5", "--seeds", "auto", "--head", "mask-rcnn", "--recipe", "quick")
    code, _, err = run_cli("downstream", "nowhere", *wrong, "--device", "tpu")
    assert code == 2
    parts = ("nowhere holds no study", "cells must be all or best:N", "seeds of a fine-tuning",
             "head must be upernet", "no recipe is called 'quick'", "device must be")  # fmt: skip
    assert [part for part in parts if part not in err] == []
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_networks_that_cannot_be_fine_tuned_are_refused(source: StudyFolder) -> None:
    results = load(source.path)

    def changed(**values: Any) -> Results:
        cells = [replace(c, cell=replace(c.cell, **values)) for c in results.cells[:1]]
        return replace(results, cells=(*cells, *results.cells[1:]))

    vit: Family = ViT.parse("Ti")
    with pytest.raises(ValueError, match="gives no four maps"):
        fine_tuned(source, changed(variant=vit))
    with pytest.raises(ValueError, match="differ only in how they were trained"):
        fine_tuned(source, changed(settings={"lr": 0.5}))
    with pytest.raises(ValueError, match="trains no classifiers"):
        fine_tuned(source, replace(results, study=fine_tuned(source)))


def test_rates_of_classification_are_not_those_of_fine_tuning(source: StudyFolder) -> None:
    results = load(source.path)
    cells = tuple(
        replace(c, cell=replace(c.cell, settings={"lr": 0.1 * (1 + i)}))
        for i, c in enumerate(results.cells[:3])
    )
    planned = fine_tuned(source, replace(results, cells=cells))
    assert {t.recipe for t in planned.trials(TASK.describe(DATA, RECIPE))} == {RECIPE}


def test_a_run_that_was_trained_again_is_another_study(source: StudyFolder, tmp_path: Path) -> None:
    data, folder = TASK.describe(DATA, RECIPE), StudyFolder(tmp_path / "out")
    folder.create(fine_tuned(source), data)
    moved = StudyFolder(shutil.move(source.path, tmp_path / "moved"))
    folder.create(fine_tuned(moved), data)
    first = folder.trials()[0].start
    assert first is not None
    assert first.run == str(moved.path)
    trial_id = moved.ids()[0]
    next(moved.trial(trial_id).path.glob("checkpoint-*")).unlink()
    keep(moved, trial_id, b"others")
    with pytest.raises(ValueError, match="cell c1=16, l1=1, seed 0: the folder starts from the we"):
        folder.create(fine_tuned(moved), data)


def test_the_ablation_has_the_printed_precision_beside(source: StudyFolder) -> None:
    results = load(source.path)
    cells = tuple(
        replace(c, cell=replace(c.cell, requested={"removed": removed}))
        for c, removed in zip(results.cells, TABLE_6_AP, strict=False)
    )
    ablation = replace(results, cells=cells, study=replace(results.study, name="ablation"))
    planned = fine_tuned(source, ablation, task=Detection(width=8))
    assert "paper" in planned.reports
    papers = [dict(cell.paper) for cell in planned.cells]
    assert papers[0] == {"box AP": 47.2, "mask AP": 42.5}
    assert [one.reports for one in (
        fine_tuned(source, task=Detection(width=8)),
        fine_tuned(source, ablation),
        fine_tuned(source, ablation, task=Detection("cascade-mask-rcnn", width=8)),
    )] == [("downstream",)] * 3  # fmt: skip


@pytest.fixture
def trained(tmp_path: Path) -> StudyFolder:
    """A finished run of one network, trained for a few steps."""
    recipe = replace(QUICK, epochs=1, batch_size=16, data_fraction=0.03, val_fraction=0.05)
    cells = (toy.Cell({"l3": 1}, "exact", TINY, TINY.cost()),)
    one = Study("tiny", "?", "tests", cells, recipe)
    folder = StudyFolder(tmp_path / "source").create(one, one.task.describe("digits", recipe))
    run(folder, "", work="archsearch.running.train_trial:train_trial", device="cpu")
    return folder


def test_a_training_begins_with_the_kept_weights_and_a_report_with_their_records(
    trained: StudyFolder, tmp_path: Path, run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    frozen = [f"--set={k}={v}" for k, v in RECIPE.to_dict().items() if k in (
        "batch_size", "image_size", "lr", "weight_decay", "val_fraction")]  # fmt: skip
    settings = (*frozen, "--epochs", "1", "--set", "warmup_steps=0", "--set", "threads=1")
    code, _, err = run_cli("downstream", "source", *COMMAND, *settings, "--device", "cpu")
    assert code == 0, err
    out = StudyFolder(tmp_path / "runs/downstream-upernet-source")
    (trial,) = out.trials()
    stored = [folder.trial(i).load_checkpoint() for folder, i in
              ((trained, trained.ids()[0]), (out, trial.id))]  # fmt: skip
    assert all(stored)
    before, after = (one[1]["model"] for one in stored if one)
    for name, value in before.items():
        if not name.startswith("head."):
            torch.testing.assert_close(after[f"backbone.{name}"], value, atol=1e-20, rtol=0)
    assert isinstance(a.load(out.path).best.model(), UperNet)
    record = out.trial(trial.id).record()
    assert record is not None
    assert f"only the backbone is taken from the trial {trained.ids()[0]}" in record.notes[-1]
    assert load(out.path).classification == replace(load(trained.path), name="classification")
    assert publish(out.path, tmp_path / "copy") == 2
    assert run_cli("report", "copy")[0] == 0
    assert run_cli("report", "copy", "--verify")[0] == 0
    (record_file,) = (tmp_path / "copy/classification").rglob("record.json")
    edit(record_file, lambda values: values.update(device="another"))
    code, _, err = run_cli("report", "copy", "--verify")
    assert (code, "classification" in err) == (1, True)


def test_a_resumed_fine_tuning_equals_an_uninterrupted_one(
    trained: StudyFolder, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, lr=2e-3)
    planned, data = fine_tuned(trained, recipe=recipe), TASK.describe(DATA, recipe)
    folders = [StudyFolder(tmp_path / name).create(planned, data) for name in ("once", "twice")]
    once, twice = (folder.trial(folder.ids()[0]) for folder in folders)
    for folder in (once, twice):
        folder.write_spec(planned.trials(data)[0])
    train_trial(once.path, "cpu")
    with pytest.raises(Interrupted):
        train_trial(twice.path, "cpu", iter([False, True]).__next__)
    train_trial(twice.path, "cpu")
    equal_numbers(once, twice)


def test_weights_that_disappear_fail_the_trial_with_their_name(
    trained: StudyFolder, tmp_path: Path
) -> None:
    planned = fine_tuned(trained)
    out = StudyFolder(tmp_path / "out").create(planned, TASK.describe(DATA, RECIPE))
    (trial,) = out.trials()
    out.trial(trial.id).write_spec(trial)
    shutil.rmtree(trained.path)
    with pytest.raises(DataError, match=r"source/trials/\w+ has no file of weights with the sha"):
        train_trial(out.trial(trial.id).path, "cpu")
