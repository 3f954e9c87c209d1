"""How sure a network is on the Pareto front: against a plain loop, and against the truth."""

import numpy as np
import pytest

from archsearch.stats.front import front_probabilities

DIRECTIONS = (True, False)


def study(rng: np.random.Generator, means: np.ndarray, noise: float, seeds: int = 3):
    """network -> seed -> result; every seed has an effect on all networks."""
    values = means[:, None] + rng.normal(0, noise, (len(means), seeds)) + rng.normal(0, 5, seeds)
    return {i: dict(enumerate(row)) for i, row in enumerate(values.tolist())}


def front(means: np.ndarray) -> np.ndarray:
    """Networks in the order of their cost: on the front if better than all cheaper ones."""
    return np.array([all(means[i] > means[:i]) for i in range(len(means))])


def test_a_clear_front_is_certain_and_a_dominated_network_is_not_on_it() -> None:
    values = study(np.random.default_rng(0), np.array([10.0, 20.0, 15.0, 30.0]), 0.01)
    assert front_probabilities(values, dict(enumerate(range(4))), DIRECTIONS) == {
        0: 1.0, 1: 1.0, 2: 0.0, 3: 1.0,
    }  # fmt: skip


def test_equal_networks_share_the_front() -> None:
    """Of two equal networks the cheaper is always on the front, the other in half of the cases."""
    noise = np.random.default_rng(5).normal(0, 1, (2, 30))
    noise -= noise.mean(axis=1, keepdims=True)
    values = {name: dict(enumerate(noise[i].tolist())) for i, name in enumerate(("cheap", "dear"))}
    shares = front_probabilities(values, {"cheap": 1.0, "dear": 2.0}, DIRECTIONS, draws=4000)
    assert shares["cheap"] == 1.0
    assert shares["dear"] == pytest.approx(0.5, abs=0.05)
    same = front_probabilities(values, {"cheap": 1.0, "dear": 1.0}, DIRECTIONS, draws=4000)
    assert sum(same.values()) == pytest.approx(1.0, abs=0.01)
    losses = {name: {s: -v for s, v in cell.items()} for name, cell in values.items()}
    assert front_probabilities(losses, {"cheap": 2.0, "dear": 4.0}, (False, False)) == {
        name: pytest.approx(share, abs=0.05) for name, share in shares.items()
    }


def test_a_network_that_is_only_as_good_as_a_cheaper_one_is_not_on_the_front() -> None:
    values = {"cheap": {0: 10.0, 1: 10.0}, "dear": {0: 10.0, 1: 10.0}}
    shares = front_probabilities(values, {"cheap": 1.0, "dear": 2.0}, DIRECTIONS)
    assert shares == {"cheap": 1.0, "dear": 0.0}
    assert set(front_probabilities(values, dict.fromkeys(values, 1.0), DIRECTIONS).values()) == {1}


def test_the_probabilities_are_right_on_average() -> None:
    """Among networks with a probability of 60%, about 60% are truly on the front."""
    rng, chances, truths = np.random.default_rng(3), [], []
    for _ in range(250):
        means = rng.normal(0, 1, 8)
        values = study(rng, means, 1.0)
        shares = front_probabilities(values, dict(enumerate(range(8))), DIRECTIONS, draws=300)
        chances += [shares[i] for i in range(8)]
        truths += front(means).tolist()
    p, truth = np.array(chances), np.array(truths)
    assert p.mean() == pytest.approx(truth.mean(), abs=0.03)
    for low in (0.2, 0.4, 0.6):
        group = (p >= low) & (p < low + 0.2)
        assert truth[group].mean() == pytest.approx(p[group].mean(), abs=0.12)


def test_a_single_seed_gives_no_probability() -> None:
    assert front_probabilities({"a": {0: 1.0}, "b": {0: 2.0, 1: 2.0}}, {}, DIRECTIONS) == {}
    assert front_probabilities({}, {}, DIRECTIONS) == {}
    assert front_probabilities({"a": {0: 1.0, 1: 2.0}}, {"a": 1.0}, DIRECTIONS) == {}
