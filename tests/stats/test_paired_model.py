"""The noise model against its definition, and its size in memory."""

import tracemalloc

import numpy as np
import pytest

from archsearch.stats.paired_model import PairedModel, greatest_t, step_down
from archsearch.stats.ranking import tied_with_best
from archsearch.stats.seeds import next_seeds

DESIGNS = {
    "complete": np.ones((7, 3), bool),
    "more seeds than cells": np.ones((3, 8), bool),
    "one seed": np.ones((6, 1), bool),
    "missing": np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 0, 0]]) > 0,
}


def design(trained):
    cell, seed = (index.astype(np.int64) for index in np.nonzero(trained))
    return cell, seed


def dense(cell, seed):
    """Least squares by the complete design matrix: maps to means (k, N) and residuals (N, N)."""
    is_of_cell, is_of_seed = np.eye(cell.max() + 1)[cell], np.eye(seed.max() + 1)[seed]
    x = np.hstack([is_of_cell, is_of_seed[:, :-1] - is_of_seed[:, -1:]])
    inverse = np.linalg.pinv(x)
    return inverse[: is_of_cell.shape[1]], np.eye(len(cell)) - x @ inverse


@pytest.mark.parametrize("name", DESIGNS)
def test_the_fit_is_that_of_the_complete_design_matrix(name):
    cell, seed = design(DESIGNS[name])
    model = PairedModel.of((cell.tobytes(), seed.tobytes()))
    values = np.random.default_rng(0).normal(90, 3, (5, len(cell)))
    to_means, to_residuals = dense(cell, seed)
    means, residuals = model.fit(values)
    np.testing.assert_allclose(means, values @ to_means.T, atol=1e-10)
    np.testing.assert_allclose(residuals, values @ to_residuals.T, atol=1e-10)
    freedom = np.bincount(cell, np.diag(to_residuals))
    np.testing.assert_allclose(model.degrees_of_freedom, freedom, atol=1e-10)


@pytest.mark.parametrize("digits", [16, 1])
def test_the_largest_t_is_that_over_all_pairs(digits):
    """With one digit many cells are equal in mean, in variance or in both."""
    rng = np.random.default_rng(1)
    means = rng.normal(size=(200, 17)).round(digits)
    variances = rng.chisquare(2, (200, 17)).round(digits) + 0.1
    se = np.sqrt(variances[:, :, None] + variances[:, None, :])
    pairs = (means[:, None, :] - means[:, :, None]) / se
    np.testing.assert_array_equal(greatest_t(means, variances), pairs.max(2))


def test_the_largest_t_compares_few_cells_with_all():
    """Of many cells the cost is a few rows of them, not all pairs: 1000 x 1000 pairs are 8 MB."""
    rng = np.random.default_rng(2)
    means, variances = rng.normal(size=(1, 1000)), rng.chisquare(2, (1, 1000))
    tracemalloc.start()
    greatest_t(means, variances)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


def test_step_down_is_the_same_in_parts(monkeypatch):
    rng = np.random.default_rng(3)
    observed, null = rng.normal(size=9), rng.normal(size=(101, 9))
    complete = step_down(observed, null)
    monkeypatch.setattr("archsearch.stats.paired_model.CHUNK_VALUES", 30)
    np.testing.assert_array_equal(step_down(observed, null), complete)


def test_a_null_distribution_is_the_same_in_parts(monkeypatch):
    rng = np.random.default_rng(4)
    table = {i: dict(enumerate(row.tolist())) for i, row in enumerate(rng.normal(size=(6, 3)))}
    complete = tied_with_best(table, draws=777)
    monkeypatch.setattr("archsearch.stats.paired_model.CHUNK_VALUES", 100)
    from archsearch.stats import paired_model

    paired_model._sorted_null.cache_clear()
    assert tied_with_best(table, draws=777) == complete


@pytest.mark.parametrize("rank", [tied_with_best, next_seeds])
def test_the_memory_of_a_ranking_grows_with_the_values_not_with_their_pairs(rank):
    """Pairs of 3000 values are 72 MB; those of the seeds that are simulated, 1.8 GB."""
    table = {i: {0: float(i % 7)} for i in range(3000)}
    tracemalloc.start()
    rank(table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e7


def test_of_equally_large_groups_the_first_to_be_complete_is_ranked():
    table = {"a": {0: 1.0, 1: 2.0}, "b": {8: 1.0, 9: 3.0}, "c": {9: 2.0}, "d": {1: 2.5}}
    ranking = tied_with_best(table)
    assert set(ranking.means) == {"b", "c"}
    assert ranking.notes[:2] == (
        "a: shares no seed with the others, not ranked",
        "d: shares no seed with the others, not ranked",
    )
