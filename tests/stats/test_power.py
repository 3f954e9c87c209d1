"""The power of a plan: closed form, simulation and the figures of an independent audit agree."""

from itertools import product

import numpy as np
import pytest
from scipy.special import fdtri, ncfdtr, stdtrit

from archsearch.stats.contrasts import Contrast, one_against_the_rest, slope, step
from archsearch.stats.power import detectable_t, seeds_needed, smallest_effect


def networks(c1, group_channels, l1):
    return [{"c1": a, "group_channels": b, "l1": c} for a, b, c in product(c1, group_channels, l1)]


STACKING = networks([16], [4, 8], [1, 2, 3, 4, 5])
WIDTHS = networks([20, 24], [4], [1, 2])
PAIRS = [{"pair": i} for i in range(5)]


def contrast(weights):
    assert weights is not None
    return Contrast("", tuple(weights.tolist()))


GROUP_WIDTH = contrast(step(STACKING, "group_channels", 4, 8))
DEPTH = contrast(one_against_the_rest(STACKING, "l1", 4))
SLOPE = contrast(slope(STACKING, "l1"))
DEPTH_STEP = contrast(step(STACKING, "l1", 1, 2))
WIDTH = contrast(step(WIDTHS, "c1", 20, 24))
TWO_PAIRS = contrast(step(PAIRS, "pair", 0, 1))


@pytest.mark.parametrize(
    ("one", "seeds", "deviation", "tests", "audit"),
    [
        (GROUP_WIDTH, 12, 0.80, 1, 0.42),
        (DEPTH, 12, 0.80, 1, 0.52),
        (SLOPE, 12, 0.80, 1, 0.15),
        (TWO_PAIRS, 24, 0.566, 4, 0.56),
        (TWO_PAIRS, 3, 0.566, 4, 1.9),  # the published Table C, by its own noise
        (TWO_PAIRS, 3, 0.80, 4, 2.65),  # the same, by the noise of the grid
        (GROUP_WIDTH, 3, 0.743, 1, 0.75),  # the published grid, C1 = 16
        (DEPTH_STEP, 3, 0.743, 1, 1.25),
    ],
)
def test_the_audit_found_the_same_effects(one, seeds, deviation, tests, audit):
    """The audit's figures are rounded, those of the published runs to a twentieth of a point."""
    tolerance = 0.01 if seeds > 3 else 0.08
    assert smallest_effect(one, seeds, deviation, tests) == pytest.approx(audit, abs=tolerance)


def test_the_audit_found_the_width_below_0_8_points():
    assert smallest_effect(WIDTH, 12, 0.8) < 0.8
    assert smallest_effect(WIDTH, 12, 0.8, tests=4) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("tests", [1, 4])
@pytest.mark.parametrize("freedom", [2, 4, 11, 44, 99, 1000])
def test_the_noncentral_t_is_the_root_of_the_noncentral_f(freedom, tests):
    critical = fdtri(1, freedom, 1 - 0.05 / tests)
    power = 1 - ncfdtr(1, freedom, detectable_t(freedom, tests) ** 2, critical)
    assert power == pytest.approx(0.8, abs=1e-3)


def simulated_power(
    one: Contrast, effect: float, seeds: int, tests: int, by_seed: bool, draws: int = 4000
) -> float:
    """Return the share of simulated studies that find ``effect``; the noise's deviation is 0.8.

    Values of every network and seed are drawn, with seeds that shift all networks; each study is
    tested by Student's t with the noise of all networks pooled, or by seed.
    """
    rng, weights = np.random.default_rng(0), np.array(one.weights)
    shape = draws, len(weights), seeds
    values = weights[:, None] * effect / (weights @ weights) + 0.8 * rng.normal(size=shape)
    values += 2.4 * rng.normal(size=(draws, 1, seeds))
    per_seed = np.einsum("k,dkn->dn", weights, values)
    if by_seed:
        freedom, variance = seeds - 1, per_seed.var(1, ddof=1)
    else:
        freedom = (len(weights) - 1) * (seeds - 1)
        residual = values - values.mean(1, keepdims=True) - values.mean(2, keepdims=True)
        residual += values.mean((1, 2), keepdims=True)
        variance = (residual**2).sum((1, 2)) / freedom * (weights @ weights)
    t = per_seed.mean(1) / np.sqrt(variance / seeds)
    return float(np.mean(t > stdtrit(freedom, 1 - 0.05 / 2 / tests)))


@pytest.mark.parametrize("by_seed", [False, True])
@pytest.mark.parametrize(
    ("one", "seeds", "tests"),
    [(GROUP_WIDTH, 12, 4), (SLOPE, 3, 1), (WIDTH, 12, 4), (TWO_PAIRS, 3, 4), (TWO_PAIRS, 24, 4)],
)
def test_a_simulation_finds_the_smallest_effect_in_80_percent(one, seeds, tests, by_seed):
    effect = smallest_effect(one, seeds, 0.8, tests, by_seed)
    power = simulated_power(one, effect, seeds, tests, by_seed)
    assert power == pytest.approx(0.8, abs=0.02)  # three standard errors of 4,000 studies
    assert simulated_power(one, 0.7 * effect, seeds, tests, by_seed) < 0.7


@pytest.mark.parametrize("effect", [0.2, 0.5, 2.0])
def test_no_fewer_seeds_find_the_effect(effect):
    seeds = seeds_needed(DEPTH, effect, 0.8, tests=4)
    assert seeds is not None
    assert smallest_effect(DEPTH, seeds, 0.8, 4) <= effect
    assert seeds == 2 or smallest_effect(DEPTH, seeds - 1, 0.8, 4) > effect


def test_a_tiny_effect_needs_more_seeds_than_are_planned():
    assert seeds_needed(DEPTH, 1e-3, 0.8) is None


def test_all_wrong_numbers_are_named():
    with pytest.raises(ValueError, match=r"two seeds.*deviation.*number of tests"):
        smallest_effect(DEPTH, 1, 0.0, tests=0)
    with pytest.raises(ValueError, match="an effect to find"):
        seeds_needed(DEPTH, 0.0, 0.8)
