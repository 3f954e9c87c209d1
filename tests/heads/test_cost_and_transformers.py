"""The costs of Mask2Former and DINO against the modules of the library transformers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from archsearch.core.cost import FeatureMaps, Tally, linear
from archsearch.core.meta_cost import count_params
from archsearch.families.internimage import parse_network
from archsearch.heads.built import build
from archsearch.heads.cost import count
from archsearch.heads.dino_cost import PUBLISHED, level_pixels, neck, transformer
from archsearch.heads.layer_cost import mlp
from archsearch.heads.mask2former_cost import Sizes, mask2former

transformers = pytest.importorskip("transformers")

CHANNELS = (4, 8, 16, 32)
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def maps_of(channels: tuple[int, int, int, int], sides: int) -> FeatureMaps:
    sizes = tuple((sides // stride, sides // stride) for stride in (4, 8, 16, 32))
    return FeatureMaps(channels, sizes, Tally(), Tally())


def their_mask2former(channels: int, sizes: Sizes, classes: int) -> Any:
    """On a Swin of one block per stage, whose cost is not counted."""
    backbone = transformers.SwinConfig(
        embed_dim=channels, depths=[1] * 4, num_heads=[1] * 4, out_features=STAGES
    )
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=sizes.width,
        mask_feature_size=sizes.width,
        hidden_dim=sizes.width,
        num_attention_heads=sizes.heads,
        encoder_feedforward_dim=sizes.hidden,
        dim_feedforward=sizes.hidden,
        num_queries=sizes.queries,
        encoder_layers=sizes.pixel_layers,
        decoder_layers=sizes.layers + 1,  # they count the prediction before the first
        num_labels=classes,
    )
    return transformers.Mask2FormerForUniversalSegmentation(config).eval()


def params_of(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_mask2former_of_h_has_their_parameters() -> None:
    with torch.device("meta"):
        theirs = their_mask2former(320, Sizes(), 150)
    head = params_of(theirs) - params_of(theirs.model.pixel_level_module.encoder)
    maps = parse_network("H").feature_maps(896)
    assert mask2former(maps, 150).params == head == 240_373_655


@contextmanager
def counted_samples() -> Iterator[list[int]]:
    """The elements that `grid_sample` returns, which torch's counter does not count."""
    elements: list[int] = []
    original: Callable[..., Tensor] = F.grid_sample

    def counting(*args: Any, **options: Any) -> Tensor:
        y = original(*args, **options)
        elements.append(y.numel())
        return y

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "grid_sample", counting)
        yield elements


def macs_of(call: Callable[[], object]) -> int:
    """Multiply-adds of a call, with 5 per sampled element."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counted_samples() as elements, counter:
        call()
    return counter.get_total_flops() // 2 + 5 * sum(elements)


def test_mask2former_has_their_multiply_adds() -> None:
    """The layers of the head in place, on maps of random numbers."""
    sizes = Sizes(width=64, hidden=96, heads=4, queries=10, pixel_layers=2, layers=4)
    theirs = their_mask2former(CHANNELS[0], sizes, 5)
    images = torch.randn(1, 3, 96, 96)
    encoder = theirs.model.pixel_level_module.encoder
    whole = macs_of(lambda: theirs(images))
    head = whole - macs_of(lambda: encoder(images))
    assert head == mask2former(maps_of(CHANNELS, 96), 5, sizes).macs


def their_detector(classes: int) -> Any:
    """Two-stage Deformable DETR with box refinement, of DINO's sizes, on a small backbone."""
    backbone = transformers.ConvNextConfig(
        hidden_sizes=list(CHANNELS), depths=[1] * 4, out_features=STAGES[1:]
    )
    config = transformers.DeformableDetrConfig(
        use_timm_backbone=False,
        backbone=None,
        backbone_config=backbone,
        d_model=PUBLISHED.width,
        num_queries=PUBLISHED.queries,
        two_stage_num_proposals=PUBLISHED.queries,
        encoder_ffn_dim=PUBLISHED.hidden,
        decoder_ffn_dim=PUBLISHED.hidden,
        num_feature_levels=4,
        with_box_refine=True,
        two_stage=True,
        num_labels=classes,
        attn_implementation="eager",  # torch's counter does not know the CPU's fast attention
    )
    return transformers.DeformableDetrForObjectDetection(config).eval()


def test_dino_has_the_parameters_of_deformable_detr_with_the_listed_differences() -> None:
    with torch.device("meta"):
        theirs = their_detector(80)
    without = params_of(theirs) - params_of(theirs.model.backbone, theirs.model.input_proj)
    positions_of_queries = 512 * 512 + 512 + 2 * 512
    contents, labels, last_norm = 900 * 256, 80 * 256, 2 * 256
    reference_points = 512 * 256 + 256 + 256 * 256 + 256
    differences = contents + labels + last_norm + reference_points - positions_of_queries
    assert transformer(1, 80).params == without + differences == 18_556_236
    assert neck(parse_network("H").feature_maps(896)).params == 7_047_168


def test_dino_has_the_multiply_adds_of_deformable_detr_with_the_listed_differences() -> None:
    """Theirs makes positions once, from the boxes; DINO from the reference points of each layer."""
    theirs = their_detector(3)
    images = torch.randn(1, 3, 256, 256)
    backbone, maps = theirs.model.backbone, maps_of(CHANNELS, 256)
    below = macs_of(lambda: backbone(images, torch.ones(1, 256, 256))) + neck(maps).macs
    positions = linear(512, 512, PUBLISHED.queries).macs
    ours = PUBLISHED.layers * mlp((512, 256, 256), PUBLISHED.queries).macs
    head = macs_of(lambda: theirs(images)) - below - positions + ours
    assert transformer(sum(level_pixels(maps)), 3).macs == head


@pytest.mark.parametrize(("head", "num"), [("mask2former", 1), ("dino", 1), ("dino", 2)])
def test_built_networks_have_the_parameters_of_the_closed_form(head: str, num: int) -> None:
    network = parse_network("16-8-1-2")

    def built() -> nn.Module:
        return build(head, *(network.build_backbone() for _ in range(num)), num_classes=7)

    total = count(network.feature_maps(64), head, 7, two_backbones=num == 2)
    assert count_params(built) == total.params
