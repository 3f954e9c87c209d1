"""Search under a budget: only legal variants, none twice, the same proposals after a stop."""

import math
import re

import pytest

from archsearch import optuna_export
from archsearch.core.budget import Budget
from archsearch.core.recipes import QUICK
from archsearch.core.task import Data
from archsearch.families.internimage import ORIGIN, Variant
from archsearch.families.internimage_cost import count
from archsearch.families.internimage_space import MAIN, SEARCH_SPACE, twelve_numbers
from archsearch.optuna_export import export_optuna, importances
from archsearch.results import load
from archsearch.searching.adaptive_plan import drive
from archsearch.searching.optuna_study import memory_study
from archsearch.searching.search import search
from archsearch.space.grid import plan
from archsearch.space.search_space import domain_of
from archsearch.stats.intervals import pareto
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record, Study
from archsearch.tasks.classification import CLASSIFICATION

DATA = Data("digits", "f" * 16, 10, 1, 10, 10, 10)
BUDGET = Budget.parse("30M")
FOUR, TWELVE = domain_of(SEARCH_SPACE, BUDGET), twelve_numbers(BUDGET)


def accuracy(variant):
    """Best at C1 = 64, C' = 16, L1 = 4: the paper's origin."""
    p = variant.params()
    c1, group = p.get("c1"), p.get("group_channels", p.get("group_channels_1"))
    return 90 - abs(c1 - 64) * 0.1 - abs(p.get("l1") - 4) * 0.5 - abs(group - 16) * 0.05


class Trainer:
    def __init__(self):
        self.records, self.order = {}, []

    def run(self, trials, stop_after=math.inf):
        for trial in trials:
            if len(self.records) >= stop_after:
                return
            assert trial.id not in self.records, "trained twice"
            assert BUDGET.refusal(count(trial.variant.config())) is None
            self.order.append(trial.variant)
            lost = trial.variant.num_blocks % 7 == 0
            self.records[trial.id] = (
                Record(trial.id, "diverged")
                if lost
                else Record(trial.id, "complete", {"val_accuracy": accuracy(trial.variant)})
            )

    def drive(self, domain, **options):
        stop = options.pop("stop_after", math.inf)
        steps = search(domain, QUICK, DATA, **options)
        return drive(steps, self.records.get, lambda trials: self.run(trials, stop))


def test_the_four_numbers_cover_exactly_the_legal_variants_within_the_budget():
    variants = set(FOUR.variants())
    assert len(variants) > 300
    by_enumeration = {
        ORIGIN.with_numbers(c1, group, l1, l3)
        for c1 in (32, 48, 64)
        for group in (16, 32)
        for l1 in (1, 4, 8)
        for l3 in range(l1, 200)
        if not ORIGIN.unchecked(c1=c1, group_channels=group, l1=l1, l3=l3).problems()
        and BUDGET.refusal(count(ORIGIN.with_numbers(c1, group, l1, l3).config())) is None
    }
    assert by_enumeration == {v for v in variants if v.c1 in (32, 48, 64) and v.l1 in (1, 4, 8)}


@pytest.mark.parametrize("domain", [FOUR, TWELVE], ids=["four", "twelve"])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_only_legal_variants_are_proposed_and_none_twice(domain, sampler):
    trainer = Trainer()
    outcome = trainer.drive(domain, num_trials=30, sampler=sampler)
    assert len(set(trainer.order)) == len(outcome.trials) == 30
    assert not outcome.exhausted
    (best,) = outcome.front[:1]
    values = [r.metrics["val_accuracy"] for r in trainer.records.values() if r.status == "complete"]
    assert accuracy(best.variant) == max(values)


def test_tpe_learns_and_random_does_not():
    """Mean accuracy of the second half of 60 proposals, over three searches."""

    def later(sampler, seed):
        trainer = Trainer()
        trainer.drive(TWELVE, num_trials=60, sampler=sampler, seed=seed)
        return sum(map(accuracy, trainer.order[30:])) / 30

    tpe, random = (sum(later(s, seed) for seed in range(3)) / 3 for s in ("tpe", "random"))
    assert tpe > random + 0.5


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_an_interrupted_search_proposes_the_same(sampler):
    uninterrupted, interrupted = Trainer(), Trainer()
    expected = uninterrupted.drive(FOUR, num_trials=24, sampler=sampler)
    for stop in (0, 1, 9, 15, math.inf):
        outcome = interrupted.drive(FOUR, num_trials=24, sampler=sampler, stop_after=stop)
    assert interrupted.order == uninterrupted.order
    assert outcome == expected
    longer = uninterrupted.drive(FOUR, num_trials=28, sampler=sampler)
    assert longer.trials[:24] == expected.trials


def test_another_seed_gives_another_search():
    orders = []
    for seed in (0, 1):
        trainer = Trainer()
        trainer.drive(FOUR, num_trials=8, seed=seed)
        orders.append(trainer.order)
    assert orders[0] != orders[1]


def test_every_variant_of_a_small_space_is_tried_once():
    small = domain_of(MAIN.with_values(c1=(64,), l1=(4,)), BUDGET)
    trainer = Trainer()
    outcome = trainer.drive(small, num_trials=60)
    assert outcome.exhausted
    assert set(trainer.order) == set(small.variants())
    assert len(trainer.order) == len(set(trainer.order)) > 3


def test_a_search_that_finds_no_more_ends_with_what_it_has(monkeypatch):
    """As in a large domain, which cannot be listed."""
    monkeypatch.setattr("archsearch.searching.search.MAX_LISTED", 0)
    small = domain_of(MAIN.with_values(c1=(64,), l1=(4,)), BUDGET)
    outcome = Trainer().drive(small, num_trials=60)
    assert outcome.exhausted
    assert len(outcome.trials) > 3


def test_several_objectives_give_a_front():
    trainer = Trainer()
    outcome = trainer.drive(FOUR, num_trials=16, objectives=("val_accuracy", "macs"))
    points = {
        t.id: (accuracy(t.variant), count(t.variant.config()).macs)
        for t in outcome.trials
        if trainer.records[t.id].status == "complete"
    }
    assert tuple(t.id for t in outcome.front) == pareto(points, [True, False])
    assert len(outcome.front) > 1


def test_wrong_searches_are_refused():
    records = {}
    with pytest.raises(ValueError, match=r"no variant .* meets 1K params"):
        drive(search(domain_of(SEARCH_SPACE, Budget.parse("1K")), QUICK, DATA), records.get)
    with pytest.raises(ValueError, match="that meets 1K params"):
        drive(search(twelve_numbers(Budget.parse("1K")), QUICK, DATA), records.get)
    wrong = search(FOUR, QUICK, DATA, sampler="grid", objectives=("speed",), batch=0)
    with pytest.raises(ValueError, match=r"sampler must.*'grid'; trials and batch.*'speed'"):
        next(wrong)


@pytest.fixture
def run_dir(tmp_path):
    """Write a grid of one seed: most cells complete, one diverged, one failed, two pending."""
    cells = plan(MAIN, BUDGET)
    study = Study("g", "?", "here", cells, QUICK)
    folder = StudyFolder(tmp_path / "odd name é").create(study, DATA)
    trials = study.trials(DATA)
    for i, trial in enumerate(trials[:-2]):
        curve = tuple({"epoch": e, "val_accuracy": 50.0 + e} for e in (1, 2))
        value = accuracy(trial.variant) + 0.01 * (i % 3)
        record = Record(trial.id, "complete", {"val_accuracy": value}, curve)
        if i < 2:
            record = Record(trial.id, ("diverged", "failed")[i], kind="x", error="<b>")
        folder.trial(trial.id).write_spec(trial)
        folder.trial(trial.id).write_record(record)
    return folder.path


def test_all_trials_of_a_run_are_exported(run_dir, tmp_path):
    import optuna

    url = f"sqlite:///{tmp_path}/x.db"
    written = export_optuna(run_dir, url)
    storage = optuna.storages.RDBStorage(url)
    study = optuna.load_study(study_name=run_dir.name, storage=storage)
    states = [t.state.name for t in study.trials]
    assert written == len(states) == len(load(run_dir).trials)
    assert [states.count(s) for s in ("FAIL", "WAITING")] == [2, 2]
    best = study.best_trial
    assert best.intermediate_values == {1: 51.0, 2: 52.0}
    assert set(best.params) == {"c1", "group_channels", "l1", "l3"}
    assert best.value == max(t.value for t in study.trials if t.value is not None)
    waiting = next(t for t in study.trials if t.state.name == "WAITING")
    assert set(waiting.system_attrs["fixed_params"]) == set(best.params)
    storage.engine.dispose()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("foo", "Could not parse"),
        ("sqlite:////nowhere/x.db", "unable to open database file"),
        ("banana://x", "banana"),
        ("mysql+absent://x", "absent"),
    ],
)
def test_a_database_that_cannot_be_written_is_an_error(run_dir, url, reason):
    with pytest.raises(ValueError, match=rf"database '{re.escape(url)}' \(.*{reason}.*sqlite:///"):
        export_optuna(run_dir, url)


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///", "sqlite+pysqlite:///", "sqlite:///:memory:",
     "sqlite:///file::memory:?uri=true", "sqlite:///file:x?mode=memory&uri=true"],
)  # fmt: skip
def test_a_database_in_memory_is_refused(run_dir, url):
    with pytest.raises(
        ValueError, match=rf"must be a file, got '{re.escape(url)}'.*sqlite:///runs.db"
    ):
        export_optuna(run_dir, url)


def test_a_database_without_its_driver_is_an_error(run_dir, monkeypatch):
    def absent(*_, **__):
        raise ImportError("Failed to import DB access module")

    monkeypatch.setattr(optuna_export, "_closing", absent)
    with pytest.raises(ValueError, match=r"'mysql://x' \(Failed to import DB access module\)"):
        export_optuna(run_dir, "mysql://x")


def test_objectives_keep_their_direction_and_failed_trainings_have_no_value(run_dir):
    trials = [(t.trial, t.record) for t in load(run_dir).trials]
    study = memory_study(
        trials, [CLASSIFICATION.metric("val_accuracy"), CLASSIFICATION.metric("macs")]
    )
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    counted = memory_study(trials, [CLASSIFICATION.metric("macs")])
    assert [t.state.name for t in counted.trials[:3]] == ["FAIL", "FAIL", "COMPLETE"]


def test_importances_find_the_number_that_matters(run_dir):
    shares = importances(load(run_dir))
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.get) == "c1"
    assert shares == importances(load(run_dir))
    assert importances(load(run_dir), "test_accuracy") == {}  # never measured


def test_params_name_all_twelve_numbers():
    variant = next(TWELVE.variants())
    params = variant.params()
    assert [params[f"c{i}"] for i in range(1, 5)] == list(variant.channels)
    assert [params[f"c{i}"] // params[f"group_channels_{i}"] for i in range(1, 5)] == list(
        variant.groups
    )
    assert Variant(64, 16, 4, 18).params()["l3"] == 18
