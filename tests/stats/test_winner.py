"""The selection bias of a winner, against simulated studies with a known truth."""

import numpy as np
import pytest

from archsearch.benchmarks.winner import table
from archsearch.stats.winner import resampled_bias, selection_bias, shrunken


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_the_bias_is_that_of_studies_with_a_known_truth(step: float) -> None:
    """20 networks of 3 seeds; the true bias is about 1.1 without differences, 0.4 with."""
    rng, truth, excess, estimates = np.random.default_rng(0), step * np.arange(20.0), [], []
    for study in range(2000):
        values = truth[:, None] + rng.normal(size=(20, 3))
        means = values.mean(1)
        excess.append(means.max() - truth[means.argmax()])
        if study < 60:
            estimates.append((selection_bias(table(values)), resampled_bias(table(values))))
    parametric, resampled = np.mean(estimates, axis=0)
    assert parametric == pytest.approx(np.mean(excess), abs=0.1)
    assert resampled == pytest.approx(parametric, abs=0.06)


def test_a_clear_winner_has_no_bias_and_direction_does_not_matter() -> None:
    values = np.random.default_rng(1).normal(size=(10, 3))
    assert selection_bias(table(values)) > 0.3
    assert selection_bias(table(-values), higher_is_better=False) == selection_bias(table(values))
    values[4] += 50
    assert selection_bias(table(values)) < 0.05


def test_means_are_shrunken_to_the_spread_beyond_noise() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(0, 2.0, 4000)
    means = truth + rng.normal(0, 1.0, 4000)
    ours = shrunken(means, np.ones(4000))
    assert np.polyfit(means, ours, 1)[0] == pytest.approx(4 / 5, abs=0.02)
    assert ((ours - truth) ** 2).mean() < 0.85 * ((means - truth) ** 2).mean()
    assert shrunken(np.array([1.0, 2.0]), np.ones(2)).tolist() == [1.0, 2.0]
    assert shrunken(np.zeros(5), np.ones(5)).tolist() == [0.0] * 5


def test_cells_that_cannot_be_ranked_have_no_bias() -> None:
    with pytest.raises(ValueError, match="run at least two seeds"):
        selection_bias(table(np.zeros((3, 1))))
