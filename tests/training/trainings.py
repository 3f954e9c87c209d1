"""Small trainings on digits, and the comparison of their results."""

from dataclasses import replace

import torch

from archsearch.core.recipes import QUICK
from archsearch.families.internimage import Variant
from archsearch.running.train_trial import training_of
from archsearch.storage.study_folder import TrialFolder
from archsearch.study import Trial
from archsearch.training.data import describe

CPU = torch.device("cpu")
TINY = Variant(16, 8, 1, 1)
SHORT = replace(QUICK, data_fraction=0.1, val_fraction=0.1, batch_size=32, lr=1e-3)
"""129 images: five steps an epoch."""

ALL_ON = replace(
    SHORT, flip=True, crop="pad", mixup=0.8, cutmix=1.0, drop_path=0.2, ema_decay=0.9, epochs=3
)


def trial_folder(root, recipe=SHORT, seed=3, **changes):
    data = describe("digits", recipe.val_fraction)
    trial = Trial(TINY, recipe, replace(data, **changes), seed)
    folder = TrialFolder(root / trial.id)
    folder.write_spec(trial)
    return folder


def new_training(recipe=SHORT):
    """A training on digits before its first step."""
    data = describe("digits", recipe.val_fraction)
    return training_of(Trial(TINY, recipe, data, 0), CPU)


def after(steps):
    """A `stop` that returns True after so many steps."""
    calls = iter(range(steps))
    return lambda: next(calls, None) is None


def results(folder):
    """Record and weights of a trial, without measured times."""
    record = folder.record().to_dict()
    timed = ("seconds", "images_per_second", "peak_memory_bytes")
    for row in (record, record["metrics"], *record["curve"]):
        for key in [k for k in row if k in timed or k.endswith("_seconds")]:
            del row[key]
    _, stored = folder.load_checkpoint()
    return record, {**stored["model"], **(stored["average"] or {})}


def assert_same(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    assert [k for k, v in one[1].items() if not torch.equal(v, other[1][k])] == []
