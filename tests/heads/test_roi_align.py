"""RoIAlign and the pyramid: cases computed by hand, and loops over every sample."""

import pytest
import torch
from torch import Tensor

from archsearch.heads.backbone import map_channels
from archsearch.heads.fpn import FPN
from archsearch.heads.roi_align import SAMPLES, levels_of, roi_align
from internimage.config import ModelConfig
from internimage.model import InternImage


def ramp(height: int, width: int, images: int = 1) -> Tensor:
    """``(N, 2, H, W)``: the x and y of each pixel's center, the same in every image."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack((x, y)).expand(images, 2, height, width)


def test_bins_of_a_ramp_are_the_centers_of_the_bins() -> None:
    boxes = torch.tensor([[4.0, 8, 20, 24]])
    bins = roi_align([ramp(8, 9)], [4], [boxes], 2)[0]
    # in steps of stride 4 the box is (1, 2, 5, 6), and its bins are 2 x 2
    torch.testing.assert_close(bins, torch.tensor([[[2.0, 4], [2, 4]], [[3, 3], [5, 5]]]))


def test_each_box_is_pooled_from_its_image_and_level() -> None:
    maps = [torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 256 // s, 288 // s) + s for s in (4, 8)]
    small, large = [1.0, 2, 60, 50], [0.0, 0, 250, 280]
    boxes = [torch.tensor([small]), torch.tensor([large, small])]
    values = roi_align(maps, [4, 8], boxes, 3).amax((1, 2, 3))
    assert values.tolist() == pytest.approx([4, 9, 5])


def test_levels_are_by_the_side_of_a_square_of_the_same_area() -> None:
    sides = torch.tensor([0.0, 1, 111, 113, 223, 225, 447, 449, 5000])
    boxes = torch.stack((0 * sides, 0 * sides, sides / 2, 2 * sides), 1)
    assert levels_of(boxes, 4).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]


def test_no_boxes_have_no_bins_and_a_gradient() -> None:
    maps = torch.randn(2, 3, 8, 8, requires_grad=True)
    bins = roi_align([maps], [4], [torch.zeros(0, 4)] * 2, 7)
    assert bins.shape == (0, 3, 7, 7)
    bins.sum().backward()
    assert maps.grad is not None
    assert not maps.grad.any()


def test_bins_equal_a_loop_over_the_samples() -> None:
    """Also outside the map, for empty boxes and on a lopsided map; float64."""
    torch.manual_seed(0)
    level = torch.randn(2, 3, 5, 9, dtype=torch.float64, requires_grad=True)
    boxes = [[-30.0, -9, 20, 31], [3, 2, 3, 9], [10, 5, 90, 19], [35.9, 19, 36.1, 20.5]]
    rois = torch.tensor(boxes, dtype=torch.float64)
    bins = roi_align([level], [4], [rois, rois.flip(0)], 3)
    expected = torch.stack(
        [loop(level[n], roi / 4, 3) for n, b in enumerate((rois, rois.flip(0))) for roi in b]
    )
    torch.testing.assert_close(bins, expected)
    weights = torch.randn_like(bins)
    (gradient,) = torch.autograd.grad((bins * weights).sum(), level)
    torch.testing.assert_close(gradient, torch.autograd.grad((expected * weights).sum(), level)[0])


def loop(image: Tensor, roi: Tensor, side: int) -> Tensor:
    x1, y1, x2, y2 = (roi - 0.5).tolist()
    bins = image.new_zeros(len(image), side, side)
    for i in range(side):
        for j in range(side):
            for k in range(SAMPLES**2):
                y = y1 + (y2 - y1) / side * (i + (k // SAMPLES + 0.5) / SAMPLES)
                x = x1 + (x2 - x1) / side * (j + (k % SAMPLES + 0.5) / SAMPLES)
                bins[:, i, j] += sample(image, y, x) / SAMPLES**2
    return bins


def sample(image: Tensor, y: float, x: float) -> Tensor:
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0 * image[:, 0, 0]
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = min(int(y), height - 2), min(int(x), width - 2)
    v, u = y - top, x - left
    upper = (1 - u) * image[:, top, left] + u * image[:, top, left + 1]
    lower = (1 - u) * image[:, top + 1, left] + u * image[:, top + 1, left + 1]
    return (1 - v) * upper + v * lower


def test_the_pyramid_adds_each_level_to_the_finer_one() -> None:
    """With identity convolutions, a level is the sum of its map and the coarser ones."""
    fpn = FPN((1, 1, 1, 1), width=1)
    for conv in (*fpn.lateral, *fpn.output):
        torch.nn.init.dirac_(conv.weight)
    maps = [torch.full((1, 1, s, s + 3), float(s)) for s in (12, 6, 3, 2)]
    levels = fpn(maps)
    assert [level.unique().item() for level in levels] == [23, 11, 5, 2, 2]
    assert [tuple(level.shape[2:]) for level in levels[3:]] == [(2, 5), (1, 3)]


def test_the_fifth_level_is_every_second_pixel() -> None:
    levels = FPN((2, 3, 4, 5), width=6)([torch.randn(2, c, 4, 4) for c in (2, 3, 4, 5)])
    torch.testing.assert_close(levels[4], levels[3][:, :, ::2, ::2])


def test_channels_are_those_of_the_maps() -> None:
    config = ModelConfig((4, 8, 16, 32), (1, 1, 1, 1), (1, 2, 4, 8), drop_path=0.1)
    backbone = InternImage(config, features_only=True)
    backbone.levels[1].eval()
    assert map_channels(backbone) == (4, 8, 16, 32)
    assert backbone.training
    assert not backbone.levels[1].training
    with pytest.raises(ValueError, match="must give four maps"):
        map_channels(InternImage(config))
