"""The cost of detectors and segmenters: printed figures, built modules and a counter of modules."""

from collections.abc import Callable
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from archsearch.core.cost import FeatureMaps, Tally
from archsearch.core.family import Family
from archsearch.core.meta_cost import count_module
from archsearch.families.convnext import ConvNeXt
from archsearch.families.internimage import parse_network
from archsearch.families.internimage_cost import operator_macs
from archsearch.heads.built import build
from archsearch.heads.cost import HEADS, count
from archsearch.heads.mask2former_cost import Sizes, mask2former
from archsearch.heads.two_stage_cost import mask_head

COCO = (1280, 800)
OWN = [name for name, head in HEADS.items() if head.is_own]
SMALL = {"internimage": parse_network("16-8-1-2"), "convnext": ConvNeXt(8, 1, 2)}


PRINTED = [
    ("mask-rcnn", "T", COCO, 48_905_696, "269.294", "269.82"),
    ("mask-rcnn", "S", COCO, 68_715_024, "339.374", "340.01"),
    ("mask-rcnn", "B", COCO, 115_245_264, "500.504", "501.33"),
    ("cascade-mask-rcnn", "L", COCO, 277_307_236, "1397.291", "1398.86"),
    ("cascade-mask-rcnn", "XL", COCO, 387_448_974, "1780.090", "1781.92"),
    ("upernet", "T", (512, 2048), 59_062_300, "943.966", "944.48"),
    ("upernet", "S", (512, 2048), 79_866_956, "1016.772", "1017.39"),
    ("upernet", "B", (512, 2048), 128_387_852, "1183.855", "1184.67"),
    ("upernet", "L", (640, 2560), 255_600_606, "2524.305", "2526.26"),
    ("upernet", "XL", (640, 2560), 367_733_000, "3140.041", "3142.41"),
    ("upernet", "H", (896, 896), 1_120_338_396, "3570.948", "3566.44"),
]


@pytest.mark.parametrize(("head", "name", "size", "params", "macs", "mmcv"), PRINTED)
def test_parameters_and_both_counts_at_the_printed_sizes(
    head: str, name: str, size: tuple[int, int], params: int, macs: str, mmcv: str
) -> None:
    total = count(parse_network(name).feature_maps(*size), head)
    got = (total.params, f"{total.macs / 1e9:.3f}", f"{total.mmcv / 1e9:.2f}")
    assert got == (params, macs, mmcv)


@pytest.mark.slow
@pytest.mark.parametrize(("head", "name", "size"), [row[:3] for row in PRINTED])
def test_counts_equal_those_of_the_built_network(
    head: str, name: str, size: tuple[int, int]
) -> None:
    check_built(head, parse_network(name), HEADS[head].num_classes, size)


def check_built(head: str, network: Family, classes: int, size: tuple[int, int]) -> None:
    total = count(network.feature_maps(*size), head, classes)
    counted = count_module(
        lambda: build(head, network.build_backbone(), num_classes=classes), *size
    )
    got = (counted.params, counted.macs, counted.activations)
    assert got == (total.params, total.macs, total.activations)


@pytest.mark.parametrize("head", OWN)
@pytest.mark.parametrize("network", SMALL.values(), ids=SMALL)
def test_sides_that_are_no_multiples_of_32_and_other_classes(head: str, network: Family) -> None:
    check_built(head, network, 7, (203, 149))


@pytest.mark.parametrize("head", HEADS)
def test_the_order_of_the_sides_does_not_matter(head: str) -> None:
    network = parse_network("T")
    for two in (False, True):
        one, other = (
            count(network.feature_maps(*size), head, two_backbones=two)
            for size in ((1280, 800), (800, 1280))
        )
        assert one == other


class ModuleCounter:
    """Counts what modules do when they are called, by the rules of the convention ``mmcv``."""

    def __init__(self, network: nn.Module, skipped: str = "center_gate") -> None:
        self.total = 0
        for name, module in network.named_modules():
            if type(module) in RULES and skipped not in name:
                module.register_forward_hook(self._add)

    def _add(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.total += RULES[type(module)](module, inputs[0], output)


def of_conv(conv: Any, _: Tensor, y: Tensor) -> int:
    return prod(conv.weight.shape[1:]) * y.numel() + (conv.bias is not None) * y.numel()


def of_deconv(conv: Any, x: Tensor, y: Tensor) -> int:
    return prod(conv.weight.shape[1:]) * x.numel() + y.numel()


RULES: dict[type, Callable[[Any, Tensor, Tensor], int]] = {
    nn.Conv2d: of_conv,
    nn.ConvTranspose2d: of_deconv,
    nn.Linear: lambda linear, x, _: x.numel() * linear.out_features,
    nn.LayerNorm: lambda _, x, __: 2 * x.numel(),
    nn.ReLU: lambda _, __, y: y.numel(),
    nn.AdaptiveAvgPool2d: lambda _, x, __: x.numel(),
}


SLOW = [("mask-rcnn", "B", COCO), ("cascade-mask-rcnn", "L", COCO), ("upernet", "H", (896, 896))]


@pytest.mark.parametrize(
    ("head", "name", "size"),
    [
        *((head, "16-8-1-2", (203, 149)) for head in OWN),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW),
    ],
)
def test_mmcv_equals_a_count_of_the_calls_of_modules(
    head: str, name: str, size: tuple[int, int]
) -> None:
    """A hook on the layers of offset and mask makes the operator call both as modules."""
    network = parse_network(name)
    with torch.device("meta"), torch.no_grad():
        model = build(head, network.build_backbone(), num_classes=5).eval()
        counter = ModuleCounter(model)
        model(torch.empty(1, 3, *size))
    samples = operator_macs(network.config(), *size)
    assert counter.total + samples == count(network.feature_maps(*size), head, 5).mmcv


def test_mask2former_and_dino_have_the_printed_sizes() -> None:
    h = parse_network("H")
    segmenter = count(h.feature_maps(896), "mask2former")
    assert segmenter.params == 1_313_496_135
    assert f"{segmenter.mmcv / 1e9:.3f}" == "4634.693"
    detector = count(h.feature_maps(*COCO), "dino", two_backbones=True)
    assert detector.params == 2_178_558_124


def test_the_layers_of_mask2former_attend_to_the_coarsest_map_first() -> None:
    """A number that transformers' modules have, too (`test_cost_and_transformers.py`)."""
    sizes = Sizes(width=64, hidden=96, heads=4, queries=10, pixel_layers=2, layers=4)
    sides = tuple((96 // stride, 96 // stride) for stride in (4, 8, 16, 32))
    maps = FeatureMaps((4, 8, 16, 32), sides, Tally(), Tally())
    assert mask2former(maps, 5, sizes).macs == 42_424_064


def test_two_backbones_share_the_stem_and_are_connected_by_six_convolutions() -> None:
    t = parse_network("T").feature_maps(256, 192)
    one, two = (count(t, "upernet", two_backbones=two) for two in (False, True))
    pairs = [(128, 64), (256, 64), (512, 64), (256, 128), (512, 128), (512, 256)]
    area = {128: 32 * 24, 256: 16 * 12, 512: 8 * 6}
    across = sum(deep * shallow + shallow for deep, shallow in pairs)
    assert two.params - one.params == t.cost.params - t.stem.params + across + 64 + 128 + 256 + 512
    products = sum(deep * shallow * area[deep] for deep, shallow in pairs)
    assert two.macs - one.macs == t.cost.macs - t.stem.macs + products


@pytest.mark.parametrize("network", SMALL.values(), ids=SMALL)
def test_two_built_backbones_cost_what_the_closed_form_says(network: Family) -> None:
    def built() -> nn.Module:
        return build("upernet", *(network.build_backbone() for _ in range(2)), num_classes=7)

    counted = count_module(built, 203, 149)
    total = count(network.feature_maps(203, 149), "upernet", 7, two_backbones=True)
    assert (counted.params, counted.macs, counted.activations) == (
        total.params, total.macs, total.activations,
    )  # fmt: skip


def test_masks_of_other_classes_cost_their_last_convolution() -> None:
    more = mask_head(256, 81) + mask_head(256, 80) * -1
    assert more == Tally(257, 256 * 784, 784, 256 * 784 + 784)


def test_a_family_without_four_maps_and_an_unknown_head_are_refused() -> None:
    from archsearch.families.vit import ViT

    vit = next(iter(ViT.named().values()))
    for call in (vit.feature_maps, vit.build_backbone):
        with pytest.raises(ValueError, match="ViT gives no four maps at strides 4, 8, 16 and 32"):
            call()
    maps = FeatureMaps((1, 1, 1, 1), ((1, 1),) * 4, Tally(), Tally())
    with pytest.raises(
        ValueError, match=r"wanted a head of mask-rcnn, cascade-mask-rcnn, .*, got 'retina'"
    ):
        count(maps, "retina")
