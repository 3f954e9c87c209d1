"""Two backbones as one: the second begins as it was, and receives maps of the first."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from archsearch.core.family import Family
from archsearch.families.convnext import ConvNeXt
from archsearch.families.internimage import parse_network
from archsearch.heads import Composite
from archsearch.heads.backbone import map_channels
from archsearch.heads.dino_cost import composite

FAMILIES = {"internimage": parse_network("16-8-1-2"), "convnext": ConvNeXt(8, 1, 2)}
Build = Callable[[], nn.Module]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def test_the_second_begins_as_it_was_and_shares_the_stem(family: Family) -> None:
    torch.manual_seed(0)
    first, second, alone = (family.build_backbone().eval() for _ in range(3))
    alone.load_state_dict(second.state_dict())
    stem = first.layers()[0][0]
    alone.layers()[0][0].load_state_dict(stem.state_dict())
    network = Composite(first, second).eval()
    images = torch.randn(2, 3, 70, 90)
    for one, other in zip(network(images), alone(images), strict=True):
        torch.testing.assert_close(one, other)
    maps = family.feature_maps(70, 90)
    assert sum(p.numel() for p in network.parameters()) == composite(maps).cost.params


def test_every_stage_receives_the_map_of_that_stage_and_deeper_ones(family: Family) -> None:
    """The inputs of the stages differ by the factors times the resized maps."""
    torch.manual_seed(0)
    network = Composite(family.build_backbone(), family.build_backbone()).eval()
    images = torch.randn(1, 3, 64, 96)
    first, before = network.both(images)
    for i, connection in enumerate(network.connections):
        total = first[i]
        for conv, deeper in zip(connection.convs, first[i + 1 :], strict=True):
            total = total + nn.functional.interpolate(conv(deeper), total.shape[2:])
        connection.maps = first[i:]
        x = torch.randn(1, *total.shape[2:], total.shape[1])
        nn.init.constant_(connection.gamma, 2.0)
        torch.testing.assert_close(
            connection.added(network, (x,)), x + 2 * total.permute(0, 2, 3, 1)
        )
        after = network(images)
        changed = [not torch.equal(*pair) for pair in zip(before, after, strict=True)]
        assert changed == [False] * i + [True] * (4 - i)
        nn.init.zeros_(connection.gamma)


def test_both_learn(family: Family) -> None:
    network = Composite(family.build_backbone(), family.build_backbone())
    for connection in network.connections:
        nn.init.ones_(connection.gamma)
    sum(x.square().mean() for x in network(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is not None for p in network.parameters())
    assert map_channels(network) == family.feature_maps(64).channels
    listed = [p for layer in network.layers() for m in layer for p in m.parameters()]
    others = network.connections.parameters()
    assert {*listed, *others} == set(network.parameters())


def test_other_networks_are_refused() -> None:
    one, wide = ConvNeXt(8, 1, 2).build_backbone(), ConvNeXt(16, 1, 2).build_backbone()
    with pytest.raises(ValueError, match=r"equal channels, got \(8, 16, 32, 64\) and \(16, "):
        Composite(one, wide)
    with pytest.raises(ValueError, match=r"name their stages .*: Identity does not"):
        Composite(one, nn.Identity())
