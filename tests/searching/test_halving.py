"""Successive halving: the pilot decides, the gate is honest, every step follows from records."""

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
from archsearch.searching.plans import announcement, halving_of
from archsearch.stats.intervals import Interval, kendall_tau
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record
from tests import golden, toy

DATA = Data("digits", "f" * 16, 10, 1, 10, 10, 10)
VARIANTS = tuple(ORIGIN.with_numbers(64, 16, 1, l3) for l3 in range(1, 31))
LADDER = rungs(CIFAR)


class Trainer:
    """Gives each trial a record; ``accuracy(trial, share of a full training)`` is the truth."""

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
    """Short trainings rank as long ones: deeper is better."""
    return 50 + trial.variant.l3 + 10 * share


def misleading(trial, share):
    """Short trainings rank the other way around."""
    return 50 + trial.variant.l3 * (1 if share == 1 else -1)


def test_rungs_are_whole_trainings_of_growing_cost():
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
    with pytest.raises(ValueError, match="two rungs or more"):
        rungs(CIFAR, 1)


def test_the_gate_opens_at_the_lower_end_of_taus_interval():
    assert may_prune(Interval(0.9, 0.5, 1.0, 10, ""), 0.5)
    assert not may_prune(Interval(0.9, 0.49, 1.0, 10, ""), 0.5)
    assert not may_prune(Interval(1.0, None, None, 1, ""), 0.5)
    full = {i: float(i) for i in range(10)}
    swapped = {**full, 0: 1.5, 8: 9.5}
    opened = gate(LADDER[0], swapped, full)
    assert opened.tau == kendall_tau(list(swapped.values()), list(full.values()), 0.9)
    assert opened.may_prune
    assert f"95% sure above {opened.tau.low:.2f}, wanted 0.5" in opened.reason
    few = gate(LADDER[0], {i: full[i] for i in range(4)}, full)
    assert not few.may_prune  # a perfect order of four cells proves too little
    assert few.tau.n == 4


def test_without_a_tau_no_rung_prunes_and_the_reason_is_told():
    full = {i: float(i) for i in range(10)}
    flat = gate(LADDER[0], dict.fromkeys(full, 10.0), full)
    assert (flat.may_prune, flat.tau) == (False, None)
    assert "all cells score the same" in flat.reason
    assert "at least one finite number" in gate(LADDER[0], dict.fromkeys(full), full).reason


def test_force_prunes_and_says_so():
    full = {i: float(i) for i in range(10)}
    against = {i: -v for i, v in full.items()}
    assert not gate(LADDER[0], against, full).may_prune
    forced = gate(LADDER[0], against, full, force=True)
    assert forced.may_prune
    assert forced.forced
    assert forced.reason.endswith("(--prune force)")
    assert not gate(LADDER[0], full, full, force=True).forced  # nothing was overridden


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
    with pytest.raises(ValueError, match="two cells at least, got 1"):
        pilot_cells(VARIANTS, 1)


def test_where_short_trainings_tell_the_best_cell_is_found_for_less():
    trainer = Trainer(faithful)
    found = trainer.drive()
    assert all(g.may_prune for g in found.gates)
    assert VARIANTS[-1] in found.finalists
    assert found.grid == 30
    assert found.spent == pytest.approx(10 * 1.45 + 20 * 0.1 + 0.35 * 6 + 1 * 2, abs=1.5)
    assert found.spent < 0.75 * found.grid
    assert set(found.pruned.values()) == {LADDER[0].name, LADDER[1].name}
    assert found.notes[-1] == f"cost {found.spent:.3g} full trainings; the grid: 30"


def test_the_cost_is_known_beforehand_between_its_ends():
    least, most = cost_range(30, LADDER)
    assert least == pytest.approx(10 * 1.45 + 20 * 0.1)  # the pilot's are the ones passed on
    assert most == pytest.approx(30 + 10 * 0.45)
    assert least <= Trainer(faithful).drive().spent < most
    assert Trainer(misleading).drive().spent == pytest.approx(most)
    assert cost_range(30, LADDER, 3) == pytest.approx((least + 2 * 3, most + 60))
    assert cost_range(10, LADDER)[0] > 10  # all are the pilot: nothing can be saved


def test_a_study_announces_what_its_plan_will_train():
    plan = Halve("epochs", force=False)
    told = announcement(replace(golden.grid_study(1), recipe=CIFAR, plan=plan))
    assert told == "Halving takes 15.7 to 26.5 full trainings, the grid 22."
    small = replace(toy.study(cells=3), recipe=CIFAR, plan=plan)
    assert "it can save nothing here" in announcement(small)
    assert announcement(toy.study()) == ""
    assert "up to 5 each" in announcement(replace(small, plan=MoreSeeds(5)))


def test_where_they_mislead_nothing_is_pruned():
    found = Trainer(misleading).drive()
    assert not any(g.may_prune for g in found.gates)
    assert (found.finalists, found.pruned) == (VARIANTS, {})
    assert found.spent == pytest.approx(30 + 10 * 0.45)  # the pilot is what doubting costs


def test_forced_pruning_loses_the_best_and_the_notes_own_up():
    found = Trainer(misleading).drive(force=True, pilot=4)
    assert VARIANTS[-2] not in found.finalists
    assert sum("--prune force" in note for note in found.notes) == 2


def test_a_cell_that_fails_cheaply_is_dropped_not_trained_again():
    def accuracy(trial, share):
        return None if trial.variant == VARIANTS[-2] else faithful(trial, share)

    found = Trainer(accuracy).drive()
    assert found.pruned[VARIANTS[-2]] == LADDER[0].name


def test_full_trainings_use_all_seeds_and_cheap_ones_the_first():
    trainer = Trainer(faithful)
    found = trainer.drive(seeds=(3, 4))
    assert found.grid == 60
    alive = [v for v in found.finalists if v not in found.pruned]
    pilot = set(pilot_cells(VARIANTS, 10))
    assert set(alive) < set(found.finalists)
    assert pilot < set(found.finalists)
    full = {(t.variant, t.seed) for t in trainer.trials if t.recipe == CIFAR}
    assert full == {(v, 3) for v in found.finalists} | {(v, 4) for v in alive}
    assert {t.seed for t in trainer.trials if t.recipe != CIFAR} == {3}


def test_an_interrupted_halving_goes_on_to_the_same_end():
    rng = np.random.default_rng(1)
    noise = {}

    def accuracy(trial, share):
        return faithful(trial, share) + noise.setdefault(trial.id, rng.normal(0, 0.5))

    whole = Trainer(accuracy)
    expected = whole.drive()
    part = Trainer(accuracy)
    for stop in (0, 3, 17, 31, 45, None):
        part.stop_after = stop
        found = part.drive()
        assert (found is None) == (stop is not None)
    assert found == expected
    assert part.records == whole.records
    assert drive(halving(VARIANTS, LADDER, DATA), part.records.get) == expected  # read again


def test_halving_ranks_by_what_a_training_measures():
    with pytest.raises(ValueError, match="params is not"):
        next(halving(VARIANTS, [Rung(QUICK, 1.0)], DATA, measure="params"))


def test_what_a_halving_found_is_read_under_other_numerics_too(tmp_path, monkeypatch):
    plan = Halve("epochs", force=True, rungs=2)
    study = replace(toy.study(cells=4), plan=plan)
    folder = StudyFolder(tmp_path / "toy").create(study, toy.DATA)

    def run(trials):
        for trial in trials:
            place = folder.trial(trial.id)
            place.write_spec(trial)
            metrics = {"val_accuracy": float(trial.variant.l1)}
            place.write_record(Record(trial.id, "complete", metrics))

    def record_of(trial_id):
        return folder.trial(trial_id).record()

    found = drive(halving_of(study, toy.DATA), record_of, run)
    assert found.notes
    assert load(folder.path).notes == found.notes
    for module in ("archsearch.study", "archsearch.storage.request"):
        monkeypatch.setattr(f"{module}.NUMERICS", 2)
    assert load(folder.path).notes == found.notes
