"""A small winner on digits: right predictions, and files that pass the check or are not kept."""

import json
from dataclasses import replace
from shutil import copy

import numpy as np
import pytest
import torch
from PIL import Image

import internimage
from archsearch.core.cell import Cell
from archsearch.core.recipes import resolve
from archsearch.deployment import onnx_export
from archsearch.deployment.predict import image_input, predict
from archsearch.deployment.trained import open_classifier
from archsearch.families.convnext import ConvNeXt
from archsearch.families.internimage import Variant
from archsearch.running.train_full import WEIGHTS, train_full
from archsearch.running.train_trial import train_trial
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Study
from archsearch.training.data import describe, load, split
from archsearch.training.images import DataError, Images
from archsearch.training.loader import _Photos
from internimage.description import Preprocessing
from internimage.program import write_program
from tests.training.trainings import SHORT


def trained(path, variant):
    """A run of one small network, trained on a part of the digits."""
    recipe = resolve("quick", {"epochs": "2", "data_fraction": "0.5", "image_size": "16"})
    study = Study("tiny", "?", "tests", (Cell({"l1": 1}, "exact", variant, None),), recipe)
    folder = StudyFolder(path).create(study, describe("digits", recipe.val_fraction))
    (trial,) = folder.trials()
    folder.trial(trial.id).write_spec(trial)
    train_trial(folder.trial(trial.id).path, "cpu")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs") / "tiny", Variant(16, 8, 1, 1))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Files of held-out images, with their labels."""
    dataset, folder = load("digits"), tmp_path_factory.mktemp("digits")
    _, held_out = split(dataset.train.labels, 0.1)
    paths = [folder / f"{i}.png" for i in held_out[:40]]
    for i, path in zip(held_out, paths, strict=False):
        Image.fromarray(dataset.train.pixels[i, 0]).save(path)
    return paths, dataset.train.labels[held_out[:40]]


def test_predictions_are_those_of_the_training(run, digits):
    paths, labels = digits
    predictions = predict(open_classifier(f"{run.path}:best"), paths)
    right = [p.class_name == str(label) for p, label in zip(predictions, labels, strict=True)]
    (trial,) = run.trials()
    accuracy = run.trial(trial.id).record().metrics["val_accuracy"]
    assert accuracy > 50
    assert 100 * np.mean(right) == pytest.approx(accuracy, abs=15)
    assert [p.image for p in predictions] == [str(path) for path in paths]


def test_a_network_of_gray_images_predicts_the_same(run, digits, tmp_path):
    network = open_classifier(f"{run.path}:best")
    internimage.save_weights(network.model, tmp_path / "three.safetensors")
    gray = internimage.load(tmp_path / "three.safetensors", in_chans=1)
    internimage.save_weights(gray, tmp_path / "one.safetensors")
    one = predict(open_classifier(str(tmp_path / "one.safetensors")), digits[0][:4])
    assert [p.class_name for p in one] == [p.class_name for p in predict(network, digits[0][:4])]


def test_the_command_prints_classes(run, digits, run_cli):
    paths = [str(path) for path in digits[0][:2]]
    code, out, _ = run_cli("predict", f"{run.path}:best", *paths, "--format", "json")
    rows = json.loads(out)
    assert code == 0
    assert [row["image"] for row in rows] == paths
    for row in rows:
        assert row.keys() == {"image", "class", "probability"}
        assert row["class"] in "0123456789"
        assert 0.1 <= row["probability"] <= 1
    assert run_cli("predict", f"{run.path}:best", *paths)[1].split()[:3] == [*rows[0]]


def test_a_photograph_is_prepared_as_held_out_ones(tmp_path):
    """Loading crops the center, and keeps its 8 bits when it resizes."""
    pixels = np.random.default_rng(0).integers(0, 256, (90, 61, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    expected, _ = _Photos(Images(None, (tmp_path / "x.png",), np.zeros(1, int)), 32)[0, None]
    mean, std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
    got = image_input(tmp_path / "x.png", Preprocessing(32, mean, std, 0.875, "bicubic"))
    scale, shift = torch.tensor(std).view(3, 1, 1), torch.tensor(mean).view(3, 1, 1)
    torch.testing.assert_close(got, (expected[None] / 255 - shift) / scale)


def test_what_cannot_be_predicted_is_named(run, digits, tmp_path, run_cli):
    (tmp_path / "text.png").write_text("no image")
    names = (tmp_path / "text.png", digits[0][0], tmp_path / "missing.png")
    code, _, err = run_cli("predict", f"{run.path}:best", *map(str, names))
    assert code == 2
    assert "text.png cannot be read as an image" in err
    assert "cannot read" in err
    assert "missing.png" in err
    model = internimage.InternImage(replace(Variant(8, 8, 1, 1).config(3)))
    internimage.save_weights(model, tmp_path / "old.safetensors")
    code, _, err = run_cli("predict", str(tmp_path / "old.safetensors"), str(digits[0][0]))
    assert (code, "does not say how images become inputs" in err) == (2, True)


def test_without_its_data_a_network_of_a_run_knows_no_classes(
    run, digits, monkeypatch, caplog, run_cli
):
    def missing(_):
        raise DataError("the digits are gone")

    monkeypatch.setattr("archsearch.running.described.load_verified", missing)
    code, _, err = run_cli("predict", f"{run.path}:best", str(digits[0][0]))
    assert code == 2
    assert "best are not known: the digits are gone" in caplog.text
    assert "does not say how images become inputs" in err


def test_exports_are_refused_before_anything_is_written(run, tmp_path, run_cli, monkeypatch):
    target = tmp_path / "m.onnx"
    code, _, err = run_cli("export", f"{run.path}:best", "--check")
    assert (code, "give a target" in err) == (2, True)
    code, _, err = run_cli("export", f"{run.path}:best", "--pt2", "m.pt2", "--int8")
    assert (code, "belong to --onnx FILE" in err) == (2, True)
    monkeypatch.setattr("internimage.onnx.find_spec", lambda _: None)
    code, _, err = run_cli("export", f"{run.path}:best", "--onnx", str(target), "--check")
    assert code == 2
    assert "onnx and onnxscript and onnxruntime: pip install 'archsearch[onnx]'" in err
    assert not list(tmp_path.iterdir())


def onnx_packages():
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)


def test_a_checked_file_keeps_the_accuracy(run, tmp_path, run_cli):
    onnx_packages()
    command = ("export", f"{run.path}:best", "--onnx", str(tmp_path / "m.onnx"))
    code, out, _ = run_cli(*command, "--check", "--format", "json")
    row = json.loads(out)
    (trial,) = run.trials()
    assert code == 0
    assert row["images"] == trial.data.num_val
    accuracy = run.trial(trial.id).record().metrics["val_accuracy"]
    assert row["accuracy_before"] == row["accuracy_after"] == pytest.approx(accuracy)
    assert row["error"] < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_the_weights_of_a_full_training_know_their_images_in_its_folder(tmp_path):
    out = tmp_path / "winner"
    record = train_full(Variant(16, 8, 1, 1), SHORT, "digits", out)
    network = open_classifier(str(out / WEIGHTS))
    assert network.recipe == SHORT
    right = [
        (network.model(images).argmax(-1) == labels).float()
        for images, labels in onnx_export._batches(network, "val")
    ]
    accuracy = 100 * torch.cat(right).mean().item()
    assert len(torch.cat(right)) == network.trained_on.num_val
    assert accuracy == pytest.approx(record.metrics["val_accuracy"])
    for other in ("moved.safetensors", f"other/{WEIGHTS}"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        copy(out / WEIGHTS, tmp_path / other)
        assert open_classifier(str(tmp_path / other)).trained_on is None
    train_full(Variant(16, 8, 1, 1), replace(SHORT, lr=2e-3), "digits", tmp_path / "second")
    copy(out / WEIGHTS, tmp_path / "second" / WEIGHTS)
    assert open_classifier(str(tmp_path / "second" / WEIGHTS)).trained_on is None


@pytest.mark.slow
@pytest.mark.parametrize("variant", [Variant(16, 8, 1, 1), ConvNeXt(16, 1, 1)])
def test_int8_keeps_the_accuracy_within_a_point(variant, tmp_path, run_cli):
    onnx_packages()
    import onnxruntime

    path = trained(tmp_path / "run", variant).path
    for name in ("full.onnx", "int8.onnx"):
        flag = "--int8" if name == "int8.onnx" else "--check"
        target = tmp_path / name
        code, out, _ = run_cli("export", f"{path}:best", "--onnx", str(target), flag)
        assert code == 0
        assert "accuracy_after" in out
        session = onnxruntime.InferenceSession(target)
        stored = session.get_modelmeta().custom_metadata_map
        assert json.loads(stored["class_names"]) == list("0123456789")
    assert (tmp_path / "int8.onnx").stat().st_size < 0.6 * (tmp_path / "full.onnx").stat().st_size


def test_a_file_beyond_tolerance_is_not_kept(run, tmp_path, run_cli, monkeypatch):
    onnx_packages()
    target = tmp_path / "m.onnx"
    target.write_text("an earlier file")
    monkeypatch.setattr(onnx_export, "MAX_ERROR", -1.0)
    code, _, err = run_cli("export", f"{run.path}:best", "--onnx", str(target), "--check")
    assert code == 2
    assert "m.onnx is not written: logits differ by" in err
    assert target.read_text() == "an earlier file"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("decomposed", [True, False])
def test_a_torch_program_computes_the_same(decomposed, run, tmp_path):
    model = open_classifier(f"{run.path}:best").model
    write_program(model, tmp_path / "m.pt2", decomposed=decomposed, dynamic_size=True)
    extra = {"metadata.json": ""}
    program = torch.export.load(tmp_path / "m.pt2", extra_files=extra)
    assert json.loads(extra["metadata.json"])["class_names"] == list("0123456789")
    operators = {str(node.target) for node in program.graph.nodes}
    assert ("archsearch.dcnv3.default" in operators) is not decomposed
    for shape in ((1, 3, 64, 64), (3, 3, 50, 71)):
        x = torch.randn(shape)
        torch.testing.assert_close(program.module()(x), model(x), rtol=1e-4, atol=1e-5)
