"""The receptive field equals hand calculation, and its radii hold the right share of energy."""

import numpy as np
import pytest
import torch

from archsearch.probes import plain_cnn
from archsearch.probes.networks import Network
from archsearch.probes.photos import map_position, parse_point, radius
from archsearch.probes.receptive_field import compare, receptive_fields
from internimage import InternImage, ModelConfig

AT = (0.5, 0.5)
SIDE = 97
"""The middle pixel is 48, a multiple of 16: the center of a position in stages 1 to 3."""


def network(kernel_size=3, **changes):
    torch.manual_seed(0)
    config = ModelConfig(
        (8, 16, 32, 64), (1, 1, 1, 1), (1, 2, 4, 8), kernel_size, num_classes=4, **changes
    )
    return InternImage(config).eval().requires_grad_(False)


def fields(model, side=SIDE, projections=2):
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    return receptive_fields("it", model.forward_features, image, AT, projections)


def span(field):
    """Return the first and last column and row with energy, relative to the field's center."""
    rows, columns = np.nonzero(field.energy)
    x, y = field.center
    return columns.min() - x, columns.max() - x, rows.min() - y, rows.max() - y


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_with_zero_offsets_one_block_reaches_its_kernel_and_no_further(kernel_size):
    """The stem's two 3x3 convolutions of stride 2 reach 1 + 2 pixels. A block adds half the kernel
    in positions of its map; a downsampling adds one position of the map before it."""
    half, stem = kernel_size // 2, 1 + 2 * 1
    reach = [4 * half + stem]
    reach.append(8 * half + 4 * (1 + half) + stem)
    for stage, field in enumerate(fields(network(kernel_size))[:2]):
        assert span(field) == (-reach[stage], reach[stage], -reach[stage], reach[stage])
        assert np.count_nonzero(field.energy) == (2 * reach[stage] + 1) ** 2


def test_an_offset_to_the_right_moves_the_reach_to_the_right():
    model = network()
    with torch.no_grad():
        model.levels[0].blocks[0].dcn.offset.bias.view(-1, 2).copy_(torch.tensor([3.0, 0.0]))
    # Columns -1..1 become 2..4 of the map; the side branch and the residual still see -1..1.
    assert span(fields(model)[0]) == (-3, 4 * 4 + 3, -7, 7)


def test_a_last_layer_norm_does_not_hide_the_field():
    """The sum of the channels after a LayerNorm is constant, so its gradient is zero."""
    model = network()
    x = torch.randn(1, 3, 64, 64).requires_grad_()
    (summed,) = torch.autograd.grad(model.forward_features(x)[0][0, :, 8, 8].sum(), x)
    energy = fields(model)[0].energy
    assert energy.max() > 1e6 * float(summed.square().max())


def test_the_energy_estimates_the_sum_over_channels_without_bias():
    model = network()
    x = torch.randn(1, 3, 33, 33, generator=torch.Generator().manual_seed(1)).requires_grad_()
    channels = model.forward_features(x)[0][0, :, 4, 4]
    each = [torch.autograd.grad(channel, x, retain_graph=True)[0] for channel in channels]
    exact = sum(float(g.square().sum()) for g in each)
    (field,) = receptive_fields("it", lambda x: model.forward_features(x)[:1], x.detach(), AT, 200)
    assert field.energy.sum() == pytest.approx(exact, rel=0.1)


def test_the_disc_of_the_radius_holds_the_share():
    energy = np.zeros((21, 21))
    energy[10, 10], energy[10, 14], energy[4, 10] = 50, 40, 10
    assert [radius(energy, (10, 10), share) for share in (0.5, 0.9, 1)] == [0, 4, 6]
    assert radius(energy, (14, 10), 0.4) == 0  # (x, y), not (row, column)


def test_the_map_position_has_the_nearest_center():
    assert map_position((0.5, 0.25), 97, 25, 4) == (12, 6)
    assert map_position((1, 0), 224, 7, 32) == (6, 0)
    with pytest.raises(ValueError, match="two fractions"):
        parse_point("12,40")


def test_the_plain_cnn_has_the_same_shape_and_a_fixed_grid():
    config = network().config
    image = torch.randn(1, 3, SIDE, SIDE)
    cnn = plain_cnn.untrained(config, image)
    assert [m.shape[1:] for m in cnn.forward_features(image)] == [
        m.shape[1:] for m in network().forward_features(image)
    ]
    field = receptive_fields("cnn", cnn.forward_features, image, AT, 1)[0]
    assert span(field) == (-7, 7, -7, 7)


def test_a_trained_network_is_compared_with_untrained_ones():
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    trained = Network("N", network(), trained=True)
    with torch.no_grad():
        trained.model.levels[0].blocks[0].dcn.offset.bias.fill_(2.0)
    rows = compare(trained, picture, AT, 1)
    assert list(dict.fromkeys(f.network for f in rows)) == [
        "Plain CNN, untrained",
        "InternImage N, untrained",
        "InternImage N, trained",
    ]
    before, after = (f for f in rows if f.stage == 1 and f.network.startswith("InternImage"))
    assert span(before) == (-7, 7, -7, 7)
    # Positions 1..3 of the map in both axes, and 0 through the residual.
    assert span(after) == (-3, 15, -3, 15)
