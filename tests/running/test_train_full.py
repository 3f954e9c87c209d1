"""Training in full: to weights that load, resumable, and the same over several processes."""

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
from archsearch.core.recipe import QUICK
from archsearch.families.internimage import Variant
from archsearch.running.train_full import WEIGHTS, export_weights, train_full
from archsearch.running.train_trial import run_on, training_of
from archsearch.storage.trial_folder import TrialFolder
from archsearch.study import Trial
from archsearch.training import device as devices
from archsearch.training import spawn
from archsearch.training.data import DataError, describe
from archsearch.training.spawn import spread
from internimage import load_weights
from tests.running.test_run import gone, wait_for

TINY = Variant(16, 8, 1, 1)
SHORT = replace(QUICK, data_fraction=0.1, val_fraction=0.1, batch_size=32, lr=1e-3)


def accuracy(model):
    """On the test split of digits, in percent."""
    data = describe("digits", SHORT.val_fraction)
    training = training_of(Trial(TINY, SHORT, data, 0), torch.device("cpu"))
    training.model.load_state_dict(model.state_dict())
    return training.test()["accuracy"]


def after(steps):
    asked = iter(range(steps))
    return lambda: next(asked, None) is None


def test_the_weights_load_and_score_what_the_record_says(tmp_path):
    out = tmp_path / "a network"
    record = train_full(TINY, replace(SHORT, ema_decay=0.5), "digits", out)
    model = load_weights(out / WEIGHTS)
    assert accuracy(model) == pytest.approx(record.metrics["test_accuracy"])
    assert model.config == TINY.config_for(10, SHORT)


def test_the_same_call_goes_on_and_then_only_answers(tmp_path):
    with pytest.raises(Interrupted, match="stopped"):
        train_full(TINY, SHORT, "digits", tmp_path, stop=after(3))
    record = train_full(TINY, SHORT, "digits", tmp_path)
    (tmp_path / WEIGHTS).unlink()  # as if killed between the record and the weights
    assert train_full(TINY, SHORT, "digits", tmp_path) == record
    assert load_weights(tmp_path / WEIGHTS)


def test_another_training_in_the_same_folder_is_refused_with_the_difference(tmp_path):
    with pytest.raises(Interrupted):
        train_full(TINY, SHORT, "digits", tmp_path, stop=after(1))
    with pytest.raises(ValueError, match=r"recipe.lr was 0.001, now 0.002.*another folder"):
        train_full(TINY, replace(SHORT, lr=2e-3), "digits", tmp_path)
    with pytest.raises(ValueError, match=r"network.depths was \[1, 1, 1, 1\], now \[1, 1, 2, 1\]"):
        train_full(Variant(16, 8, 1, 2), SHORT, "digits", tmp_path)


def test_a_start_from_weights_of_other_classes_keeps_all_but_the_classifier(tmp_path):
    torch.manual_seed(0)
    given = internimage.InternImage(TINY.config(7))
    internimage.save_weights(given, tmp_path / "start.safetensors")
    still = replace(SHORT, epochs=1, lr=1e-30, weight_decay=0.0)
    start = tmp_path / "start.safetensors"
    record = train_full(TINY, still, "digits", tmp_path / "out", start=start)
    weights = dict(load_weights(tmp_path / "out" / WEIGHTS).named_parameters())
    kept = {k: v for k, v in given.named_parameters() if "linear" not in k}
    assert all(torch.allclose(weights[k], v, atol=1e-20) for k, v in kept.items())
    assert "classifier not taken" in record.notes[0]
    wide = Variant(32, 8, 1, 1)
    with pytest.raises(ValueError, match=r"does not fit the network: .*patch_embed.conv1.weight"):
        train_full(wide, still, "digits", tmp_path / "wide", start=start)


def test_a_precision_the_device_lacks_is_refused_before_the_folder_is_claimed(tmp_path):
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        train_full(TINY, replace(SHORT, precision="fp16"), "digits", tmp_path / "x", device="cpu")
    assert not (tmp_path / "x").exists()


def test_weights_need_a_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="no whole checkpoint"):
        export_weights(TrialFolder(tmp_path), TINY.config(10), tmp_path / "w")


def test_two_processes_train_what_one_does(tmp_path):
    """At the same global batch, from a checkpoint of one; augmentation is per process."""
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
    ours, theirs = (load_weights(tmp_path / f / WEIGHTS).state_dict() for f in ("one", "two"))
    # A shift of what goes into BatchNorm has no gradient; AdamW makes steps of its rounding noise.
    shifts = {"levels.3.norm.bias", "head.norm.running_mean"}
    far = [k for k in ours.keys() - shifts if not torch.allclose(ours[k], theirs[k], atol=1e-4)]
    assert far == []


def signalled(folder, world, device, stop):
    """Ctrl-C in a terminal and a SIGTERM to the group reach these processes too."""
    assert device.type == "cpu"
    for signum in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), signum)
    (folder / f"ready-{world.rank}").touch()
    while not world.any(stop()):
        pass
    (folder / f"saved-{world.rank}").touch()
    raise Interrupted


def test_processes_leave_signals_to_the_one_that_started_them(tmp_path):
    spread(partial(signalled, tmp_path), 2, "cpu", lambda: (tmp_path / "ready-1").exists())
    assert sorted(p.name for p in tmp_path.glob("saved-*")) == ["saved-0", "saved-1"]


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_whole_group_saves_a_training_over_processes(tmp_path, signum, code):
    arguments = ["16-8-1-1", "--device", "cpu*2", "--epochs", "200", "--set", "data_fraction=0.1"]
    main = [sys.executable, "-c", "from archsearch.cli import main; main()", "train"]
    command = [*main, *arguments, "--out", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0) as process:
        wait_for(lambda: list(tmp_path.glob("checkpoint-*")))
        os.killpg(process.pid, signum)
        _, said = process.communicate(timeout=120)
    assert process.returncode == code
    assert "stopped, and saved" in said


def break_in_the_second(world, device, stop):
    del device, stop
    if world.rank == 1:
        raise DataError("7.png is no image")
    world.any(False)  # waits for the other


def test_what_a_process_raises_is_raised_as_what_it_is():
    with pytest.raises(DataError) as error:
        spread(break_in_the_second, 2, "cpu", lambda: False)
    assert str(error.value) == "7.png is no image"
    assert "In process 1:" in error.value.__notes__[0]
    assert "in break_in_the_second" in error.value.__notes__[0]


def test_what_cannot_come_over_comes_in_words():
    class Odd(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    found = spawn._portable(Odd(1, 2), rank=0)
    assert (type(found), str(found)) == (RuntimeError, "Odd: 1 and 2")


def wait_in(folder, world, device, stop):
    del device, stop
    (folder / f"{world.rank}.pid").write_text(str(os.getpid()))
    time.sleep(600)


def test_processes_end_with_the_one_that_started_them(tmp_path):
    code = (
        "from pathlib import Path\nfrom tests.running.test_train_full import *\n"
        f"spread(partial(wait_in, Path({str(tmp_path)!r})), 2, 'cpu', lambda: False)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        found = wait_for(lambda: len(found := list(tmp_path.glob("*.pid"))) == 2 and found)
        pids = [int(path.read_text()) for path in found]
        process.kill()
    wait_for(lambda: all(gone(pid) for pid in pids))


def test_several_devices_are_asked_for_in_one_way(monkeypatch):
    for device in ("cpu*", "cpu*0", "cpu*x", "cuda:1*2"):
        with pytest.raises(ValueError, match="wanted a number after the"):
            run_on(device, lambda *_: None, lambda: False)
    monkeypatch.setattr(devices, "device_of", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="wanted 64 GPUs, there are 2"):
        run_on("cuda*64", lambda *_: None, lambda: False)


def test_what_was_asked_is_on_disk_before_training(tmp_path):
    with pytest.raises(Interrupted):
        train_full(TINY, SHORT, "digits", tmp_path, stop=after(0))
    asked = json.loads((tmp_path / "asked.json").read_text())
    assert asked["identity"]["recipe.lr"] == SHORT.lr
    assert asked["data"]["name"] == "digits"
