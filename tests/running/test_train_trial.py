"""Training: it learns, repeats bit for bit, resumes anywhere, and ends in a record."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from unittest.mock import Mock

import pytest
import torch
from torch import nn

import cuda_ops
import internimage.dcnv3
from archsearch.benchmarks import train_step
from archsearch.core.cost import Cost
from archsearch.core.interrupted import Interrupted
from archsearch.core.recipe import QUICK, resolve
from archsearch.families.internimage import Variant
from archsearch.running.train_trial import train_trial, training_of
from archsearch.storage import checkpoint
from archsearch.storage.study_folder import TrialFolder
from archsearch.study import Trial
from archsearch.tasks.classification import CLASSIFICATION
from archsearch.training import loop, machine
from archsearch.training.augmentation import Pipeline
from archsearch.training.batch_norm import calibrate
from archsearch.training.data import DataError, describe
from archsearch.training.device import device_name, device_of, settings
from archsearch.training.loop import Training
from archsearch.training.memory import fitting_batch
from archsearch.training.optimizer import optimizer_of, rate
from archsearch.training.process_group import ALONE, ProcessGroup
from internimage import InternImage

CPU = torch.device("cpu")
TINY = Variant(16, 8, 1, 1)
SHORT = replace(QUICK, data_fraction=0.1, val_fraction=0.1, batch_size=32, lr=1e-3)
"""129 images: five steps an epoch."""

ALL_ON = replace(
    SHORT, flip=True, crop="pad", mixup=0.8, cutmix=1.0, drop_path=0.2, ema_decay=0.9, epochs=3
)


def trial_folder(root, recipe=SHORT, variant=TINY, **changes):
    data = describe("digits", recipe.val_fraction)
    trial = Trial(variant, recipe, replace(data, **changes), seed=3)
    folder = TrialFolder(root / trial.id)
    folder.write_spec(trial)
    return folder


def begin(recipe=SHORT):
    """A training of the digits at its beginning."""
    data = describe("digits", recipe.val_fraction)
    return training_of(Trial(TINY, recipe, data, 0), CPU)


def after(steps):
    """A `stop` that turns true after so many steps."""
    asked = iter(range(steps))
    return lambda: next(asked, None) is None


def results(folder):
    """All a trial gave but the times."""
    record = folder.record().to_dict()
    timed = ("seconds", "images_per_second", "peak_memory_bytes")
    for row in (record, record["metrics"], *record["curve"]):
        for key in timed:
            row.pop(key, None)
    _, state = folder.load_checkpoint()
    return record, {**state["model"], **(state["average"] or {})}


def assert_same(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    assert [k for k, v in one[1].items() if not torch.equal(v, other[1][k])] == []


def test_digits_are_learned_and_the_record_is_whole_even_on_a_bare_node(tmp_path):
    """A node that trains may lack what plans and reports, and kornia where nothing augments."""
    folder = trial_folder(tmp_path, replace(QUICK, epochs=1, lr=2e-3))
    absent = ["optuna", "fvcore", "ray", "pandas", "matplotlib", "typer", "rich", "jinja2"]
    absent += ["safetensors", "kornia"]
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({absent}))\n"
        "from archsearch.running.train_trial import train_trial\n"
        "from pathlib import Path\n"
        f"train_trial(Path({json.dumps(str(folder.path))}))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    record = folder.record()
    assert record.status == "complete"
    assert record.metrics["val_accuracy"] > 70
    assert record.metrics["test_accuracy"] > 70
    assert record.metrics["val_accuracy"] == record.curve[-1]["val_accuracy"]
    assert all(value is not None and value > 0 for value in record.metrics.values())
    assert record.cost.params == sum(
        p.numel() for p in InternImage(TINY.config_for(10, QUICK)).parameters()
    )
    assert (record.cost.image_size, record.device[:4]) == (32, "cpu ")
    assert record.versions["torch"] == metadata.version("torch")
    assert record.seconds > 0


def test_a_trial_stopped_anywhere_and_resumed_gives_the_same_bits(tmp_path):
    whole = trial_folder(tmp_path / "whole", ALL_ON)
    train_trial(whole.path)
    broken = trial_folder(tmp_path / "broken", ALL_ON)
    for steps in (2, 3, 4):  # inside an epoch, at its end, inside the next
        with pytest.raises(Interrupted):
            train_trial(broken.path, stop=after(steps))
    train_trial(broken.path)
    assert_same(results(whole), results(broken))
    assert [row["epoch"] for row in broken.curve()] == [1, 2, 3]


def test_a_seed_decides_the_result_and_another_seed_another(tmp_path):
    folders = [trial_folder(tmp_path / name, ALL_ON) for name in ("one", "two")]
    for folder in folders:
        torch.rand(7)  # what happened before must not matter
        train_trial(folder.path)
    assert_same(*(results(f) for f in folders))
    other = folders[0].trial()
    other = replace(other, seed=4)
    folder = TrialFolder(tmp_path / other.id)
    folder.write_spec(other)
    train_trial(folder.path)
    assert results(folder)[0]["curve"] != results(folders[0])[0]["curve"]


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_before_a_measurement_batch_norm_is_taken_anew(ema_decay):
    recipe = replace(SHORT, ema_decay=ema_decay)
    training = begin(recipe)
    training.step(next(training.remaining_batches()))
    training.validate()
    norms = [m for m in training.measured.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [int(norm.num_batches_tracked) for norm in norms] == [4]


def test_every_step_has_random_numbers_of_its_own(tmp_path, monkeypatch):
    seeds = []
    augmented = Pipeline.augmented
    monkeypatch.setattr(
        Pipeline,
        "augmented",
        lambda *given: seeds.append(torch.initial_seed()) or augmented(*given),
    )
    train_trial(trial_folder(tmp_path).path)
    assert len(seeds) == len(set(seeds)) == 10


def test_a_kill_between_checkpoint_and_event_loses_neither(tmp_path, monkeypatch):
    folder = trial_folder(tmp_path)

    with monkeypatch.context() as patch:
        patch.setattr(TrialFolder, "append_event", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_trial(folder.path)
    assert folder.curve() == ()
    assert folder.load_checkpoint()[1]["progress"]["epoch"] == 1
    train_trial(folder.path)
    assert [row["epoch"] for row in folder.curve()] == [1, 2]
    assert [row["epoch"] for row in folder.record().curve] == [1, 2]


def test_the_last_checkpoint_alone_is_kept_and_holds_the_weights(tmp_path):
    folder = trial_folder(tmp_path)
    train_trial(folder.path)
    kept = checkpoint.stored(folder.path)
    assert [c.epoch for c in kept] == [10]  # its number is that of the optimizer steps behind it
    _, state = folder.load_checkpoint()
    assert state["optimizer"] is None
    InternImage(TINY.config_for(10, SHORT)).load_state_dict(state["model"])


def test_a_loss_that_is_no_number_ends_in_a_record_without_a_test_score(tmp_path):
    folder = trial_folder(tmp_path, replace(SHORT, lr=1e20, warmup_epochs=0))
    train_trial(folder.path)
    record = folder.record()
    assert record.status == "diverged"
    assert "in epoch 1, by step" in record.error
    assert record.metrics["val_accuracy"] is None
    assert record.metrics["test_accuracy"] is None


def test_a_record_holds_the_last_epochs_numbers_and_of_a_diverged_training_none(
    tmp_path, monkeypatch
):
    folder = trial_folder(tmp_path / "complete")
    train_trial(folder.path)
    record = folder.record()
    assert record.metrics["train_loss"] == record.curve[1]["train_loss"]
    assert record.metrics["val_loss"] == record.curve[1]["val_loss"]

    def diverge_late(training):
        if training.progress.epoch == 1:
            raise loop.Diverged("late")

    monkeypatch.setattr(Training, "_check_finite", diverge_late)
    folder = trial_folder(tmp_path / "diverged")
    train_trial(folder.path)
    record = folder.record()
    assert (record.status, len(record.curve)) == ("diverged", 1)
    assert record.metrics["val_loss"] is None
    assert record.metrics["best_val_accuracy"] == record.curve[0]["val_accuracy"]


def test_the_test_split_is_measured_once_and_at_the_end(tmp_path, monkeypatch):
    measured = []
    test = Training.test
    monkeypatch.setattr(Training, "test", lambda self: measured.append(self.finished) or test(self))
    train_trial(trial_folder(tmp_path).path)
    assert measured == [True]


def test_without_a_validation_split_nothing_is_made_up(tmp_path):
    folder = trial_folder(tmp_path, replace(SHORT, val_fraction=0.0))
    train_trial(folder.path)
    metrics = folder.record().metrics
    assert (metrics["val_accuracy"], metrics["best_val_accuracy"]) == (None, None)
    assert metrics["test_accuracy"] > 0


def refuse_more_than(images, monkeypatch):
    """A network that runs out of memory above a number of images in training."""
    forward = InternImage.forward
    seen = []

    def limited(self, x):
        if self.training and len(x) > images:
            raise torch.OutOfMemoryError("CUDA out of memory")
        seen.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(InternImage, "forward", limited)
    return seen


def test_out_of_memory_takes_fewer_images_at_a_time_and_says_so(tmp_path, monkeypatch):
    seen = refuse_more_than(8, monkeypatch)
    folder = trial_folder(tmp_path)
    train_trial(folder.path)
    record = folder.record()
    assert record.status == "complete"
    assert record.notes == (
        "out of memory: 6 images at a time from epoch 1 on, with the same 32 per optimizer step",
    )
    assert max(seen) <= 8
    assert folder.load_checkpoint()[1]["progress"]["micro_batch"] == 6


def test_no_part_of_a_batch_is_one_image(monkeypatch):
    """At 32 pixels the head's map is one pixel, and BatchNorm has one value per channel."""
    monkeypatch.setattr(machine, "memory", lambda: 0)
    recipe = replace(SHORT, batch_size=5)
    training = begin(recipe)
    pixels, labels = next(training.remaining_batches())
    assert (training.progress.micro_batch, len(labels)) == (2, 5)
    training.step((pixels, labels))
    training._calibrate()
    training.recipe = replace(recipe, batch_size=2)
    assert training.steps_per_epoch == len(training.splits.train) // 2 == 64
    assert min(len(labels) for _, labels in training.remaining_batches()) == 2


def test_every_process_takes_as_many_parts_though_their_shares_differ_by_one():
    training = begin()
    training.group, training.progress.micro_batch = ProcessGroup(0, 2), 6
    seen, network = [], training.trained
    training.trained = lambda images: seen.append(len(images)) or network(images)
    for share in (13, 12):
        batch = torch.rand(share, 3, 32, 32), torch.zeros(share).long()
        training._backward_in_parts(batch, 25)
    assert seen == [5, 4, 4, 4, 4, 4]


def test_less_memory_than_where_it_began_is_noted_on_going_on(tmp_path, monkeypatch):
    folder = trial_folder(tmp_path)
    with pytest.raises(Interrupted):
        train_trial(folder.path, stop=after(6))
    monkeypatch.setattr(loop, "fitting_batch", lambda *_: 10)
    train_trial(folder.path)
    assert folder.record().notes == (
        "out of memory: 10 images at a time from epoch 2 on, with the same 32 per optimizer step",
    )


def test_a_network_that_does_not_fit_at_all_raises(tmp_path, monkeypatch):
    refuse_more_than(0, monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        train_trial(trial_folder(tmp_path).path)


def test_other_errors_are_not_taken_for_lack_of_memory(tmp_path, monkeypatch):
    refused = Mock(side_effect=RuntimeError("shapes do not fit"))
    monkeypatch.setattr(InternImage, "forward", refused)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train_trial(trial_folder(tmp_path).path)


def test_a_batch_whole_or_in_parts_gives_the_gradient_of_its_mean_loss():
    smoothed = replace(SHORT, label_smoothing=0.1)
    found = []
    for micro_batch in (32, 11, 5):
        training = begin(smoothed)
        model = training.model.eval()  # BatchNorm alone sees its part only
        training.progress.micro_batch = micro_batch
        pixels, labels = next(training.remaining_batches())
        images = training.splits.pipeline.plain(pixels)
        mean_loss = nn.functional.cross_entropy(model(images), labels, label_smoothing=0.1)
        wanted = torch.cat(
            [g.flatten() for g in torch.autograd.grad(mean_loss, model.parameters())]
        )
        loss_sum = training._backward((images, labels), len(labels), len(labels))
        assert loss_sum.item() == pytest.approx(mean_loss.item() * len(labels), rel=1e-4)
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    for gradient in found:
        assert torch.allclose(gradient, wanted, rtol=1e-3, atol=1e-6)


def test_a_cpu_is_not_given_a_batch_that_would_get_it_killed(monkeypatch):
    cost = Cost(params=1000, macs=1, activations=1000, image_size=32)
    monkeypatch.setattr(machine, "memory", lambda: 16_000 + 91_000)
    assert fitting_batch(replace(QUICK, batch_size=64), cost, CPU) == 10
    assert fitting_batch(replace(QUICK, batch_size=64, precision="bf16"), cost, CPU) == 18
    assert fitting_batch(replace(QUICK, batch_size=4), cost, CPU) == 4
    monkeypatch.setattr(machine, "memory", lambda: 0)
    assert fitting_batch(QUICK, cost, CPU) == 2
    monkeypatch.setattr(machine, "memory", lambda: None)
    assert fitting_batch(QUICK, cost, CPU) == QUICK.batch_size


def test_other_data_than_planned_is_refused(tmp_path):
    folder = trial_folder(tmp_path, fingerprint="0" * 16)
    with pytest.raises(DataError, match="not the data this trial was planned with"):
        train_trial(folder.path)
    assert folder.record() is None


def test_what_the_device_cannot_do_is_said_before_training(tmp_path):
    folder = trial_folder(tmp_path, replace(SHORT, precision="fp16"))
    with pytest.raises(ValueError, match="fp16 needs a GPU, this is cpu"):
        train_trial(folder.path)
    for name in ("banana", "cuda:7", "meta:"):
        with pytest.raises(ValueError, match=f"no device '{name}' here"):
            device_of(name)


def test_bf16_trains_on_a_cpu_and_keeps_its_weights_in_fp32(tmp_path):
    folder = trial_folder(tmp_path, replace(SHORT, precision="bf16"))
    train_trial(folder.path)
    assert folder.record().status == "complete"
    weights = folder.load_checkpoint()[1]["model"]
    assert {v.dtype for v in weights.values() if v.is_floating_point()} == {torch.float32}


def test_the_process_is_left_as_it_was():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with settings(replace(SHORT, threads=threads + 1), CPU):
        torch.manual_seed(1)
        assert torch.get_num_threads() == threads + 1
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_a_long_epoch_gives_signs_of_life_and_is_saved_midway(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "TELL_SECONDS", 0.0)
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    saved = []
    save = TrialFolder.save_checkpoint
    monkeypatch.setattr(
        TrialFolder,
        "save_checkpoint",
        lambda self, state, steps, best: saved.append(steps) or save(self, state, steps, best),
    )
    folder = trial_folder(tmp_path)
    train_trial(folder.path)
    signs = [event for event in folder.events() if "in_epoch" in event]
    assert [(s["in_epoch"], s["step"], s["steps"]) for s in signs][:5] == [
        (1, step, 5) for step in (1, 2, 3, 4, 5)
    ]
    assert all("epoch" not in sign for sign in signs)
    assert len(folder.curve()) == 2
    assert saved == sorted(saved) == list(range(1, 11))


def test_warm_up_is_linear_and_the_cosine_ends_at_zero():
    recipe = resolve("quick", {"epochs": "10", "warmup_epochs": "2", "lr": "1.0"})
    rates = [rate(step, 5, recipe) for step in range(50)]
    assert rates[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert rates[10] == max(rates) == 1.0
    assert rates[30] == pytest.approx(0.5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[49] < 0.01


def test_weight_decay_is_for_matrices_and_kernels_only():
    model = InternImage(Variant(16, 8, 1, 1, norm="post", layer_scale=0.1).config(10))
    decayed, others = optimizer_of(model, SHORT).param_groups
    named = {id(p): name for name, p in model.named_parameters()}
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    assert all(named[id(p)].endswith("weight") for p in decayed["params"])
    spared = {named[id(p)].split(".")[-1] for p in others["params"]}
    assert {"bias", "gamma1", "gamma2"} <= spared
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


class Last(nn.Module):
    """BatchNorm on two numbers per image, the class being the larger."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x):
        return self.norm(x)


def test_scores_are_percent_and_loss_per_image_over_uneven_batches():
    model = Last().eval()
    values = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    labels = torch.tensor([0, 1, 1])
    batches = [(values[:2], labels[:2]), (values[2:], labels[2:])]
    with torch.inference_mode():
        score = CLASSIFICATION.measure(model, batches, ALONE)
    loss = nn.functional.cross_entropy(model(values), labels)
    assert score["accuracy"] == pytest.approx(200 / 3)
    assert score["loss"] == pytest.approx(loss.item())
    assert CLASSIFICATION.measure(model, [], ALONE) is None


def test_batch_norm_is_measured_with_statistics_of_the_training_images():
    model, no_cast = Last(), lambda: torch.autocast("cpu", enabled=False)
    images = torch.randn(256, 2) * 3 + 5
    calibrate(model, images.split(64), no_cast)
    assert torch.allclose(model.norm.running_mean, images.mean(0), atol=1e-5)
    assert torch.allclose(model.norm.running_var, images.var(0), rtol=0.05)
    assert (model.training, model.norm.training, model.norm.momentum) == (False, False, 0.1)


def test_the_name_of_the_device_is_a_persons():
    assert device_name(CPU).startswith("cpu (")


def test_the_step_is_timed_with_and_without_the_native_operator(capsys, monkeypatch):
    with train_step.operator("torch"):
        assert internimage.dcnv3.dcnv3.keywords == {"backend": "torch"}
    assert internimage.dcnv3.dcnv3 is cuda_ops.dcnv3
    monkeypatch.setattr(
        train_step, "shares", lambda *_: {"rest": 1.0}
    )  # slow for a model of T's size
    train_step.main(["--batch", "2", "--rounds", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["times_faster"] == found["seconds"]["reference"] / found["seconds"]["native"]


def test_the_shares_of_a_step_add_up_and_none_is_missed():
    training = begin()
    shares = train_step.shares(training, next(training.remaining_batches()))
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0
