"""A checkpoint with a right digest and a wrong structure is refused before any of it is loaded."""

import copy
import re
from dataclasses import replace

import pytest
import torch

from archsearch.core.interrupted import Interrupted
from archsearch.running.train_trial import train_trial
from archsearch.storage import checkpoint
from archsearch.training.state import STATE_PARTS
from tests.training.trainings import (
    ALL_ON,
    SHORT,
    after,
    assert_same,
    new_training,
    results,
    trial_folder,
)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A trial that was stopped in its second epoch, and its last state."""
    folder = trial_folder(tmp_path_factory.mktemp("trial"), replace(ALL_ON, epochs=2))
    with pytest.raises(Interrupted):
        train_trial(folder.path, "cpu", after(8))
    return folder


def change(part, *keys, value):
    def apply(state):
        target = state
        for key in (part, *keys[:-1]):
            target = target[key]
        target[keys[-1]] = value

    return apply


WRONG = {
    "progress is text": (lambda s: s.update(progress="x"), "progress: Expected `object`"),
    "no micro-batch": (lambda s: s["progress"].pop("micro_batch"), "progress: "),
    "text for a number": (change("progress", "epoch", value="1"), "progress: Expected `int`"),
    "an epoch beyond": (change("progress", "epoch", value=10**9), "progress: epoch 1000000000"),
    "a negative step": (change("progress", "step", value=-1), "progress: epoch 1, step -1"),
    "no curve": (change("progress", "curve", value=[]), "0 epochs in the curve"),
    "model is text": (lambda s: s.update(model="x"), "model: wanted tensors by name, got str"),
    "a missing tensor": (lambda s: s["model"].popitem(), "model: missing or unexpected head."),
    "another shape": (
        change("model", "head.linear.bias", value=torch.zeros(3)),
        "model: another shape or type of head.linear.bias",
    ),
    "another type": (
        change("model", "head.linear.bias", value=torch.zeros(10, dtype=torch.int64)),
        "model: another shape or type of head.linear.bias",
    ),
    "no average": (lambda s: s.update(average=None), "average: wanted tensors by name"),
    "no optimizer": (lambda s: s.update(optimizer=None), "optimizer: wanted param_groups"),
    "one group": (lambda s: s["optimizer"]["param_groups"].pop(), "optimizer: wanted groups of"),
    "a group without parameters": (
        lambda s: s["optimizer"]["param_groups"][0].pop("params"),
        "optimizer: wanted groups of",
    ),
    "foreign moments": (change("optimizer", "state", 999, value={}), "does not have"),
    "empty moments": (change("optimizer", "state", 0, value={}), "another shape for parameters"),
    "other moments": (
        change("optimizer", "state", 0, "exp_avg", value=torch.zeros(1)),
        "another shape for parameters [0]",
    ),
    "scaler is a list": (lambda s: s.update(scaler=[1]), "scaler: wanted tensors by name"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_state_of_another_structure_is_refused_with_the_reason(name, interrupted):
    training = new_training(replace(ALL_ON, epochs=2))
    _, state = interrupted.load_checkpoint()
    training.check_state(state)
    wrong = copy.deepcopy(state)
    apply, reason = WRONG[name]
    apply(wrong)
    with pytest.raises(ValueError, match=re.escape(reason)):
        training.check_state(wrong)


@pytest.mark.parametrize("part", STATE_PARTS)
def test_a_state_that_lacks_a_part_is_refused(part, interrupted):
    _, state = interrupted.load_checkpoint()
    del state[part]
    with pytest.raises(ValueError, match=f"it lacks {part}"):
        new_training(replace(ALL_ON, epochs=2)).check_state(state)


@pytest.mark.parametrize("keep", [True, False], ids=["another before it", "none before it"])
def test_a_training_falls_back_to_the_checkpoint_before(keep, tmp_path, caplog):
    unbroken, folder = trial_folder(tmp_path / "a"), trial_folder(tmp_path / "b")
    train_trial(unbroken.path, "cpu")
    with pytest.raises(Interrupted):
        train_trial(folder.path, "cpu", after(8))
    steps, state = folder.load_checkpoint()
    if not keep:
        for old in (*checkpoint.stored(folder.path), *checkpoint.stored(folder.path, "best")):
            old.path.unlink()
    checkpoint.save(folder.path, {**state, "model": {}}, steps + 1)
    train_trial(folder.path, "cpu")
    assert "it does not fit this training: model: missing or unexpected" in caplog.text
    record, _ = ours = results(folder)
    (note,) = record.pop("notes")
    assert note.startswith(f"damaged, not used: checkpoint-{steps + 1:05d}")
    expected, weights = results(unbroken)
    assert_same(ours, ({k: v for k, v in expected.items() if k != "notes"}, weights))


def test_a_finished_state_needs_no_optimizer(tmp_path):
    folder = trial_folder(tmp_path)
    train_trial(folder.path, "cpu")
    _, state = folder.load_checkpoint()
    assert state["optimizer"] is None
    new_training(SHORT).check_state(state)
