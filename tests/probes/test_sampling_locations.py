"""Sampling locations are the pixels given by Eq. 2 and the network's strides."""

import numpy as np
import pytest
import torch

from archsearch.probes.photos import SamplingLocations
from archsearch.probes.sampling_locations import sampling_locations
from archsearch.reports import sampling_locations as report
from internimage import InternImage, ModelConfig

GRID = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
"""k = i*K + j with i over x (columns) and j over y."""


def network(**changes):
    torch.manual_seed(0)
    config = ModelConfig((8, 16, 32, 64), (2, 1, 1, 1), (2, 2, 4, 8), num_classes=4, **changes)
    return InternImage(config).eval()


def located(model, block=-1):
    return sampling_locations(model, torch.randn(1, 3, 64, 64), (0.5, 0.25), block)


def test_without_offsets_each_stage_samples_a_grid_with_its_stride():
    for location, stride in zip(located(network()), (4, 8, 16, 32), strict=True):
        # 0.5 and 0.25 of 63 pixels, to the nearest multiple of the stride.
        query = (stride * round(31.5 / stride), stride * round(15.75 / stride))
        assert location.center == query
        expected = [(query[0] + stride * i, query[1] + stride * j) for i, j in GRID]
        for group in location.points:
            assert group.tolist() == [list(map(float, point)) for point in expected]
        assert location.modulation == pytest.approx(1 / 9)


def test_hand_set_offsets_give_known_pixels():
    """Offsets are in pixels of the map, (x, y); ``offset_scale`` multiplies the grid as well."""
    model = network(offset_scale=2.0)
    dcn = model.levels[0].blocks[-1].dcn
    with torch.no_grad():
        offsets = dcn.offset.bias.view(2, 9, 2)  # group, point, (x, y)
        offsets[0, 0] = torch.tensor([0.5, -0.25])
        offsets[1, 5] = torch.tensor([0.0, 1.0])
    location = located(model)[0]
    x, y = location.center
    assert (x, y) == (32, 16)
    assert location.points[0, 0].tolist() == [x + 4 * 2 * (-1 + 0.5), y + 4 * 2 * (-1 - 0.25)]
    assert location.points[0, 1].tolist() == [x + 4 * 2 * -1, y]
    assert location.points[1, 5].tolist() == [x, y + 4 * 2 * (1 + 1)]
    assert location.points[1, 0].tolist() == [x - 8, y - 8]


def test_modulation_is_of_the_point_and_group():
    model = network()
    with torch.no_grad():
        model.levels[1].blocks[0].dcn.mask.bias.view(2, 9)[1, 7] = np.log(8)
    location = located(model)[1]
    assert location.modulation[1, 7] == pytest.approx(8 / 16)
    assert location.modulation[1, 0] == pytest.approx(1 / 16)
    assert location.modulation[0] == pytest.approx(1 / 9)


def test_the_requested_block_is_used():
    model = network()
    with torch.no_grad():
        model.levels[0].blocks[0].dcn.offset.bias.fill_(1.0)
    assert located(model, 0)[0].points.max() > located(model, -1)[0].points.max()
    with pytest.raises(ValueError, match="not in every stage"):
        located(model, 1)


def test_a_plain_convolution_has_no_sampling_points():
    with pytest.raises(ValueError, match="no sampling points: its operator is depthwise"):
        located(network(operator="depthwise"))


def test_nothing_is_left_on_the_network():
    model = network()
    located(model)
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_the_table_has_every_point(tmp_path):
    stage = SamplingLocations(
        3, 2, (16.0, 32.0), np.arange(36.0).reshape(2, 9, 2), np.full((2, 9), 1 / 9)
    )
    rows = report.rows([stage], "it")
    assert len(rows) == 18
    assert rows[10] == {
        "network": "it", "stage": 3, "block": 2, "query_x": 16.0, "query_y": 32.0, "group": 2,
        "point": 1, "x": 20.0, "y": 21.0, "modulation": 1 / 9,
    }  # fmt: skip
    picture = np.zeros((64, 64, 3), np.uint8)
    written = {path.name for path in report.render(picture, [stage], tmp_path, "it")}
    assert "sampling-locations-stage3.png" in written
    assert "sampling-locations.csv" in written
    assert ">it</text>" in (tmp_path / "sampling-locations-stage3.svg").read_text()
    assert ">it. A color per group" in (tmp_path / "sampling-locations.svg").read_text()
