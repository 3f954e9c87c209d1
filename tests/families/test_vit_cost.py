"""ViT's closed form against published sizes, the built module, fvcore and the meta device."""

from random import Random

import pytest
import torch

from archsearch.core.cost import Cost
from archsearch.core.meta_cost import count_module
from archsearch.families.vit import ViT
from archsearch.families.vit_cost import map_sides
from archsearch.paper.cost_check import compared

PARAMS = {"Ti": 5_717_416, "S": 22_050_664, "B": 86_567_656, "L": 304_326_632}
TIMM = {"Ti": "tiny", "S": "small", "B": "base", "L": "large"}


@pytest.mark.parametrize(("name", "params"), PARAMS.items())
def test_parameters_of_the_published_networks(name: str, params: int) -> None:
    variant = ViT.named()[name]
    with torch.device("meta"):
        built = sum(p.numel() for p in variant.build(1000).parameters())
    assert built == variant.cost().params == params


@pytest.mark.parametrize("name", TIMM)
def test_parameters_equal_those_of_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        theirs = timm.create_model(f"vit_{TIMM[name]}_patch16_224")
    assert ViT.named()[name].cost().params == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize(
    ("name", "image_size", "billions"), [("Ti", 224, 1.3), ("S", 224, 4.6), ("B", 384, 55.5)]
)
def test_multiply_adds_round_to_published_figures(
    name: str, image_size: int, billions: float
) -> None:
    """Those that the papers of DeiT's successors print; at 384 x 384 attention is 19% of them."""
    assert round(ViT.named()[name].cost(image_size).macs / 1e9, 1) == billions


def test_every_term_by_hand() -> None:
    """(4, 2, 6) with two heads at 7 x 9 in patches of 4: two rows of three patches, 7 tokens."""
    embeddings = (4 * 3 * 16 + 4) + 4 + 10 * 4
    norms, qkv, proj, mlp = 2 * 2 * 4, 12 * 4 + 12, 4 * 4 + 4, 6 * 4 + 6 + 4 * 6 + 4
    head = 2 * 4 + 4 * 3 + 3
    params = embeddings + 2 * (norms + qkv + proj + mlp) + head
    products = 2 * 2 * 7 * 7 * 2  # two of them, two heads of two channels
    macs = 6 * 4 * 48 + 2 * (7 * (12 * 4 + 4 * 4 + 2 * 6 * 4) + products) + 4 * 3
    activations = 6 * 4 + 2 * 7 * (12 + 4 + 4 + 6 + 4) + 3
    by_hand = Cost(params, macs, activations, (7, 9))
    assert ViT(4, 2, 6, patch=4, head_dim=2, grid=3).cost(7, 9, num_classes=3) == by_hand


def random_variant(rng: Random) -> ViT:
    head_dim = rng.randint(1, 6)
    return ViT(
        head_dim * rng.randint(1, 4),
        rng.randint(1, 3),
        rng.randint(1, 40),
        patch=rng.choice((1, 2, 3, 4, 7, 16)),
        head_dim=head_dim,
        grid=rng.randint(1, 15),
    )


def random_size(rng: Random, patch: int) -> tuple[int, int]:
    """At most 15 patches in each direction, often with a last one that is not full."""
    return rng.randint(1, 15 * patch), rng.randint(1, 15 * patch)


def differences(seed: int) -> list[str]:
    rng = Random(seed)
    variant, classes = random_variant(rng), rng.randint(1, 1000)
    cost = variant.cost(*random_size(rng, variant.patch), classes)
    size = cost.image_size
    height, width = (size, size) if isinstance(size, int) else size
    counted = count_module(lambda: variant.build(classes), height, width)
    wrong = [] if counted == cost else [f"{variant}: closed form {cost}, meta device {counted}"]
    return wrong + compared(cost, lambda: variant.build(classes)).differences()


@pytest.mark.parametrize("seed", range(12))
def test_every_figure_of_random_variants(seed: int) -> None:
    assert differences(seed) == []


@pytest.mark.slow
def test_every_figure_of_two_hundred_random_variants() -> None:
    assert {seed: wrong for seed in range(200) if (wrong := differences(seed))} == {}


def test_the_parameters_do_not_depend_on_the_image() -> None:
    variant = ViT(16, 2, 32, patch=4, head_dim=8, grid=8)
    sizes = [(32, 32), (224, 224), (5, 1), (100, 30)]
    assert {variant.cost(*size).params for size in sizes} == {variant.cost().params}


def test_the_last_patches_are_filled_up() -> None:
    sizes = [(224, 224), (225, 15), (1, 1)]
    assert [map_sides(*size, 16) for size in sizes] == [(14, 14), (15, 1), (1, 1)]


def test_an_image_without_pixels_is_rejected() -> None:
    with pytest.raises(ValueError, match="image size must be at least 1 pixel, got 0 x 5"):
        ViT(64, 1, 64).cost(0, 5)
