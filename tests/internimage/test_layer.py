"""The DCNv3 layer: initial state, sampling points, and its optimized paths against plain ones."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from internimage.conv import conv_nhwc
from internimage.dcnv3 import DCNv3, grid_points, sampling_points


def layer(**options: object) -> DCNv3:
    torch.manual_seed(0)
    return DCNv3(12, 3, **options)  # type: ignore[arg-type]


def randomized(**options: object) -> DCNv3:
    """A layer whose offsets, mask and gate depend on its input."""
    dcn = layer(**options)
    with torch.no_grad():
        for linear in (dcn.offset, dcn.mask, dcn.center_gate):
            if linear is not None:
                nn.init.normal_(linear.weight, std=0.5)
                nn.init.normal_(linear.bias, std=0.5)
    return dcn


X = torch.randn(2, 5, 7, 12, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_a_new_layer_averages_its_window(kernel_size: int) -> None:
    dcn = layer(kernel_size=kernel_size)
    projected = dcn.input_proj(X).permute(0, 3, 1, 2)
    mean = F.avg_pool2d(projected, kernel_size, 1, kernel_size // 2)
    torch.testing.assert_close(dcn(X), dcn.output_proj(mean.permute(0, 2, 3, 1)))


def test_without_its_center_a_new_layer_averages_eight_neighbors() -> None:
    dcn = layer(remove_center=True)
    projected = dcn.input_proj(X).permute(0, 3, 1, 2)
    around = (9 * F.avg_pool2d(projected, 3, 1, 1) - projected) / 8
    torch.testing.assert_close(dcn(X), dcn.output_proj(around.permute(0, 2, 3, 1)))


def test_initial_values() -> None:
    dcn = layer(center_feature_scale=True)
    assert dcn.center_gate is not None
    for linear in (dcn.offset, dcn.mask, dcn.center_gate):
        assert not linear.weight.any()
        assert not linear.bias.any()
    bound = math.sqrt(6 / (12 + 12))
    for projection in (dcn.input_proj, dcn.output_proj):
        assert not projection.bias.any()
        assert 0.8 * bound < projection.weight.abs().max() <= bound


def test_points_are_ordered_by_columns() -> None:
    """Point 1 of a 3x3 kernel is left of the pixel, not above it (released checkpoints)."""
    dcn = layer()
    with torch.no_grad():
        dcn.mask.bias.view(3, 9)[:, 1] = 100
    projected = dcn.input_proj(X)
    left = F.pad(projected, (0, 0, 1, 0))[:, :, :-1]
    torch.testing.assert_close(dcn(X), dcn.output_proj(left))
    assert grid_points(3)[:4].tolist() == [[-1, -1], [-1, 0], [-1, 1], [0, -1]]
    assert len(grid_points(3, remove_center=True)) == 8
    assert [0, 0] not in grid_points(3, remove_center=True).tolist()


def test_one_matrix_product_equals_two_linears() -> None:
    dcn = randomized()
    offset, mask = dcn.offset_and_mask(X)
    torch.testing.assert_close(offset, dcn.offset(X))
    torch.testing.assert_close(mask, dcn.mask(X))
    assert offset.untyped_storage().data_ptr() == mask.untyped_storage().data_ptr()
    grads = torch.autograd.grad(
        (offset.sin().sum() + mask.cos().sum()), list(dcn.offset.parameters())
    )
    expected = torch.autograd.grad(dcn.offset(X).sin().sum(), list(dcn.offset.parameters()))
    torch.testing.assert_close(grads, expected)


def test_the_side_branch_reads_the_input_not_its_projection() -> None:
    dcn = randomized()
    before = dcn.offset_and_mask(dcn.side_branch(X))
    with torch.no_grad():
        dcn.input_proj.weight.zero_()
    for a, b in zip(before, dcn.offset_and_mask(dcn.side_branch(X)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("options", [{}, {"offset_scale": 2.0}, {"remove_center": True}])
def test_sampling_points_reproduce_the_output(options: dict[str, object]) -> None:
    """The weighted sum of bilinear samples at the returned points is the layer's output."""
    dcn = randomized(**options)
    points, weights = sampling_points(dcn, X)
    projected = dcn.input_proj(X).reshape(2, 5, 7, 3, 4)
    total = torch.zeros_like(projected)
    for g in range(3):
        plane = projected[..., g, :].permute(0, 3, 1, 2)
        for k in range(dcn.points):
            unit = (2 * points[..., g, k, :] + 1) / torch.tensor([7, 5]) - 1
            sample = F.grid_sample(plane, unit, align_corners=False).permute(0, 2, 3, 1)
            total[..., g, :] += weights[..., g, k, None] * sample
    torch.testing.assert_close(dcn.output_proj(total.flatten(-2)), dcn(X), rtol=1e-4, atol=1e-5)


def test_the_gate_blends_the_output_with_the_projected_pixel() -> None:
    dcn = randomized(center_feature_scale=True)
    assert dcn.center_gate is not None
    plain = randomized()
    plain.load_state_dict(dcn.state_dict(), strict=False)
    for bias, expected in ((-100.0, plain(X)), (100.0, dcn.output_proj(dcn.input_proj(X)))):
        nn.init.zeros_(dcn.center_gate.weight)
        nn.init.constant_(dcn.center_gate.bias, bias)
        torch.testing.assert_close(dcn(X), expected)


def test_the_faster_convolution_on_tiny_maps_is_the_same_convolution() -> None:
    """The path of training on the CPU, forward and backward, up to its size limit and beyond."""
    torch.manual_seed(0)
    for height, width in ((1, 1), (1, 2), (2, 2), (3, 2)):
        for kernel, stride, groups in ((3, 1, 6), (5, 1, 6), (7, 1, 6), (3, 2, 1), (1, 1, 1)):
            conv = nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=groups).double()
            x = torch.randn(3, height, width, 6, dtype=torch.float64, requires_grad=True)
            inputs = [x, *conv.parameters()]

            def results(training: bool) -> list[Tensor]:
                y = conv_nhwc(conv.train(training), x)  # noqa: B023
                return [y, *torch.autograd.grad(y.sin().sum(), inputs)]  # noqa: B023

            torch.testing.assert_close(results(True), results(False))
