"""Mask2Former: logits and losses equal transformers' with the same weights."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archsearch.families.internimage import parse_network
from archsearch.heads import mask2former
from archsearch.heads.mask2former_cost import Sizes
from archsearch.scenes.pasted import pasted
from internimage.config import stacked
from internimage.model import InternImage

CLASSES = 5
SMALL = Sizes(width=64, hidden=64, heads=2, queries=10, pixel_layers=1, layers=3)


transformers = pytest.importorskip("transformers")


def small(num_classes: int = CLASSES) -> Any:
    torch.manual_seed(0)
    backbone = InternImage(stacked(8, 4, 1, 1), features_only=True)
    return mask2former(backbone, num_classes, sizes=SMALL)


def batch(height: int = 64, width: int = 96) -> tuple[Tensor, Tensor]:
    """Two images with four and three of the classes."""
    torch.manual_seed(1)
    images = torch.randn(2, 3, height, width)
    labels = torch.randint(4, (2, height // 16, width // 16)).repeat_interleave(16, 1)
    labels = labels.repeat_interleave(16, 2)
    labels[1] = labels[1].clamp(max=2)
    labels[:, :9] = 255
    return images, labels


@pytest.mark.parametrize(("height", "width"), [(64, 96), (37, 51)])
def test_logits_have_the_sides_of_the_image(height: int, width: int) -> None:
    logits = small().eval()(torch.randn(1, 3, height, width))
    assert logits.shape == (1, CLASSES, height, width)
    assert logits.isfinite().all()


@pytest.mark.parametrize("labeled", [True, False])
def test_every_weight_learns(labeled: bool) -> None:
    model, (images, labels) = small().train(), batch()
    loss, num = model.losses(images, labels if labeled else torch.full_like(labels, 255))
    loss.backward()
    assert num.item() == 2
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    names = dict(model.named_parameters())
    assert set(model.no_weight_decay()) < names.keys()
    first = next(model.backbone.parameters()).grad
    assert first is not None
    assert first.any()


def test_the_loss_of_a_batch_is_the_sum_over_its_images() -> None:
    model, (images, labels) = small().eval(), batch()
    torch.manual_seed(2)
    whole, _ = model.losses(images, labels)
    torch.manual_seed(2)
    parts = [model.losses(images[n : n + 1], labels[n : n + 1])[0] for n in range(2)]
    torch.testing.assert_close(whole, parts[0] + parts[1])


def test_h_has_the_parameters_of_the_closed_form() -> None:
    with torch.device("meta"):
        model = mask2former(parse_network("H").build_backbone())
    assert sum(p.numel() for p in model.parameters()) == 1_313_496_135


class TheirBackbone(nn.Module):
    """A backbone of transformers as our heads read one."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.inner = backbone

    def forward(self, images: Tensor) -> Any:
        return self.inner(images).feature_maps


def pair() -> tuple[Any, Any]:
    """Ours and theirs, with the same weights."""
    torch.manual_seed(3)
    stages = [f"stage{i}" for i in range(1, 5)]
    backbone = transformers.SwinConfig(
        embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, out_features=stages
    )
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone, feature_size=64, mask_feature_size=64, hidden_dim=64,
        num_attention_heads=2, encoder_feedforward_dim=64, dim_feedforward=64, num_queries=10,
        encoder_layers=1, decoder_layers=4, num_labels=CLASSES,
    )  # fmt: skip
    theirs = transformers.Mask2FormerForUniversalSegmentation(config).eval()
    pixels = theirs.model.pixel_level_module
    ours = mask2former(
        TheirBackbone(pixels.encoder), CLASSES, channels=pixels.encoder.channels, sizes=SMALL
    )
    ours.pixel_decoder.load_state_dict(pixels.decoder.state_dict())
    ours.decoder.load_state_dict(theirs.model.transformer_module.state_dict())
    ours.classifier.load_state_dict(theirs.class_predictor.state_dict())
    return ours.eval(), theirs


def test_scores_and_losses_equal_those_of_transformers() -> None:
    ours, theirs = pair()
    images, labels = (part[:1] for part in batch())
    classes = torch.arange(4)
    masks = (labels == classes[:, None, None]).float()
    torch.manual_seed(4)
    wanted = theirs(images, mask_labels=[masks], class_labels=[classes])
    torch.manual_seed(4)
    torch.testing.assert_close(ours.losses(images, labels)[0], wanted.loss)
    probabilities = wanted.class_queries_logits.softmax(-1)[..., :-1]
    pixels = F.interpolate(wanted.masks_queries_logits, (64, 96), mode="bilinear").sigmoid()
    scores = torch.einsum("nqk,nqhw->nkhw", probabilities, pixels)
    torch.testing.assert_close(ours(images).exp(), scores)


def test_weights_are_drawn_as_those_of_transformers() -> None:
    ours, theirs = pair()
    drawn = mask2former(ours.backbone, CLASSES, channels=(8, 16, 32, 64), sizes=SMALL)
    for (name, weight), other in zip(
        drawn.decoder.named_parameters(), theirs.model.transformer_module.parameters(), strict=True
    ):
        if weight.numel() > 500:
            assert weight.std().item() == pytest.approx(other.std().item(), rel=0.15), name
    layer = drawn.pixel_decoder.encoder.layers[0].self_attn.sampling_offsets
    assert not layer.weight.any()
    assert layer.bias.abs().max() == 4


@pytest.mark.slow
def test_two_images_are_learned_by_heart() -> None:
    scenes = [pasted("pasted", "").train[i] for i in (6, 12)]
    images = torch.stack([torch.tensor(s.pixels).permute(2, 0, 1) / 128 - 1 for s in scenes])
    labels = torch.stack([torch.tensor(s.label_map).long() for s in scenes])
    torch.manual_seed(0)
    backbone = InternImage(stacked(16, 8, 1, 1), features_only=True)
    sizes = Sizes(width=64, hidden=128, heads=4, queries=20, pixel_layers=2, layers=3)
    model = mask2former(backbone, int(labels[labels < 255].max()) + 1, sizes=sizes).train()
    optimizer, losses = torch.optim.AdamW(model.parameters()), []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 10, (STEPS - step) / 50)
        loss, num = model.losses(images, labels)
        optimizer.zero_grad()
        (loss / num).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append((loss / num).item())
    predicted = model.eval()(images).argmax(1)
    counted = labels != 255
    assert losses[-1] < losses[0] / 4
    assert (predicted == labels)[counted].float().mean() > 0.97


STEPS = 200
