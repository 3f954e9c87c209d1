"""ConvNeXt's closed form against published sizes, the built module, fvcore and the meta device."""

from random import Random

import pytest
import torch

from archsearch.core.cost import Cost
from archsearch.core.meta_cost import count_module
from archsearch.families.convnext import ConvNeXt
from archsearch.families.convnext_cost import map_sides
from archsearch.paper.cost_check import compared

PARAMS = {
    "T": 28_589_128, "S": 50_223_688, "B": 88_591_464, "L": 197_767_336, "XL": 350_196_968,
}  # fmt: skip
TIMM = {
    "T": "convnext_tiny", "S": "convnext_small", "B": "convnext_base", "L": "convnext_large",
    "XL": "convnext_xlarge",
}  # fmt: skip


@pytest.mark.parametrize(("name", "params"), PARAMS.items())
def test_parameters_of_the_published_networks(name: str, params: int) -> None:
    variant = ConvNeXt.named()[name]
    with torch.device("meta"):
        built = sum(p.numel() for p in variant.build(1000).parameters())
    assert built == variant.cost().params == params


@pytest.mark.parametrize("name", TIMM)
def test_parameters_equal_those_of_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        theirs = timm.create_model(TIMM[name])
    assert ConvNeXt.named()[name].cost().params == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize(
    ("name", "image_size", "printed"),
    [
        ("S", 224, "9G"),
        ("B", 224, "15G"),
        ("L", 384, "101G"),
        ("XL", 384, "179G"),
    ],
)
def test_multiply_adds_round_to_the_figures_of_the_internimage_paper(
    name: str, image_size: int, printed: str
) -> None:
    """Table 2, without T: it prints 5G, and ConvNeXt's paper 4.5G for the 4.46G."""
    assert f"{ConvNeXt.named()[name].cost(image_size).macs / 1e9:.0f}G" == printed


def test_every_term_by_hand() -> None:
    """(2, 1, 1) with 3x3 kernels at 32 x 64, three classes: maps of 8x16, 4x8, 2x4 and 1x2."""
    stem = (2 * 3 * 16 + 2) + 2 * 2
    blocks = sum(
        9 * c + c + 2 * c + (4 * c * c + 4 * c) + (4 * c * c + c) + c for c in (2, 4, 8, 16)
    )
    downs = sum(2 * c + (2 * c * c * 4 + 2 * c) for c in (2, 4, 8))
    head = 2 * 16 + 16 * 3 + 3
    macs = 128 * 96 + 48
    macs += sum(p * (9 * c + 8 * c * c) for p, c in ((128, 2), (32, 4), (8, 8), (2, 16)))
    macs += sum(p * 8 * c * c for p, c in ((32, 2), (8, 4), (2, 8)))
    activations = 128 * 2 + 32 * 4 + 8 * 8 + 2 * 16 + 3
    activations += sum(p * 6 * c for p, c in ((128, 2), (32, 4), (8, 8), (2, 16)))
    by_hand = Cost(stem + blocks + downs + head, macs, activations, (32, 64))
    assert ConvNeXt(2, 1, 1, kernel_size=3).cost(32, 64, num_classes=3) == by_hand


def random_variant(rng: Random) -> ConvNeXt:
    l1 = rng.choice((1, 1, 2))
    return ConvNeXt(
        rng.randint(1, 9),
        l1,
        l1 + rng.choice((0, 0, 1, 2)),
        kernel_size=rng.choice((1, 3, 5, 7, 9, 11)),
        layer_scale=rng.choice((None, 1e-6, 0.1)),
    )


def random_size(rng: Random) -> tuple[int, int]:
    """Half of them small or odd, where strides round down or fill the map up."""
    high = rng.choice((40, 260))
    return rng.randint(1, high), rng.randint(1, high)


def differences(seed: int) -> list[str]:
    rng = Random(seed)
    variant, (height, width), classes = random_variant(rng), random_size(rng), rng.randint(1, 1000)
    cost = variant.cost(height, width, classes)
    counted = count_module(lambda: variant.build(classes), height, width)
    wrong = [] if counted == cost else [f"{variant}: closed form {cost}, meta device {counted}"]
    return wrong + compared(cost, lambda: variant.build(classes)).differences()


@pytest.mark.parametrize("seed", range(12))
def test_every_figure_of_random_variants(seed: int) -> None:
    assert differences(seed) == []


@pytest.mark.slow
def test_every_figure_of_two_hundred_random_variants() -> None:
    assert {seed: wrong for seed in range(200) if (wrong := differences(seed))} == {}


SIDES = {224: (56, 28, 14, 7), 63: (15, 7, 3, 1), 33: (8, 4, 2, 1), 8: (2, 1, 1, 1), 1: (1,) * 4}


@pytest.mark.parametrize(("size", "sides"), SIDES.items())
def test_strides_round_down_to_at_least_one_pixel(size: int, sides: tuple[int, ...]) -> None:
    assert map_sides(size, size) == tuple((side, side) for side in sides)


def test_an_image_without_pixels_is_rejected() -> None:
    with pytest.raises(ValueError, match="image size must be at least 1 pixel, got 0 x 5"):
        ConvNeXt(2, 1, 1).cost(0, 5)
