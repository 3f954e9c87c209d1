"""Predictions by layer shapes: features of every family, and a model that finds its rates again."""

import math

import numpy as np
import pytest

from archsearch.core.budget import Budget
from archsearch.core.closed_form import cost_of
from archsearch.core.family import Family
from archsearch.families.convnext import ConvNeXt
from archsearch.families.internimage import Variant
from archsearch.families.internimage_cost import operator_macs
from archsearch.families.vit import ViT
from archsearch.latency.design import candidates_of, spread
from archsearch.latency.known import Latencies
from archsearch.latency.model import FEATURES, LatencyModel, features, predicted_from_others
from archsearch.space.grid import Space
from archsearch.space.search_space import domain_of

NETWORKS = [Variant(c1, 8, l1, l3) for c1 in (8, 16, 24) for l1 in (1, 2) for l3 in (2, 5, 9)]


@pytest.mark.parametrize("network", [Variant(16, 8, 1, 2), ConvNeXt(16, 1, 2), ViT(64, 2, 8)])
def test_the_features_are_those_of_the_closed_form(network: Family) -> None:
    row = dict(zip(FEATURES, features(network, 32, 10), strict=True))
    cost = cost_of(network, 32, 32, 10)
    assert row["dense_macs"] + row["channel_macs"] == cost.macs
    assert row["params"] == cost.params
    if not isinstance(network, ViT):  # attention in parts has an output for every pair of tokens
        assert row["elements"] == cost.activations


def test_each_channel_for_itself() -> None:
    """Of a block the operator's samples, and its depth-wise convolution of 3x3."""
    network = Variant(16, 8, 1, 2)
    row = dict(zip(FEATURES, features(network, 32, 10), strict=True))
    pixels = [(8, 1), (4, 1), (2, 2), (1, 1)]
    depthwise = sum(9 * 16 * 2**i * side**2 * n for i, (side, n) in enumerate(pixels))
    assert row["channel_macs"] == operator_macs(network.config(10), 32) + depthwise
    # two convolutions of the stem, three between stages, six layers a block, the head
    blocks = 5
    assert row["calls"] == 2 + 3 + 7 * blocks + 2
    assert features(ViT(64, 2, 8), 32, 10)[1] == 0


def seconds_of(row: tuple[float, ...]) -> float:
    return 3e-11 * row[0] + 2e-10 * row[1] + 4e-6 * row[3]


def known(noise: float = 0.0, number: int = 12) -> Latencies:
    rng = np.random.default_rng(0)
    fitted = tuple(spread(NETWORKS, number))
    measured = {
        v: seconds_of(features(v, 32, 10)) * math.exp(noise * rng.standard_normal()) for v in fitted
    }
    return Latencies(32, 10, measured, fitted)


def test_the_latency_of_other_networks_is_predicted() -> None:
    latencies = known()
    others = [v for v in NETWORKS if v not in latencies.fitted]
    assert len(others) == 6
    for network in others:
        expected = seconds_of(latencies.row(network))
        assert latencies.predicted(network) == pytest.approx(expected, rel=0.02)
    assert latencies.model.error is not None
    assert latencies.model.error < 0.03


def test_the_interval_has_the_error_of_predictions() -> None:
    exact, noisy = known(), known(noise=0.1)
    assert noisy.model.half_width > 3 * exact.model.half_width
    network = NETWORKS[0]
    low, high = noisy.range(network)
    assert low < noisy.predicted(network) < high
    assert known(number=2).model.half_width == math.inf
    assert known(number=2).range(network) == (0.0, math.inf)


def test_a_prediction_from_the_others_does_not_use_the_network() -> None:
    rows = [features(v, 32, 10) for v in NETWORKS[:6]]
    seconds = [seconds_of(row) for row in rows]
    changed = [5 * seconds[0], *seconds[1:]]
    before, after = predicted_from_others(rows, seconds), predicted_from_others(rows, changed)
    assert before[0] == after[0]
    assert before[1:] != after[1:]


def test_rates_are_never_negative() -> None:
    rows = [(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]
    assert LatencyModel.fit(rows, [3.0, 2.0, 1.0]).rates[1] == 0.0


def test_measured_networks_are_spread() -> None:
    chosen = spread(NETWORKS, 4)
    by_macs = sorted(NETWORKS, key=lambda v: cost_of(v).macs)
    assert chosen[:2] == [by_macs[0], by_macs[-1]]
    assert len({v.numbers for v in chosen}) == 4
    more = spread(NETWORKS, 3, chosen)
    assert not set(more) & set(chosen)
    assert spread(NETWORKS, 100, chosen) == [v for v in spread(NETWORKS, 100) if v not in chosen]
    assert spread([], 3) == []
    assert spread(NETWORKS[:1] * 2, 3) == NETWORKS[:1]


def test_candidates_are_of_the_domain() -> None:
    space = Space(Variant(16, 8, 1, 1), {"c1": (8, 16), "group_channels": (8,), "l1": (1, 2, 3)})
    domain = domain_of(space, Budget(1_000_000, tolerance=0.2))
    candidates = candidates_of(domain)
    assert set(candidates) <= set(domain.variants())
    assert {(v.c1, v.l1) for v in candidates} == {(v.c1, v.l1) for v in domain.variants()}
