"""The benchmark of halving: replayed choices, their cost, and how they are judged."""

from functools import partial
from itertools import combinations
from statistics import fmean

import pytest

import archsearch.running.run as run_module
from archsearch.benchmarks import halving
from archsearch.benchmarks.halving import agreement, compare, corrected, read
from archsearch.benchmarks.halving_replay import Replay, best, judged
from archsearch.core.recipes import CIFAR
from archsearch.core.task import Data
from archsearch.families.internimage import ORIGIN
from archsearch.searching.rungs import rungs
from archsearch.study import Record, Trial
from archsearch.tasks.classification import CLASSIFICATION
from tests import toy

DATA = Data("digits", "f" * 16, 10, 1, 10, 10, 10)
NETWORKS = tuple(ORIGIN.with_numbers(64, 16, 1, l3) for l3 in range(1, 31))
LADDER = rungs(CIFAR)


def replay_of(accuracy, seeds=(0, 1, 2)):
    """Return a replay of all trainings; ``accuracy(l3, seed, share of a full training)``."""
    records = {}
    for rung in LADDER:
        for network in NETWORKS:
            for seed in seeds:
                trial = Trial(network, rung.recipe, DATA, seed)
                value = accuracy(network.l3, seed, rung.share)
                metrics = {"val_accuracy": value}
                records[trial.id] = Record(trial.id, "complete", metrics, seconds=rung.share)
    return Replay(LADDER, NETWORKS, seeds, DATA, records, CLASSIFICATION.metric("val_accuracy"))


def faithful(l3, _seed, share):
    return 50 + l3 + 10 * share


def misleading(l3, _seed, share):
    return 50 + (l3 if share == 1 else -l3)


def test_a_faithful_ranking_saves_and_loses_nothing():
    choice = replay_of(faithful).halve((0,))
    # 10 pilot cells with two seeds at every rung, 20 more cells at the first, then 10 - 3 and
    # 3 - 1 beyond the pilot.
    spent = 20 * (0.1 + 0.35 + 1) + 20 * 0.1 + 7 * 0.35 + 2
    assert choice.epochs == pytest.approx(spent / 30)
    assert choice.seconds == pytest.approx(choice.epochs)
    assert choice.loss == 0
    assert choice.chosen == NETWORKS[-1].name


def test_a_misleading_ranking_costs_the_pilot_and_forcing_it_costs_accuracy():
    replay = replay_of(misleading)
    gated, forced = replay.halve((0,)), replay.halve((0,), force=True)
    assert gated.epochs == pytest.approx((20 + 20 * (0.1 + 0.35 + 1)) / 30)
    assert gated.loss == 0
    assert all("may not prune" in reason for reason in gated.gates)
    assert forced.epochs < gated.epochs
    assert replay.halve((0, 1, 2), force=True).loss == 30 - 3  # the pilot has two seeds


def test_a_choice_by_one_seed_is_judged_by_the_others():
    scores = {"a": {0: 9.0, 1: 1.0, 2: 3.0}, "b": {0: 5.0, 1: 5.0, 2: 5.0}}
    assert best(scores, (0,), ["a", "b"]) == "a"
    assert judged(scores, (0,), "a") == 2.0
    assert judged(scores, (0, 1, 2), "a") == pytest.approx(13 / 3)


def test_the_random_part_is_the_mean_over_all_draws():
    def accuracy(l3, seed, _share):
        return float((l3 * 7 + seed * 5) % 31)

    replay = replay_of(accuracy)
    scores = replay.scores(LADDER[-1])
    choice = replay.at_random((0,), epochs=3 / 30)
    draws = [judged(scores, (0,), best(scores, (0,), d)) for d in combinations(NETWORKS, 3)]
    grid = judged(scores, (0,), best(scores, (0,), NETWORKS))
    assert choice.loss == pytest.approx(grid - fmean(draws))
    assert choice.epochs == 0.1
    assert replay.at_random((0,), epochs=1.2).loss == 0


def test_every_method_has_a_repeat_per_seed_and_every_rung_a_tau():
    replay = replay_of(faithful)
    methods = compare(replay)
    assert {len(choices) for choices in methods.values()} == {3}
    assert len(methods) == 6
    assert [row["mean"] for row in agreement(replay)] == [1.0] * 6
    assert [row["tau"] for row in corrected(replay)] == [1.0] * 2
    opposite = replay_of(misleading)
    assert [row["mean"] for row in agreement(opposite)] == [-1.0] * 6
    assert [row["tau"] for row in corrected(opposite)] == [-1.0] * 2


def test_trainings_of_the_run_are_used_and_only_missing_ones_are_trained(tmp_path, monkeypatch):
    by_toy = partial(run_module.run_study, work="tests.toy:train", runner="inline")
    folder = toy.create(tmp_path / "run", cells=3, seeds=(0,))
    by_toy(folder, folder.trials())
    monkeypatch.setattr(run_module, "run_study", by_toy)
    replay = read(tmp_path / "run", tmp_path / "out", range(2), "epochs", None, "cpu")
    trained = {path.parent.name for path in (tmp_path / "out").rglob("record.json")}
    assert trained == set(replay.records) - {trial.id for trial in folder.trials()}
    assert len(trained) == 2 * 3 * 1 + 3  # one cheap rung of two seeds, and the second seed in full
    with pytest.raises(ValueError, match="at least two seeds and a grid of three networks"):
        read(tmp_path / "run", tmp_path / "out", range(1), "epochs", None, "cpu")


def test_a_training_without_a_value_is_named(tmp_path, monkeypatch):
    by_toy = partial(run_module.run_study, work="tests.toy:diverge", runner="inline")
    folder = toy.create(tmp_path / "run", cells=3)
    monkeypatch.setattr(run_module, "run_study", by_toy)
    with pytest.raises(ValueError, match="no value to compare: 16-16-1-4 seed 0"):
        read(folder.path, tmp_path / "out", range(2), "epochs", None, "cpu")


def test_a_row_has_mean_and_interval():
    choices = [halving.Choice(e, e, 0.0, "x") for e in (0.4, 0.5, 0.6)]
    row = halving.row("gated", choices)
    assert row["epochs"].startswith("50% ± 25%")
    assert row["chosen"] == "x"
