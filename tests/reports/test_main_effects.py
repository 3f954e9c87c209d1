"""The trend of each number over the whole grid: repaired cells, gaps and interactions included."""

from dataclasses import replace

import numpy as np
import pytest

from archsearch.reports.context import Context
from archsearch.reports.main_effects import (
    MAIN_EFFECTS,
    OF_COUNTS,
    additive_fit,
    main_effects_table,
)
from archsearch.results import assemble
from tests.golden import DATA, diverged, golden_results, grid_study
from tests.reports.test_effects import results_of

NOISE = np.random.default_rng(2).normal(0, 0.1, size=(8, 400))


def accuracy(variant, seed: int) -> float:
    """One point per 16 channels, half a point per block less, and no effect of C'."""
    noise = NOISE[seed, variant.c1 + variant.l1 + 100 * (variant.group_channels == 32)]
    return 90 + variant.c1 / 16 - variant.l1 / 2 + noise + seed


def rows_of(results, metric: str | None = None):
    return {row[0]: row for row in main_effects_table(Context.of(results, metric)).body}


def test_a_row_has_the_trend_of_a_number_and_its_verdict() -> None:
    rows = rows_of(results_of(accuracy))
    assert rows["C₁"][-1] == "48, 64, 80, 96"  # 96 is the repaired 80
    change = {name: float(row[1].split(" ± ")[0]) for name, row in rows.items()}
    assert change == pytest.approx({"C₁": 1.0, "L₁": -0.5, "C′": 0.0}, abs=0.05)
    assert [rows[name][2] for name in ("C₁", "L₁", "C′")] == ["better", "worse", "not significant"]
    errors = rows_of(results_of(accuracy), "val_error")
    assert (errors["C₁"][1][0], errors["C₁"][2]) == ("-", "better")


def test_a_repaired_cell_counts_with_the_numbers_of_its_network() -> None:
    fit = additive_fit(Context.of(results_of(accuracy)))
    step = next(s for s in fit.steps if (s.factor, s.low, s.high) == ("c1", 80, 96))
    assert step.estimate == pytest.approx(1, abs=0.3)
    networks = {c.label for c in results_of(accuracy).cells if c.cell.variant is not None}
    assert fit.num_cells == len(networks)
    assert fit.num_values == 3 * len(networks)


def test_a_diverged_network_and_missing_seeds_are_left_out_and_told() -> None:
    results = results_of(accuracy)
    first, second = results.cells[0].label, results.cells[1].label
    lost = {results.network(second).trials[0].trial.id}
    trials = [
        diverged(t.trial) if t.trial.id == results.network(first).trials[0].trial.id else t
        for t in results.trials
        if t.trial.id not in lost
    ]
    context = Context.of(assemble("grid", results.study, DATA, {}, tuple(trials)))
    note = main_effects_table(context).note
    assert "Left out: 1 network that diverged on a seed." in note
    assert "1 value of these cells and seeds is missing." in note
    assert additive_fit(context).num_values == len(results.trials) - 4
    assert "missing" not in main_effects_table(Context.of(results)).note


def test_numbers_that_interact_are_told() -> None:
    def crossed(variant, seed: int) -> float:
        return accuracy(variant, seed) + 2 * (variant.c1 == 64) * variant.l1

    assert (
        "Lack of fit: p < 0.001. The numbers interact"
        in main_effects_table(Context.of(results_of(crossed))).note
    )
    assert (
        "no sign that the numbers interact"
        in main_effects_table(Context.of(results_of(accuracy))).note
    )


def test_a_number_whose_effect_depends_on_the_seed_is_told() -> None:
    def per_seed(variant, seed: int) -> float:
        return accuracy(variant, seed) + (seed - 1) * variant.c1 / 16

    content = main_effects_table(Context.of(results_of(per_seed)))
    rows = {row[0]: row for row in content.body}
    assert rows["C₁"][-2] == "clustered by seed"
    assert rows["C₁"][2] == "not significant"
    assert "The effect of C₁ (F = " in content.note
    assert "its errors are clustered by seed" in content.note


def test_without_axes_seeds_or_noise_there_is_a_reason_instead_of_a_table() -> None:
    no_axes = replace(golden_results(), study=replace(grid_study(), axes=None))
    reason = MAIN_EFFECTS.skip_reason
    assert reason(Context.of(no_axes)) == OF_COUNTS
    assert reason(Context.of(golden_results(), "params")) == OF_COUNTS
    assert reason(Context.of(golden_results(1))) == "two seeds are needed, got 1"
    empty = assemble("grid", grid_study(), DATA, {}, ())
    assert reason(Context.of(empty)) == (
        "two seeds are needed, got 0; a factor with two levels is needed"
    )
    exact = results_of(lambda v, s: 90 + v.c1 / 16 + s)
    assert reason(Context.of(exact)).startswith("the noise is unknown")
    assert reason(Context.of(golden_results())) is None
