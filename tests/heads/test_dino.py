"""DINO: its parts against transformers' Deformable DETR, and what sets it apart from it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from archsearch.families.internimage import parse_network
from archsearch.heads import Composite, dino, dino_encoder
from archsearch.heads.boxes import iou
from archsearch.heads.dino_cost import Sizes
from archsearch.heads.losses import total_of_images
from archsearch.heads.query_boxes import sines, token_boxes
from archsearch.scenes.pasted import pasted
from internimage.config import stacked
from internimage.model import InternImage
from tests.heads.small import annotated

transformers = pytest.importorskip("transformers")

CLASSES = 5
SMALL = Sizes(width=64, hidden=64, heads=2, queries=20, layers=3)
SIZES = [(64, 96), (48, 72)]
TARGETS = [
    annotated([[10, 10, 40, 50], [50, 5, 90, 30]], [1, 4]),
    annotated([[5, 5, 60, 40], [9, 20, 30, 40], [20, 8, 40, 26]], [2, 0, 0]),
]
"""With 200 and 198 denoising queries."""


def small() -> Any:
    torch.manual_seed(0)
    model = dino(InternImage(stacked(8, 4, 1, 1), features_only=True), CLASSES, sizes=SMALL)
    for output in (model.token_output, *model.decoder.outputs):  # at first no box moves
        nn.init.normal_(output.box[-1].weight, std=0.2)
    return model


def images() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, 64, 96)


def levels(num: int = 2) -> list[Tensor]:
    torch.manual_seed(2)
    return [torch.randn(num, 64, *size) for size in ((8, 12), (4, 6), (2, 3), (1, 2))]


@pytest.mark.parametrize("backbones", [1, 2])
def test_every_weight_learns_also_without_objects(backbones: int) -> None:
    model = small()
    if backbones == 2:
        other = InternImage(stacked(8, 4, 1, 1), features_only=True)
        model.backbone = Composite(model.backbone, other)
    losses = model.losses(images(), TARGETS, SIZES)
    assert len(losses) == backbones * 3 * (1 + 2 * 3)
    total_of_images(losses).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert next(model.backbone.parameters()).grad.any()
    model.zero_grad()
    total_of_images(model.losses(images(), [annotated([], [])] * 2)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_losses_of_an_image_do_not_depend_on_the_others() -> None:
    """The second image has as many denoising queries as alone, beside one with more."""
    model, batch = small().eval(), images()
    torch.manual_seed(3)
    whole = total_of_images(model.losses(batch, TARGETS))
    torch.manual_seed(3)
    parts = [total_of_images(model.losses(batch[n : n + 1], TARGETS[n : n + 1])) for n in (0, 1)]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-4, atol=1e-4)


def test_detections_are_in_pixels_of_the_originals() -> None:
    model = small().eval()
    plain = model.predict(images(), SIZES)
    scaled = model.predict(images(), SIZES, [(128, 96), (48, 72)])
    assert [len(one) for one in plain] == [20 * CLASSES] * 2
    factors = torch.tensor([1.0, 2.0, 1.0, 2.0])
    torch.testing.assert_close(scaled[0].boxes, plain[0].boxes * factors)
    torch.testing.assert_close(scaled[1].boxes, plain[1].boxes)
    for one, (height, width) in zip(plain, SIZES, strict=True):
        assert one.masks is None
        assert torch.equal(one.scores, one.scores.sort(descending=True).values)
        assert one.boxes.min() >= 0
        assert (one.boxes.amax(0) <= torch.tensor([width, height, width, height])).all()


def test_deformable_attention_begins_with_points_around_each_query() -> None:
    model = small()
    for layer in (model.encoder.layers[1].self_attn, model.decoder.layers[1].encoder_attn):
        assert not layer.sampling_offsets.weight.any()
        assert layer.sampling_offsets.bias.abs().max() == 4
    assert model.decoder.layers[0].mlp.fc1.weight.std().item() == pytest.approx(0.125, abs=0.01)


def test_wrong_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="wanted targets for 2 images, got 1"):
        small().losses(images(), TARGETS[:1])
    wrong = [annotated([[1, 1, 9, 9]], [5]), TARGETS[1]]
    with pytest.raises(
        ValueError, match=r"wanted labels from 0 to 4 .* image 0 has the labels \[5"
    ):
        small().losses(images(), wrong)


def test_look_forward_twice() -> None:
    """The box of a layer learns through its own output and that of the layer before only."""
    model = small()
    memory = model.encode(model.backbone(images()), SIZES, (64, 96))
    _, boxes = model.proposed(memory)
    assert not boxes.requires_grad
    predictions = model.decoder(memory, boxes, model._contents(boxes))
    outputs = [output.box[-1].weight for output in model.decoder.outputs]
    for i, prediction in enumerate(predictions):
        loss = prediction.boxes.square().sum()
        grads = torch.autograd.grad(loss, outputs, retain_graph=True, allow_unused=True)
        learns = [grad is not None and bool(grad.any()) for grad in grads]
        assert learns == [i - 1 <= layer <= i for layer in range(3)]


def test_denoising_queries_change_nothing_else() -> None:
    """Other noise in one group changes neither the matched queries nor another group."""
    from archsearch.heads.denoising import attention_mask

    model = small().eval()
    memory = model.encode(model.backbone(images()), SIZES, (64, 96))
    _, boxes = model.proposed(memory)
    groups = torch.tensor([1, 1, 2, 2] + [0] * boxes.shape[1]).expand(2, -1)
    noise = torch.rand(2, 4, 4) * 0.5 + 0.2
    contents = torch.cat((torch.randn(2, 4, 64), model._contents(boxes)), 1)
    both = []
    for first in (noise, noise * torch.tensor([0.5, 1])[None, :, None].repeat(1, 2, 1)):
        noisy = torch.cat((first[:, :2], noise[:, 2:], boxes), 1)
        both.append(model.decoder(memory, noisy, contents, attention_mask(groups))[-1])
    one, other = both
    torch.testing.assert_close(one.boxes[:, 2:], other.boxes[:, 2:])
    torch.testing.assert_close(one.logits[:, 2:], other.logits[:, 2:])
    assert not torch.allclose(one.logits[:, :2], other.logits[:, :2])
    alone = model.decoder(memory, boxes, model._contents(boxes))[-1]
    torch.testing.assert_close(alone.boxes, one.boxes[:, 4:])


def test_queries_begin_at_the_likeliest_positions_with_learned_contents() -> None:
    model = small().eval()
    model.contents = nn.Embedding(7, 64)
    memory = model.encode(model.backbone(images()), SIZES, (64, 96))
    proposals, boxes = model.proposed(memory)
    assert boxes.shape == (2, 7, 4)
    scores = proposals.logits.amax(-1)
    assert torch.equal(scores, scores.sort(1, descending=True).values)
    contents = model._contents(boxes)
    assert torch.equal(contents[0], contents[1])


def test_padding_changes_nothing() -> None:
    """The second image's padding: rows from 48 and columns from 72 of 64x96."""
    model, given = small().eval(), levels()
    plain = model.encoder(given, SIZES, (64, 96))
    for level, (rows, columns) in zip(given, ((6, 9), (3, 5), (2, 3), (1, 2)), strict=True):
        level[1, :, rows:] = 7.0
        level[1, :, :, columns:] = -7.0
    changed = model.encoder(given, SIZES, (64, 96))
    torch.testing.assert_close(changed.tokens[plain.valid], plain.tokens[plain.valid])
    assert not torch.equal(changed.tokens, plain.tokens)


def test_h_on_two_backbones_has_the_parameters_of_the_closed_form() -> None:
    with torch.device("meta"):
        model = dino(Composite(*(parse_network("H").build_backbone() for _ in range(2))))
    assert num_params(model) == 2_178_558_124
    assert num_params(model.neck) == 7_047_168
    assert num_params(model) - num_params(model.backbone) - num_params(model.neck) == 18_556_236


def num_params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def theirs() -> Any:
    """Their two-stage model of the same sizes, with weights that differ from each other."""
    torch.manual_seed(4)
    backbone = transformers.ConvNextConfig(
        hidden_sizes=[4, 8, 16, 32], depths=[1] * 4, out_features=["stage2", "stage3", "stage4"]
    )
    config = transformers.DeformableDetrConfig(
        use_timm_backbone=False, backbone_config=backbone, d_model=64, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, encoder_layers=3,
        decoder_layers=3, two_stage=True, with_box_refine=True, num_labels=CLASSES, dropout=0.0,
    )  # fmt: skip
    model = transformers.DeformableDetrForObjectDetection(config).eval().model
    for name, parameter in model.named_parameters():
        if "sampling_offsets.weight" in name or "attention_weights.weight" in name:
            nn.init.normal_(parameter, std=0.1)
    return model


def test_the_encoder_equals_that_of_transformers(
    theirs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their temperature, and an image with padding."""
    monkeypatch.setattr(dino_encoder, "TEMPERATURE", 10_000)
    model, given = small().eval(), levels()
    model.encoder.layers.load_state_dict(theirs.encoder.layers.state_dict())
    ours = model.encoder(given, SIZES, (64, 96))
    masks = [
        ours.valid.split([96, 24, 6, 2], 1)[i].view(2, *x.shape[2:]) for i, x in enumerate(given)
    ]
    positions = [
        theirs.position_embedding(shape=x.shape, device="cpu", dtype=x.dtype, mask=mask)
        .flatten(2)
        .mT
        for x, mask in zip(given, masks, strict=True)
    ]
    positions = [p + e for p, e in zip(positions, model.encoder.level_embed, strict=True)]
    wanted = theirs.encoder(
        inputs_embeds=torch.cat([x.flatten(2).mT for x in given], 1),
        attention_mask=ours.valid,
        spatial_position_embeddings=torch.cat(positions, 1),
        valid_ratios=torch.stack([theirs.get_valid_ratio(mask) for mask in masks], 1),
        **ours.levels(),
    ).last_hidden_state
    torch.testing.assert_close(ours.tokens, wanted)


def test_positions_are_proposed_as_in_transformers(theirs: Any) -> None:
    """Where they propose a box: theirs are infinite elsewhere, ours are not proposals."""
    memory = small().eval().encoder(levels(), SIZES, (64, 96))
    ours, is_inside = token_boxes(memory.valid, memory.shapes)
    _, wanted = theirs.gen_encoder_output_proposals(memory.tokens, ~memory.valid, memory.shapes)
    assert torch.equal(is_inside, wanted.isfinite().all(-1))
    torch.testing.assert_close(ours[is_inside], wanted[is_inside])
    torch.testing.assert_close(
        sines(ours.sigmoid(), 64), theirs.get_proposal_pos_embed(ours), rtol=1e-4, atol=1e-5
    )


def test_decoder_layers_equal_those_of_transformers(theirs: Any) -> None:
    """One layer: the decoder of Deformable DETR keeps the queries' positions, DINO does not."""
    model = small().eval()
    memory, decoder = model.encoder(levels(), SIZES, (64, 96)), model.decoder
    decoder.layers.load_state_dict(theirs.decoder.layers.state_dict())
    decoder.layers, decoder.outputs = decoder.layers[:1], decoder.outputs[:1]
    boxes, contents = torch.rand(2, 9, 4) * 0.5 + 0.2, torch.randn(2, 9, 64)
    (ours,) = decoder(memory, boxes, contents)
    points = boxes[:, :, None] * memory.ratios.repeat(1, 1, 2)[:, None]
    hidden = theirs.decoder.layers[0](
        contents, decoder.positions(sines(points[:, :, 0], 64)), points,
        encoder_hidden_states=memory.tokens, encoder_attention_mask=memory.valid, **memory.levels(),
    )  # fmt: skip
    torch.testing.assert_close(ours.logits, decoder.outputs[0].classes(decoder.norm(hidden)))


@pytest.mark.slow
def test_two_images_are_learned_by_heart() -> None:
    scenes = [pasted("pasted", "").train[i] for i in (6, 12)]
    pixels = torch.stack([torch.tensor(s.pixels).permute(2, 0, 1) / 128 - 1 for s in scenes])
    targets = [
        annotated(s.objects.boxes.tolist(), s.objects.labels.tolist(), s.size) for s in scenes
    ]
    torch.manual_seed(0)
    backbone = InternImage(stacked(16, 8, 1, 1), features_only=True)
    sizes = Sizes(width=64, hidden=128, heads=2, queries=50, layers=3)
    model, steps, losses = dino(backbone, 10, sizes=sizes), 300, []
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 20, (steps - step) / 100)
        loss = total_of_images(model.losses(pixels, targets)).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4
    for found, target in zip(model.eval().predict(pixels), targets, strict=True):
        sure = found[found.scores > 0.5]
        same = target.labels[:, None] == sure.labels
        assert len(sure) <= len(target) + 1
        assert (iou(target.boxes, sure.boxes) * same).amax(1).min() > 0.7
