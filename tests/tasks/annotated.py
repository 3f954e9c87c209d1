"""Small trainings on annotated images, and the comparison of their numbers."""

import pytest

from archsearch.families.internimage import Variant
from archsearch.storage.trial_folder import TrialFolder
from archsearch.study import Trial

NUMBERS = ("train_", "val_", "test_", "grad_")
TINY = Variant(8, 8, 1, 1)


def folder_of(path, task, recipe, data, variant=TINY):
    """The folder of a trial that has not begun."""
    trial = Trial(variant, recipe, task.describe(data, recipe), 0, task)
    folder = TrialFolder(path / trial.id)
    folder.path.mkdir(parents=True)
    folder.write_spec(trial)
    return folder


def equal_numbers(one, other, rel=0.0):
    """Check that two trainings have equal curves and results, apart from times."""
    rows, others = ([*folder.curve(), folder.record().metrics] for folder in (one, other))
    for row, second in zip(rows, others, strict=True):
        for name, value in row.items():
            if name.startswith(NUMBERS) and not name.endswith("seconds"):
                assert second[name] == pytest.approx(value, rel=rel, abs=0), name
