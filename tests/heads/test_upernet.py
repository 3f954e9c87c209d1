"""UperNet: logits equal transformers' with the same weights; the loss by its formula."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archsearch.families.convnext_model import ConvNeXtModel
from archsearch.heads import upernet
from archsearch.heads.upernet_model import UperNet
from internimage.config import stacked
from internimage.model import InternImage

CLASSES = 7
WIDTH = 16


def small(num_classes: int = CLASSES) -> UperNet:
    torch.manual_seed(0)
    backbone = InternImage(stacked(8, 4, 1, 1), features_only=True)
    return upernet(backbone, num_classes, width=WIDTH)


def batch(num: int = 2, height: int = 50, width: int = 70) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(num, 3, height, width, generator=generator)
    labels = torch.randint(CLASSES, (num, height, width), generator=generator)
    labels[:, :9] = 255
    return images, labels


@pytest.mark.parametrize(("height", "width"), [(64, 96), (37, 51), (1, 40)])
def test_logits_have_the_sides_of_the_image(height: int, width: int) -> None:
    logits = small().eval()(torch.randn(1, 3, height, width))
    assert logits.shape == (1, CLASSES, height, width)
    assert logits.isfinite().all()


def test_any_backbone_of_four_maps_will_do() -> None:
    backbone = ConvNeXtModel((4, 8, 16, 32), (1, 1, 1, 1), features_only=True)
    model = upernet(backbone, CLASSES, width=WIDTH)
    assert model.eval()(torch.randn(1, 3, 64, 96)).shape == (1, CLASSES, 64, 96)


def test_the_loss_is_a_sum_over_labeled_pixels_and_their_number() -> None:
    """Both logits at the sides of the image; pixels of label 255 do not count."""
    model = small().eval()
    images, labels = batch()
    loss, weight = model.losses(images, labels)
    assert weight.item() == 2 * (50 - 9) * 70
    maps = model.backbone(images)
    auxiliary = F.interpolate(model.auxiliary(maps[2]), (50, 70), mode="bilinear")
    expected = sum(
        share * F.cross_entropy(logits[:, :, 9:], labels[:, 9:], reduction="sum")
        for share, logits in ((1.0, model(images)), (0.4, auxiliary))
    )
    torch.testing.assert_close(loss, expected)


def test_labels_of_unlabeled_pixels_only_have_no_loss() -> None:
    images, labels = batch()
    loss, weight = small().losses(images, torch.full_like(labels, 255))
    assert (loss.item(), weight.item()) == (0, 0)


def test_every_weight_learns_and_steps_lower_the_loss() -> None:
    model, (images, labels) = small().train(), batch(2, 32, 40)
    labels[:] = (images[:, 0] > 0).long()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for _ in range(4):
        loss, weight = model.losses(images, labels)
        optimizer.zero_grad()
        (loss / weight).backward()
        optimizer.step()
        losses.append((loss / weight).item())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert losses[-1] < 0.8 * losses[0]


def test_all_wrong_inputs_are_named_at_once() -> None:
    images, labels = batch(1)
    wrong = (
        r"labels: wanted \(1, 50, 70\) int64, got \(1, 50, 69\) float32; "
        "UperNet trains on two or more images at once .*, got 1"
    )
    with pytest.raises(ValueError, match=wrong):
        small().losses(images, labels[:, :, 1:].float())
    with pytest.raises(ValueError, match="num_classes must be from 2 to 255, got 256"):
        small(256)


def test_weights_are_stored_channels_last() -> None:
    for name, weight in small().named_parameters():
        if weight.ndim == 4:
            assert weight.is_contiguous(memory_format=torch.channels_last), name


def test_each_map_receives_all_coarser_ones() -> None:
    decoder = small().eval().decoder
    sides = ((13, 18), (7, 9), (4, 5), (2, 3))
    maps = [torch.randn(1, c, *size) for c, size in zip((8, 16, 32, 64), sides, strict=True)]

    def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(x, size, mode="bilinear", align_corners=False)

    fourth = decoder.pooling(maps[3])
    third = decoder.laterals[2](maps[2]) + resize(fourth, sides[2])
    second = decoder.laterals[1](maps[1]) + resize(third, sides[1])
    first = decoder.laterals[0](maps[0]) + resize(second, sides[0])
    parts = [conv(x) for conv, x in zip(decoder.outputs, (first, second, third), strict=True)]
    fused = decoder.fusion(torch.cat([resize(x, sides[0]) for x in (*parts, fourth)], 1))
    torch.testing.assert_close(decoder(maps), decoder.classifier(fused))


class TheirBackbone(nn.Module):
    """A backbone of transformers as our heads read one."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.inner = backbone

    def forward(self, images: Tensor) -> Any:
        return self.inner(images).feature_maps


THEIR_NAMES = {
    r"^backbone\.": "backbone.inner.",
    r"^decode_head\.psp_modules\.(\d)\.1\.": r"decoder.pooling.levels.\1.1.",
    r"^decode_head\.bottleneck\.": "decoder.pooling.bottleneck.",
    r"^decode_head\.lateral_convs\.": "decoder.laterals.",
    r"^decode_head\.fpn_convs\.": "decoder.outputs.",
    r"^decode_head\.fpn_bottleneck\.": "decoder.fusion.",
    r"^decode_head\.classifier\.": "decoder.classifier.1.",
    r"^auxiliary_head\.convs\.0\.": "auxiliary.0.",
    r"^auxiliary_head\.classifier\.": "auxiliary.1.1.",
    r"\.conv\.weight$": ".0.weight",
    r"\.batch_norm\.": ".1.",
}
"""transformers' names of weights -> ours."""


def our_weights(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weights = {}
    for name, value in theirs.items():
        for pattern, ours in THEIR_NAMES.items():
            name = re.sub(pattern, ours, name)
        weights[name] = value
    return weights


def test_logits_equal_those_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = transformers.ConvNextConfig(
        hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], out_features=stages
    )
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=WIDTH, num_labels=CLASSES
    )
    theirs = transformers.UperNetForSemanticSegmentation(config).eval().double()
    for norm in theirs.modules():  # statistics that are not those of a new BatchNorm
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
            nn.init.normal_(norm.weight, 1.0, 0.2)
            nn.init.normal_(norm.bias, std=0.2)
    nn.init.normal_(theirs.decode_head.classifier.weight)
    ours = upernet(TheirBackbone(theirs.backbone), CLASSES, width=WIDTH).eval().double()
    ours.load_state_dict(our_weights(theirs.state_dict()))
    images = batch(2, 96, 160)[0].double()
    with torch.no_grad():
        wanted, maps = theirs(images).logits, ours.backbone(images)
        torch.testing.assert_close(ours(images), wanted, rtol=1e-9, atol=1e-9)
        auxiliary = theirs.auxiliary_head(maps)
        torch.testing.assert_close(ours.auxiliary(maps[2]), auxiliary, rtol=1e-9, atol=1e-9)
    assert wanted.std() > 0.1
