"""The effect of one number: matched pairs, seeds as repeats, exact cells only."""

from dataclasses import replace

import numpy as np
import pytest

from archsearch.families.internimage import Variant
from archsearch.reports.context import Context
from archsearch.reports.effects import EFFECTS, effects, effects_table
from archsearch.results import Results, assemble
from archsearch.stats.intervals import mean_of_means
from tests.golden import DATA, complete, golden_results, grid_study

EFFECT = 2
"""The column of the verdict by the additive model."""


def results_of(accuracy, seeds=3, **changes) -> Results:
    """Return results of the main grid with the accuracy ``accuracy(variant, seed)``."""
    study = grid_study(seeds, **changes)
    trials = [t for t in study.trials(DATA) if isinstance(t.variant, Variant)]
    ended = tuple(complete(t, accuracy(t.variant, t.seed)) for t in trials)
    return assemble("grid", study, DATA, {}, ended)


def effects_of(results: Results):
    return effects(Context.of(results))


def test_the_effect_of_a_step_is_the_true_one_and_seed_effects_cancel():
    steps = effects_of(results_of(lambda v, s: 90 + v.c1 / 16 - abs(v.l1 - 4) + 5 * s))
    by = {(e.coordinate, e.low, e.high): e for e in steps}
    assert by["c1", 48, 64].change.mean == pytest.approx(1)
    assert by["c1", 48, 64].pairs == 5  # C' = 32 has no exact cell of 48
    assert by["c1", 64, 80].pairs == 4  # (80, 16, 5) is infeasible
    assert by["l1", 3, 4].change.mean == pytest.approx(1)
    assert by["l1", 4, 5].change.mean == pytest.approx(-1)
    assert by["group_channels", 16, 32].change.mean == pytest.approx(0)
    assert by["group_channels", 16, 32].pairs == 5  # of 64: the others are repaired


def test_the_interval_is_over_pairs_and_seeds():
    noise = np.random.default_rng(0).normal(size=(200, 3))
    steps = effects_of(results_of(lambda v, s: 50 + v.c1 / 16 + noise[v.c1 + v.l1, s]))
    step = next(e for e in steps if (e.coordinate, e.low) == ("c1", 64))
    pairs = [[1 + noise[80 + l1, s] - noise[64 + l1, s] for s in range(3)] for l1 in range(1, 5)]
    expected = mean_of_means([[round(x, 3) for x in pair] for pair in pairs])
    assert step.change.mean == pytest.approx(expected.mean, abs=1e-3)
    assert step.change.half_width == pytest.approx(expected.half_width, abs=5e-3)
    assert (step.pairs, step.change.n) == (4, 12)


def test_a_seed_that_one_cell_of_a_pair_lacks_does_not_count():
    complete_run = results_of(lambda v, s: 90 + v.c1 / 16 + s)
    trials = [
        t for t in complete_run.trials if not (t.trial.seed == 2 and t.trial.variant.c1 == 48)
    ]
    steps = effects_of(assemble("grid", complete_run.study, DATA, {}, tuple(trials)))
    by = {(e.coordinate, e.low): e for e in steps}
    assert (by["c1", 48].pairs, by["c1", 48].change.n) == (5, 10)
    assert (by["c1", 64].pairs, by["c1", 64].change.n) == (4, 12)


def test_one_seed_missing_axes_and_counts_give_no_table():
    no_axes = replace(golden_results(), study=replace(grid_study(), axes=None))
    for context in (
        Context.of(golden_results(1)), Context.of(no_axes), Context.of(golden_results(), "params"),
    ):  # fmt: skip
        assert effects(context) == []
        assert EFFECTS.skip_reason(context) == (
            "no two cells with two common seeds differ in one number only"
        )


def test_better_and_worse_follow_the_direction_of_the_metric():
    noise = np.random.default_rng(0).normal(0, 0.02, size=(200, 3))
    results = results_of(lambda v, s: 90 + v.c1 / 16 + noise[v.c1 + v.l1, s])
    for metric, sign in (("val_accuracy", "+"), ("val_error", "-")):
        content = effects_table(Context.of(results, metric))
        rows = {row[0]: row for row in content.body}
        assert rows["C₁ 48 → 64"][1].startswith(f"{sign}1.01 ± ")
        assert rows["C₁ 48 → 64"][EFFECT] == "better"
        assert rows["C′ 16 → 32"][EFFECT] == "not significant"
    falling = results_of(lambda v, s: 90 - v.c1 / 16 + noise[v.c1 + v.l1, s])
    falling = effects_table(Context.of(falling))
    assert [row[EFFECT] for row in falling.body if row[0] == "C₁ 48 → 64"] == ["worse"]


def test_the_table_says_how_many_cells_it_leaves_out():
    results = results_of(lambda v, s: 90 + v.c1 / 16 + 0.01 * s)
    repaired = sum(c.cell.fate == "repaired" for c in results.cells)
    assert repaired > 1
    note = effects_table(Context.of(results)).note
    assert note.endswith(f"Left out: {repaired} repaired cells.")
    exact = [c for c in results.study.cells if c.fate == "exact"]
    only_exact = results_of(lambda v, s: 90 + v.c1 / 16 + 0.01 * s, cells=tuple(exact))
    assert "Left out" not in effects_table(Context.of(only_exact)).note
