"""The quote against studies whose true cost is known."""

from pathlib import Path

import pytest

from archsearch.recipe import resolve
from archsearch.running.quote import (
    _cost,  # the synthetic truth is made of the same counts
    corners,
    outcome,
    quote,
)
from archsearch.running.timing import time_steps
from archsearch.storage.store import StudyFolder
from archsearch.study import Data, Record, Study, Trial
from archsearch.variant import Variant

DATA = Data("digits", "0" * 16, 10, 1, 1000, 300, 300)
RECIPE = resolve("quick", {"epochs": "2"})
TRIALS = [
    Trial(Variant(c1, 8, l1, l3), RECIPE, DATA, 0)
    for c1 in (16, 24, 32) for l1 in (1, 2) for l3 in (2, 6, 11)
]  # fmt: skip


def timed(trial: Trial, speed: float = 1.0) -> Record:
    """A timing in a world where time is multiply-adds and activations, memory activations."""
    cost = _cost(trial)
    metrics = {
        "setup_seconds": 3.0,
        "seconds_per_image": speed * (2e-11 * cost.macs + 3e-9 * cost.activations),
        "peak_memory_bytes": 1e9 + 20.0 * cost.activations * RECIPE.batch_size,
        "memory_bytes": 4e9,
    }
    return Record(trial.id, "complete", metrics, cost=cost, device="cpu (test)")


def test_corners_hold_the_extremes() -> None:
    found = corners(TRIALS)
    assert 2 <= len(found) <= 4
    for key in (lambda t: _cost(t).macs, lambda t: _cost(t).activations):
        assert max(TRIALS, key=key) in found


def test_a_world_of_macs_and_activations_is_quoted_exactly() -> None:
    records = {t.id: timed(t) for t in corners(TRIALS)}
    made = quote(TRIALS, records, workers=2)
    images = 2 * (1000 + 100) + 100  # two epochs, measuring at a third of a step
    for trial in TRIALS:
        per_image = timed(trial).metrics["seconds_per_image"]
        assert per_image is not None
        assert made.seconds[trial.id] == pytest.approx(per_image * images, rel=1e-6)
    assert made.hours * 3600 == pytest.approx(3 + sum(made.seconds.values()) / 2)


def test_what_will_not_fit_is_named() -> None:
    records = {t.id: timed(t) for t in corners(TRIALS)}
    assert quote(TRIALS, records, workers=1).too_large == ()
    crowded = quote(TRIALS, records, workers=4)  # 1 GB each, and every trial needs more
    assert len(crowded.too_large) == len(TRIALS)


def test_outcome_compares_only_what_was_quoted_and_taken() -> None:
    records = [
        Record(TRIALS[0].id, "complete", seconds=12.0),
        Record("f" * 16, "complete", seconds=9),
    ]
    assert outcome({TRIALS[0].id: 10.0, TRIALS[1].id: 5.0}, records) == (10.0, 12.0)


def test_without_a_timing_there_is_no_quote() -> None:
    with pytest.raises(ValueError, match="no quote"):
        quote(TRIALS, {}, workers=1)


def test_steps_are_timed_and_nothing_is_trained(tmp_path: Path) -> None:
    from archsearch.training.data import describe

    data = describe("digits", RECIPE.val_fraction)
    trial = Trial(Variant(16, 8, 1, 1), RECIPE, data, 0)
    study = Study("q", "", "", (), RECIPE)
    folder = StudyFolder(tmp_path / "q").create(study, data).trial(trial.id)
    folder.write_spec(trial)
    time_steps(folder.path, "cpu")
    record = folder.record()
    assert record is not None
    assert all(record.metrics[name] for name in ("seconds_per_image", "setup_seconds"))
    assert record.curve == ()
    assert folder.load_checkpoint() is None
