"""Successive halving: the pilot decides what may prune, and every step follows from records."""

from dataclasses import replace

import numpy as np
import pytest

from archsearch.core.plans import Halve, MoreSeeds, plan_to_dict
from archsearch.core.recipes import CIFAR, QUICK
from archsearch.core.task import Data
from archsearch.families.internimage import ORIGIN
from archsearch.results import load
from archsearch.searching.adaptive_plan import drive
from archsearch.searching.gate import Pilot, pilot_by_cost, pilot_by_order
from archsearch.searching.halving import cost_range, halving, promote
from archsearch.searching.plans import halving_of, plan_text
from archsearch.searching.rungs import Rung, rungs
from archsearch.storage.request import plan_of
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record
from tests import golden, stored, toy

DATA = Data("digits", "f" * 16, 10, 1, 10, 10, 10)
VARIANTS = tuple(ORIGIN.with_numbers(64, 16, 1, l3) for l3 in range(1, 31))
LADDER = rungs(CIFAR)
CELLS = pilot_by_cost({v: v.cost().macs for v in VARIANTS})
TWO_SEEDS = Pilot(CELLS, (0, 1))
ONE_SEED = Pilot(pilot_by_order(VARIANTS), (0,))


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

    def drive(self, seeds=(0,), pilot=TWO_SEEDS, **options):
        steps = halving(VARIANTS, LADDER, DATA, seeds, pilot, **options)
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


def test_promote_keeps_the_best_share_and_its_ties():
    scores = {"a": 1.0, "b": 3.0, "c": 2.0, "d": 2.0, "e": None, "f": 0.0}
    assert promote(scores, 1 / 3) == ("b", "c", "d")
    assert promote(scores, 1 / 3, higher_is_better=False) == ("a", "f")
    assert promote({"a": 1.0, "b": 2.0}, 0.01) == ("b",)
    assert promote({"a": None}, 0.5) == ()
    with pytest.raises(ValueError, match="share to keep"):
        promote(scores, 0)


def test_with_faithful_short_trainings_the_best_cell_is_a_finalist_at_lower_cost():
    trainer = Trainer(faithful)
    outcome = trainer.drive(seeds=(0, 1))
    assert all(g.may_prune for g in outcome.gates)
    assert VARIANTS[-1] in outcome.finalists
    assert outcome.grid == 60
    # The second rung trains 7 of its 10 cells beyond the pilot; one of 3 finalists is in the pilot.
    assert outcome.spent == pytest.approx(20 * 1.45 + 20 * 0.1 + 0.35 * 7 + 2 * 2)
    assert set(outcome.pruned.values()) == {LADDER[0].name, LADDER[1].name}
    assert outcome.notes[-1] == f"cost {outcome.spent:.3g} full trainings; the grid: 60"


def test_the_pilot_is_trained_with_two_seeds_at_every_rung():
    trainer = Trainer(misleading)
    trainer.drive(seeds=(7,), pilot=Pilot(CELLS, (7, 8)))
    first = trainer.trials[: 3 * 10 * 2]
    expected = {(v, r.recipe.epochs, s) for v in CELLS for r in LADDER for s in (7, 8)}
    assert {(t.variant, t.recipe.epochs, t.seed) for t in first} == expected
    assert {t.seed for t in trainer.trials[60:]} == {7}


def test_a_perfect_rung_with_noise_prunes_where_one_seed_does_not():
    """Reliability 0.8; the noise of every training is its own."""

    def noisy(trial, _share):
        noise = np.random.default_rng(int(trial.id, 16)).normal()
        return 50 + 2 * trial.variant.l3 / np.std([v.l3 for v in VARIANTS]) + noise

    assert [g.may_prune for g in Trainer(noisy).drive().gates] == [True, True]
    assert [g.may_prune for g in Trainer(noisy).drive(pilot=ONE_SEED).gates] == [False, False]


@pytest.mark.parametrize(("num_seeds", "num_pilot_seeds"), [(1, 1), (1, 2), (2, 2), (3, 2)])
def test_the_cost_is_between_the_predicted_least_and_most(num_seeds, num_pilot_seeds):
    seeds = tuple(range(num_seeds))
    pilot = Pilot(CELLS, tuple(range(num_pilot_seeds)))
    least, most = cost_range(30, LADDER, num_seeds, num_pilot_seeds)
    assert Trainer(misleading).drive(seeds, pilot).spent == pytest.approx(most)
    assert least <= Trainer(faithful).drive(seeds, pilot).spent < most

    def best_in_pilot(trial, _share):
        return trial.variant.l3 + 100 * (trial.variant in CELLS)

    assert Trainer(best_in_pilot).drive(seeds, pilot, force=True).spent == pytest.approx(least)


def test_the_predicted_cost_by_hand():
    pilot = 10 * 2 * 1.45  # ten cells, two seeds, both cheap rungs and in full
    assert cost_range(30, LADDER, 1, 2) == pytest.approx((pilot + 2, pilot + 20))
    assert cost_range(30, LADDER, 3, 2) == pytest.approx((pilot + 2 + 3, pilot + 60 + 10))


def test_the_plan_text_says_what_will_be_trained():
    plan = Halve("epochs", force=False)
    text = plan_text(replace(golden.grid_study(3), recipe=CIFAR, plan=plan))
    assert text == (
        "Halving takes 32.2 to 75 full trainings, the grid 66. Its pilot trains 10 networks with "
        "2 seed(s), short and in full."
    )
    earlier = replace(plan, pilot_seeds=1)
    text = plan_text(replace(golden.grid_study(1), recipe=CIFAR, plan=earlier))
    assert text.startswith("Halving takes 15.7 to 26.5 full trainings, the grid 22.")
    small = replace(toy.study(cells=3), recipe=CIFAR, plan=plan)
    assert "it cannot save anything here" in plan_text(small)
    assert plan_text(toy.study()) == ""
    assert "up to 5 each" in plan_text(replace(small, plan=MoreSeeds(5)))


def test_with_misleading_short_trainings_nothing_is_pruned():
    outcome = Trainer(misleading).drive()
    assert not any(g.may_prune for g in outcome.gates)
    assert (outcome.finalists, outcome.pruned) == (VARIANTS, {})
    assert outcome.spent == pytest.approx(20 + 20 * 1.45)  # the pilot, and the others in full


def test_forced_pruning_loses_the_best_and_the_notes_say_so():
    outcome = Trainer(misleading).drive(force=True)
    assert VARIANTS[-1] not in outcome.finalists
    assert sum("--prune force" in note for note in outcome.notes) == 2


def test_a_cell_that_fails_at_a_cheap_rung_is_pruned():
    def accuracy(trial, share):
        return None if trial.variant == VARIANTS[-2] else faithful(trial, share)

    outcome = Trainer(accuracy).drive()
    assert outcome.pruned[VARIANTS[-2]] == LADDER[0].name


def test_full_trainings_use_all_seeds_and_cheap_ones_beyond_the_pilot_the_first():
    trainer = Trainer(faithful)
    outcome = trainer.drive(seeds=(3, 4, 5), pilot=Pilot(CELLS, (3, 4)))
    assert outcome.grid == 90
    alive = [v for v in outcome.finalists if v not in outcome.pruned]
    assert set(alive) < set(outcome.finalists)
    assert set(CELLS) < set(outcome.finalists)
    full = {(t.variant, t.seed) for t in trainer.trials if t.recipe == CIFAR}
    assert full == {(v, s) for v in CELLS for s in (3, 4)} | {
        (v, s) for v in alive for s in (3, 4, 5)
    }
    others = {t.seed for t in trainer.trials if t.recipe != CIFAR and t.variant not in CELLS}
    assert others == {3}


def test_an_interrupted_halving_resumes_to_the_same_outcome():
    rng = np.random.default_rng(1)
    noise = {}

    def accuracy(trial, share):
        return faithful(trial, share) + noise.setdefault(trial.id, rng.normal(0, 0.5))

    uninterrupted = Trainer(accuracy)
    expected = uninterrupted.drive()
    interrupted = Trainer(accuracy)
    for stop in (0, 3, 17, 61, 75, None):
        interrupted.stop_after = stop
        outcome = interrupted.drive()
        assert (outcome is None) == (stop is not None)
    assert outcome == expected
    assert interrupted.records == uninterrupted.records
    read = drive(halving(VARIANTS, LADDER, DATA, (0,), TWO_SEEDS), interrupted.records.get)
    assert read == expected


def test_halving_needs_a_measured_metric():
    with pytest.raises(ValueError, match="params is not measured"):
        next(halving(VARIANTS, [Rung(QUICK, 1.0)], DATA, (0,), TWO_SEEDS, measure="params"))


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


def test_a_run_of_an_earlier_plan_keeps_its_pilot_and_resumes_by_the_same_command(tmp_path):
    plan = Halve("epochs", force=False, rungs=2)
    new = replace(toy.study(cells=4), plan=plan)
    without_field = plan_to_dict(plan)
    del without_field["pilot_seeds"]
    earlier = replace(new, plan=plan_of(without_field))
    assert earlier.plan == replace(plan, pilot_seeds=1)

    folder = StudyFolder(tmp_path / "run").create(earlier, toy.DATA)
    stored.edit(folder.path / "study.json", lambda values: values["plan"].pop("pilot_seeds"))
    assert folder.create(new, toy.DATA).study().plan == earlier.plan
    trials = next(halving_of(folder.study(), toy.DATA))
    assert {trial.seed for trial in trials} == {0}
    assert {trial.seed for trial in next(halving_of(new, toy.DATA))} == {0, 1}

    other = StudyFolder(tmp_path / "other").create(new, toy.DATA)
    assert other.create(new, toy.DATA).study().plan == plan
    with pytest.raises(ValueError, match="pilot_seeds: the folder has 2, requested 1"):
        other.create(earlier, toy.DATA)


@pytest.mark.parametrize("num_pilot_seeds", [1, 2])
def test_the_pilot_is_stratified_by_cost_and_by_the_plans_order_in_earlier_plans(num_pilot_seeds):
    study = golden.grid_study(1, plan=Halve("epochs", force=False, pilot_seeds=num_pilot_seeds))
    macs = {c.variant: c.cost.macs for c in study.cells if c.variant is not None}
    by_cost, by_order = pilot_by_cost(macs), pilot_by_order(tuple(macs))
    assert set(by_cost) != set(by_order)
    pilot = {trial.variant for trial in next(halving_of(study, DATA))}
    assert pilot == set(by_order if num_pilot_seeds == 1 else by_cost)
