"""Successive halving: the pilot decides what may prune, and every step follows from records."""

from dataclasses import replace

import numpy as np
import pytest

from archsearch.core.plans import Halve, MoreSeeds
from archsearch.core.recipe import CIFAR, QUICK
from archsearch.core.task import Data
from archsearch.families.internimage import ORIGIN
from archsearch.results import load
from archsearch.searching.adaptive_plan import drive
from archsearch.searching.halving import (
    Rung,
    cost_range,
    gate,
    halving,
    may_prune,
    pilot_cells,
    promote,
    rungs,
)
from archsearch.searching.plans import halving_of, plan_text
from archsearch.stats.intervals import Interval, kendall_tau
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record
from tests import golden, toy

DATA = Data("digits", "f" * 16, 10, 1, 10, 10, 10)
VARIANTS = tuple(ORIGIN.with_numbers(64, 16, 1, l3) for l3 in range(1, 31))
LADDER = rungs(CIFAR)


class Trainer:
    """Gives each trial a record with ``accuracy(trial, share of a full training)``."""

    def __init__(self, accuracy, stop_after=None):
        self.accuracy, self.records, self.trials = accuracy, {}, []
        self.stop_after = stop_after

    def run(self, trials):
        for trial in trials:
            assert trial.id not in self.records
            if self.stop_after is not None and len(self.records) >= self.stop_after:
                return
            self.trials.append(trial)
            value = self.accuracy(trial, trial.recipe.epochs / CIFAR.epochs)
            status = "failed" if value is None else "complete"
            self.records[trial.id] = Record(trial.id, status, {"val_accuracy": value})

    def drive(self, **options):
        steps = halving(VARIANTS, LADDER, DATA, **options)
        return drive(steps, self.records.get, self.run)


def faithful(trial, share):
    """Short trainings rank like full ones: deeper is better."""
    return 50 + trial.variant.l3 + 10 * share


def misleading(trial, share):
    """Short trainings rank the other way around."""
    return 50 + trial.variant.l3 * (1 if share == 1 else -1)


def test_rungs_are_complete_trainings_of_growing_cost():
    assert [r.recipe.epochs for r in LADDER] == [2, 7, 20]
    assert [r.share for r in LADDER] == [0.1, 0.35, 1.0]
    assert [r.recipe.warmup_epochs for r in LADDER] == pytest.approx([0.1, 0.35, 1])
    assert LADDER[-1].recipe == CIFAR
    pixels = rungs(replace(CIFAR, image_size=96), 3, 3, "image_size")
    assert [r.recipe.image_size for r in pixels] == [32, 64, 96]
    assert [round(r.share, 3) for r in pixels] == [0.111, 0.444, 1]
    part = rungs(CIFAR, 2, 4, "data_fraction")
    assert [r.recipe.data_fraction for r in part] == [0.25, 1.0]
    assert [r.recipe.epochs for r in rungs(QUICK, 4)] == [1, 2]  # equal rungs are one
    with pytest.raises(ValueError, match="at least two rungs"):
        rungs(CIFAR, 1)


def test_a_rung_may_prune_by_the_lower_end_of_taus_interval():
    assert may_prune(Interval(0.9, 0.5, 1.0, 10, ""))
    assert not may_prune(Interval(0.9, 0.49, 1.0, 10, ""))
    assert not may_prune(Interval(1.0, None, None, 1, ""))
    full = {i: float(i) for i in range(10)}
    swapped = {**full, 0: 1.5, 8: 9.5}
    admitted = gate(LADDER[0], swapped, full)
    assert admitted.tau == kendall_tau(list(swapped.values()), list(full.values()), 0.9)
    assert admitted.may_prune
    assert f"lower 95% bound {admitted.tau.low:.2f}, needed 0.5" in admitted.reason
    few = gate(LADDER[0], {i: full[i] for i in range(4)}, full)
    assert not few.may_prune  # four cells are too few, even in perfect order
    assert few.tau.n == 4


def test_without_a_tau_no_rung_prunes_and_the_reason_says_why():
    full = {i: float(i) for i in range(10)}
    flat = gate(LADDER[0], dict.fromkeys(full, 10.0), full)
    assert (flat.may_prune, flat.tau) == (False, None)
    assert "all cells have the same score" in flat.reason
    assert "at least one finite number" in gate(LADDER[0], dict.fromkeys(full), full).reason


def test_force_prunes_and_says_so():
    full = {i: float(i) for i in range(10)}
    against = {i: -v for i, v in full.items()}
    assert not gate(LADDER[0], against, full).may_prune
    forced = gate(LADDER[0], against, full, force=True)
    assert forced.may_prune
    assert forced.reason.endswith("(--prune force)")
    agreed = gate(LADDER[0], full, full, force=True)
    assert agreed == gate(LADDER[0], full, full)  # nothing was overridden


def test_promote_keeps_the_best_share_and_its_ties():
    scores = {"a": 1.0, "b": 3.0, "c": 2.0, "d": 2.0, "e": None, "f": 0.0}
    assert promote(scores, 1 / 3) == ("b", "c", "d")
    assert promote(scores, 1 / 3, higher_is_better=False) == ("a", "f")
    assert promote({"a": 1.0, "b": 2.0}, 0.01) == ("b",)
    assert promote({"a": None}, 0.5) == ()
    with pytest.raises(ValueError, match="share to keep"):
        promote(scores, 0)


def test_pilot_cells_span_the_plan():
    chosen = pilot_cells(VARIANTS, 10)
    assert len(set(chosen)) == 10
    assert (chosen[0], chosen[-1]) == (VARIANTS[0], VARIANTS[-1])
    assert pilot_cells(VARIANTS[:3], 10) == VARIANTS[:3]
    with pytest.raises(ValueError, match="at least two cells, got 1"):
        pilot_cells(VARIANTS, 1)


def test_with_faithful_short_trainings_the_best_cell_is_a_finalist_at_lower_cost():
    trainer = Trainer(faithful)
    outcome = trainer.drive()
    assert all(g.may_prune for g in outcome.gates)
    assert VARIANTS[-1] in outcome.finalists
    assert outcome.grid == 30
    assert outcome.spent == pytest.approx(10 * 1.45 + 20 * 0.1 + 0.35 * 6 + 1 * 2, abs=1.5)
    assert outcome.spent < 0.75 * outcome.grid
    assert set(outcome.pruned.values()) == {LADDER[0].name, LADDER[1].name}
    assert outcome.notes[-1] == f"cost {outcome.spent:.3g} full trainings; the grid: 30"


def test_the_cost_is_between_the_predicted_least_and_most():
    least, most = cost_range(30, LADDER)
    assert least == pytest.approx(10 * 1.45 + 20 * 0.1)  # the pilot's cells are promoted
    assert most == pytest.approx(30 + 10 * 0.45)
    assert least <= Trainer(faithful).drive().spent < most
    assert Trainer(misleading).drive().spent == pytest.approx(most)
    assert cost_range(30, LADDER, 3) == pytest.approx((least + 2 * 3, most + 60))
    assert cost_range(10, LADDER)[0] > 10  # all cells are in the pilot: nothing can be saved


def test_the_plan_text_says_what_will_be_trained():
    plan = Halve("epochs", force=False)
    text = plan_text(replace(golden.grid_study(1), recipe=CIFAR, plan=plan))
    assert text == "Halving takes 15.7 to 26.5 full trainings, the grid 22."
    small = replace(toy.study(cells=3), recipe=CIFAR, plan=plan)
    assert "it cannot save anything here" in plan_text(small)
    assert plan_text(toy.study()) == ""
    assert "up to 5 each" in plan_text(replace(small, plan=MoreSeeds(5)))


def test_with_misleading_short_trainings_nothing_is_pruned():
    outcome = Trainer(misleading).drive()
    assert not any(g.may_prune for g in outcome.gates)
    assert (outcome.finalists, outcome.pruned) == (VARIANTS, {})
    assert outcome.spent == pytest.approx(30 + 10 * 0.45)  # the grid and the pilot's cheap rungs


def test_forced_pruning_loses_the_best_and_the_notes_say_so():
    outcome = Trainer(misleading).drive(force=True, pilot=4)
    assert VARIANTS[-2] not in outcome.finalists
    assert sum("--prune force" in note for note in outcome.notes) == 2


def test_a_cell_that_fails_at_a_cheap_rung_is_pruned():
    def accuracy(trial, share):
        return None if trial.variant == VARIANTS[-2] else faithful(trial, share)

    outcome = Trainer(accuracy).drive()
    assert outcome.pruned[VARIANTS[-2]] == LADDER[0].name


def test_full_trainings_use_all_seeds_and_cheap_ones_the_first():
    trainer = Trainer(faithful)
    outcome = trainer.drive(seeds=(3, 4))
    assert outcome.grid == 60
    alive = [v for v in outcome.finalists if v not in outcome.pruned]
    pilot = set(pilot_cells(VARIANTS, 10))
    assert set(alive) < set(outcome.finalists)
    assert pilot < set(outcome.finalists)
    full = {(t.variant, t.seed) for t in trainer.trials if t.recipe == CIFAR}
    assert full == {(v, 3) for v in outcome.finalists} | {(v, 4) for v in alive}
    assert {t.seed for t in trainer.trials if t.recipe != CIFAR} == {3}


def test_an_interrupted_halving_resumes_to_the_same_outcome():
    rng = np.random.default_rng(1)
    noise = {}

    def accuracy(trial, share):
        return faithful(trial, share) + noise.setdefault(trial.id, rng.normal(0, 0.5))

    uninterrupted = Trainer(accuracy)
    expected = uninterrupted.drive()
    interrupted = Trainer(accuracy)
    for stop in (0, 3, 17, 31, 45, None):
        interrupted.stop_after = stop
        outcome = interrupted.drive()
        assert (outcome is None) == (stop is not None)
    assert outcome == expected
    assert interrupted.records == uninterrupted.records
    read = drive(halving(VARIANTS, LADDER, DATA), interrupted.records.get)
    assert read == expected


def test_halving_needs_a_measured_metric():
    with pytest.raises(ValueError, match="params is not measured"):
        next(halving(VARIANTS, [Rung(QUICK, 1.0)], DATA, measure="params"))


def test_the_outcome_of_a_halving_can_be_read_under_other_numerics(tmp_path, monkeypatch):
    plan = Halve("epochs", force=True, rungs=2)
    study = replace(toy.study(cells=4), plan=plan)
    folder = StudyFolder(tmp_path / "toy").create(study, toy.DATA)

    def run(trials):
        for trial in trials:
            trial_folder = folder.trial(trial.id)
            trial_folder.write_spec(trial)
            metrics = {"val_accuracy": float(trial.variant.l1)}
            trial_folder.write_record(Record(trial.id, "complete", metrics))

    def record_of(trial_id):
        return folder.trial(trial_id).record()

    outcome = drive(halving_of(study, toy.DATA), record_of, run)
    assert outcome.notes
    assert load(folder.path).notes == outcome.notes
    monkeypatch.setattr("archsearch.study.NUMERICS", 2)
    assert load(folder.path).notes == outcome.notes
