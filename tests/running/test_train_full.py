"""Training in full: weights that load, resuming, and equal results over several processes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import pytest
import torch

import internimage
from archsearch.core.interrupted import Interrupted
from archsearch.families.internimage import Variant
from archsearch.networks import find_variant
from archsearch.running.initial_weights import CLASSIFIER, fitting
from archsearch.running.train_full import (
    OLD_REQUEST,
    REQUEST,
    WEIGHTS,
    TrainingRequest,
    export_weights,
    train_full,
)
from archsearch.running.train_trial import run_on, training_of
from archsearch.storage import checkpoint
from archsearch.storage.trial_folder import TrialFolder
from archsearch.study import Trial
from archsearch.tasks.classification import CLASSIFICATION
from archsearch.training import device as devices
from archsearch.training import machine, spawn
from archsearch.training.data import DataError, describe, load
from archsearch.training.measure import measure_test
from archsearch.training.memory import check_fits
from archsearch.training.spawn import run_in_processes
from internimage import PRESETS, Preprocessing, load_weights
from tests.internimage.plain_network import released_state
from tests.processes import Process, has_ended, wait_for
from tests.training.trainings import SHORT, TINY, after


def accuracy(model):
    """Accuracy on the test split of digits, in percent."""
    data = describe("digits", SHORT.val_fraction)
    training = training_of(Trial(TINY, SHORT, data, 0), torch.device("cpu"))
    training.model.load_state_dict(model.state_dict())
    return measure_test(training)["accuracy"]


def test_the_weights_load_and_have_the_accuracy_of_the_record(tmp_path):
    out = tmp_path / "a network"
    record = train_full(TINY, replace(SHORT, ema_decay=0.5), "digits", out)
    model = load_weights(out / WEIGHTS)
    assert accuracy(model) == pytest.approx(record.metrics["test_accuracy"])
    assert model.config == TINY.config_for(10, SHORT)
    known, digits = model.description, load("digits")
    assert known.class_names == tuple("0123456789")
    assert known.preprocessing == Preprocessing(SHORT.image_size, digits.mean, digits.std)
    assert known.variant == "16-8-1-1"
    assert len(known.recipe) == 16
    assert known.commit == record.versions.get("commit", "")


def test_the_same_call_resumes_and_later_returns_the_record(tmp_path):
    with pytest.raises(Interrupted, match="stopped"):
        train_full(TINY, SHORT, "digits", tmp_path, stop=after(3))
    record = train_full(TINY, SHORT, "digits", tmp_path)
    (tmp_path / WEIGHTS).unlink()  # as if killed between the record and the weights
    assert train_full(TINY, SHORT, "digits", tmp_path) == record
    assert load_weights(tmp_path / WEIGHTS)


def test_another_training_in_the_same_folder_is_refused_with_the_difference(tmp_path):
    """The request is written before the first step."""
    with pytest.raises(Interrupted):
        train_full(TINY, SHORT, "digits", tmp_path, stop=after(0))
    request = json.loads((tmp_path / "request.json").read_text())
    assert request["identity"]["recipe.lr"] == SHORT.lr
    assert request["data"]["name"] == "digits"
    with pytest.raises(ValueError, match=r"recipe.lr was 0.001, now 0.002.*another folder"):
        train_full(TINY, replace(SHORT, lr=2e-3), "digits", tmp_path)
    with pytest.raises(ValueError, match=r"network.depths was \[1, 1, 1, 1\], now \[1, 1, 2, 1\]"):
        train_full(Variant(16, 8, 1, 2), SHORT, "digits", tmp_path)


def test_initial_weights_for_other_classes_are_loaded_without_the_classifier(tmp_path, caplog):
    torch.manual_seed(0)
    pretrained = internimage.InternImage(TINY.config(7))
    internimage.save_weights(pretrained, tmp_path / "start.safetensors")
    frozen = replace(SHORT, epochs=1, lr=1e-30, weight_decay=0.0)
    start = tmp_path / "start.safetensors"
    record = train_full(TINY, frozen, "digits", tmp_path / "out", start=start)
    weights = dict(load_weights(tmp_path / "out" / WEIGHTS).named_parameters())
    loaded = {k: v for k, v in pretrained.named_parameters() if "linear" not in k}
    assert all(torch.allclose(weights[k], v, atol=1e-20) for k, v in loaded.items())
    assert "other classes, 7 there and 10 here. The last layer is new" in record.notes[0]
    assert record.notes[0] in caplog.text
    wide = Variant(32, 8, 1, 1)
    with pytest.raises(ValueError, match=r"head\.conv\.weight: wanted shape") as error:
        train_full(wide, frozen, "digits", tmp_path / "wide", start=start)
    sizes = [", ".join(str(c1 * 2**i) for i in range(4)) for c1 in (16, 32)]
    has, wanted = (f"{channels} channels and 1, 1, 1, 1 blocks" for channels in sizes)
    assert f"does not fit the network: it has {has}, wanted {wanted}; " in str(error.value)
    other = Variant(16, 8, 1, 1, offset_scale=2.0)
    with pytest.raises(ValueError, match=r"another network: offset_scale 1.0 there and 2.0 here"):
        train_full(other, frozen, "digits", tmp_path / "other", start=start)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "start.safetensors"]


def test_a_released_checkpoint_is_fine_tuned_and_its_digest_identifies_the_training(tmp_path):
    """In any container, also a backbone without a head; the file may move, but not change."""
    released = released_state(TINY.config(1000))
    torch.save({"state_dict": {f"module.{k}": v for k, v in released.items()}}, tmp_path / "x.pth")
    frozen = replace(SHORT, lr=1e-30, weight_decay=0.0)
    out, start = tmp_path / "out", tmp_path / "x.pth"
    with pytest.raises(Interrupted):
        train_full(TINY, frozen, "digits", out, start=start, stop=after(3))
    stored = json.loads((out / REQUEST).read_text())
    assert stored["start"] == str(start)
    assert stored["identity"]["start"] == hashlib.sha256(start.read_bytes()).hexdigest()
    moved = start.rename(tmp_path / "y.pth")
    torch.save({"state_dict": {"backbone." + k: v for k, v in released.items()
                               if k.startswith(("levels", "patch_embed"))}}, start)  # fmt: skip
    with pytest.raises(ValueError, match=r"holds another training .start was"):
        train_full(TINY, frozen, "digits", out, start=start)
    record = train_full(TINY, frozen, "digits", out, start=moved)
    assert "other classes, 1000 there and 10 here" in record.notes[0]
    once = replace(frozen, epochs=1)
    record = train_full(TINY, once, "digits", tmp_path / "of a backbone", start=start)
    assert "which has none: it is new" in record.notes[0]
    for folder in ("out", "of a backbone"):
        weights = load_weights(tmp_path / folder / WEIGHTS).state_dict()
        assert torch.allclose(weights["levels.3.norm.bias"], released["levels.3.norm.0.bias"])


def test_every_released_checkpoint_fits_its_network_but_for_the_classes():
    for name, preset in PRESETS.items():
        with torch.device("meta"):
            own = find_variant(name).build_for(10, SHORT).state_dict()
            released = internimage.InternImage(preset.config).state_dict()
        assert own.keys() - fitting(released, own, "x.pth").keys() == CLASSIFIER


def test_a_training_of_an_earlier_version_that_stored_the_path_of_its_start_resumes(tmp_path):
    start, out = tmp_path / "start.safetensors", tmp_path / "out"
    internimage.save_weights(TINY.build(10), start)
    with pytest.raises(Interrupted):
        train_full(TINY, SHORT, "digits", out, start=start, stop=after(1))
    request = json.loads((out / REQUEST).read_text())
    del request["crc32"], request["start"]
    request["identity"]["start"] = str(start)
    (out / REQUEST).write_text(json.dumps(request))
    with pytest.raises(ValueError, match=r"holds another training .start was"):
        train_full(TINY, SHORT, "digits", out)
    assert train_full(TINY, SHORT, "digits", out, start=start).status == "complete"


def test_gray_weights_start_a_network_of_three_channels(tmp_path):
    start = tmp_path / "gray.safetensors"
    gray = internimage.InternImage(TINY.config(10), in_chans=1)
    internimage.save_weights(gray, start)
    frozen = replace(SHORT, epochs=1, lr=1e-30, weight_decay=0.0)
    train_full(TINY, frozen, "digits", tmp_path / "out", start=start)
    trained = load_weights(tmp_path / "out" / WEIGHTS).patch_embed.conv1.weight
    torch.testing.assert_close(trained, gray.patch_embed.conv1.weight.expand(-1, 3, -1, -1) / 3)


def test_a_precision_the_device_lacks_is_refused_before_the_folder_is_made(tmp_path):
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        train_full(TINY, replace(SHORT, precision="fp16"), "digits", tmp_path / "x", device="cpu")
    assert not (tmp_path / "x").exists()


def test_a_network_beyond_memory_is_refused_before_the_folder_is_made(tmp_path, monkeypatch):
    params = TINY.cost(num_classes=10).params
    monkeypatch.setattr(machine, "memory", lambda: 16 * params - 1)
    with pytest.raises(ValueError, match=f"network has {params:,} parameters.* GB.*cpu has"):
        train_full(TINY, SHORT, "digits", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    monkeypatch.setattr(machine, "memory", lambda: 16 * params)
    check_fits(TINY.cost(num_classes=10), torch.device("cpu"))


def test_a_finished_training_needs_no_memory(tmp_path, monkeypatch):
    record = train_full(TINY, SHORT, "digits", tmp_path)
    monkeypatch.setattr(machine, "memory", lambda: 0)
    assert train_full(TINY, SHORT, "digits", tmp_path) == record


def test_weights_need_a_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="no undamaged checkpoint"):
        export_weights(TrialFolder(tmp_path), TINY.config(10), tmp_path / "w")


def test_two_processes_train_as_one_does(tmp_path):
    """At the same global batch, from a checkpoint of one process; augmentation is per process."""
    recipe = replace(SHORT, data_fraction=0.05, batch_size=22, ema_decay=0.5)  # 65: uneven shares
    one = train_full(TINY, recipe, "digits", tmp_path / "one", device="cpu")
    with pytest.raises(Interrupted):
        train_full(TINY, recipe, "digits", tmp_path / "two", device="cpu", stop=after(1))
    two = train_full(TINY, recipe, "digits", tmp_path / "two", device="cpu*2")
    assert len(two.curve) == len(one.curve) == 2
    for row, other in zip(one.curve, two.curve, strict=True):
        for key in ("train_loss", "val_loss", "val_accuracy", "grad_norm", "grad_norm_max"):
            assert row[key] == pytest.approx(other[key], rel=1e-3)
    assert one.metrics["test_loss"] == pytest.approx(two.metrics["test_loss"], rel=1e-3)
    ones, twos = (load_weights(tmp_path / f / WEIGHTS).state_dict() for f in ("one", "two"))
    # A shift of BatchNorm's input has no gradient; AdamW turns its rounding noise into steps.
    shifts = {"levels.3.norm.bias", "head.norm.running_mean"}
    far = [k for k in ones.keys() - shifts if not torch.allclose(ones[k], twos[k], atol=1e-4)]
    assert far == []


def receive_signals(folder, group, device, stop):
    """Ctrl-C in a terminal and a SIGTERM to the process group reach these processes too."""
    assert device.type == "cpu"
    for signum in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), signum)
    (folder / f"ready-{group.rank}").touch()
    while not group.any(stop()):
        pass
    names = group.gather(f"saved-{group.rank}")
    (folder / names[1 - group.rank]).touch()  # each in the name of the other
    raise Interrupted


def test_processes_leave_signals_to_the_one_that_started_them(tmp_path):
    work = partial(receive_signals, tmp_path)
    run_in_processes(work, 2, "cpu", lambda: (tmp_path / "ready-1").exists())
    assert sorted(p.name for p in tmp_path.glob("saved-*")) == ["saved-0", "saved-1"]


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_whole_group_saves_a_training_over_processes(tmp_path, signum, code):
    arguments = ["16-8-1-1", "--device", "cpu*2", "--epochs", "200", "--set", "data_fraction=0.1"]
    main = [sys.executable, "-c", "from archsearch.cli import main; main()", "train"]
    command = [*main, *arguments, "--out", str(tmp_path)]
    with Process(command, stderr=subprocess.PIPE, text=True, process_group=0) as process:
        wait_for(lambda: list(tmp_path.glob("checkpoint-*")))
        os.killpg(process.pid, signum)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == code
    assert "stopped and saved in" in errors


def fail_in_the_second(group, device, stop):
    del device, stop
    if group.rank == 1:
        raise DataError("7.png is no image")
    group.any(False)  # waits for the other process


def test_an_exception_of_a_process_is_raised_with_its_type():
    with pytest.raises(DataError) as error:
        run_in_processes(fail_in_the_second, 2, "cpu", lambda: False)
    assert str(error.value) == "7.png is no image"
    assert "In process 1:" in error.value.__notes__[0]
    assert "in fail_in_the_second" in error.value.__notes__[0]


def test_an_exception_that_cannot_be_pickled_becomes_its_message():
    class TwoArguments(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    error = spawn._picklable(TwoArguments(1, 2), rank=0)
    assert (type(error), str(error)) == (RuntimeError, "TwoArguments: 1 and 2")


def wait_in(folder, group, device, stop):
    del device, stop
    (folder / f"{group.rank}.pid").write_text(str(os.getpid()))
    time.sleep(600)


def written_pids(folder):
    """A file may exist before its number is written."""
    return [int(text) for path in folder.glob("*.pid") if (text := path.read_text())]


def test_processes_end_with_the_one_that_started_them(tmp_path):
    code = (
        "from pathlib import Path\nfrom tests.running.test_train_full import *\n"
        f"run_in_processes(partial(wait_in, Path({str(tmp_path)!r})), 2, 'cpu', lambda: False)\n"
    )
    with Process([sys.executable, "-c", code]) as process:
        pids = wait_for(lambda: len(pids := written_pids(tmp_path)) == 2 and pids)
        process.kill()
    wait_for(lambda: all(has_ended(pid) for pid in pids))


def test_several_devices_are_requested_in_one_form(monkeypatch):
    for device in ("cpu*", "cpu*0", "cpu*x", "cuda:1*2"):
        with pytest.raises(ValueError, match="wanted a number after the"):
            run_on(device, lambda *_: None, lambda: False)
    monkeypatch.setattr(devices, "device_of", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="wanted 64 GPUs, there are 2"):
        run_on("cuda*64", lambda *_: None, lambda: False)


def test_a_folder_of_an_earlier_version_resumes(tmp_path):
    """It has the request in asked.json, which is still read and compared."""
    with pytest.raises(Interrupted):
        train_full(TINY, SHORT, "digits", tmp_path, stop=after(3))
    assert (REQUEST, OLD_REQUEST) == ("request.json", "asked.json")
    (tmp_path / REQUEST).rename(tmp_path / OLD_REQUEST)
    with pytest.raises(ValueError, match=r"recipe.lr was 0.001, now 0.002.*another folder"):
        train_full(TINY, replace(SHORT, lr=2e-3), "digits", tmp_path)
    resumed = train_full(TINY, SHORT, "digits", tmp_path)
    assert not (tmp_path / REQUEST).exists()
    unbroken = train_full(TINY, SHORT, "digits", tmp_path / "unbroken")
    assert resumed.metrics["train_loss"] == unbroken.metrics["train_loss"]


@pytest.mark.parametrize("content", ["[1]", '{"identity":[1]}', "{}", '{"identity":' + "[" * 9999])
def test_a_damaged_request_is_refused_by_name(tmp_path, content):
    (tmp_path / "request.json").write_text(content)
    with pytest.raises(ValueError, match=r"request\.json is damaged"):
        train_full(TINY, SHORT, "digits", tmp_path)


@pytest.mark.parametrize("state", [{}, {"model": None}, {"average": [1]}, {"model": {"a": 1}}])
def test_a_checkpoint_without_weights_is_not_exported(tmp_path, state):
    checkpoint.save(tmp_path, state, 1)
    request = TrainingRequest(TINY, SHORT, describe("digits", 0.1), 0, CLASSIFICATION, None)
    with pytest.raises(ValueError, match="the checkpoint holds no weights"):
        export_weights(TrialFolder(tmp_path), request, tmp_path / "w")
