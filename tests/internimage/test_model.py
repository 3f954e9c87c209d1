"""The networks: parameter counts, outputs, drop path, checkpointing, features, compile, export."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import cast, get_args

import pytest
import torch
from torch import Tensor, nn

from internimage.config import PRESETS, Head, ModelConfig, Operator
from internimage.heads import AttentionHead
from internimage.model import Block, DropPath, InternImage, Stage, create_model, drop_path_rates
from internimage.official import rename_official
from tests.internimage.plain_network import plain_logits, released_state

SMALL = ModelConfig((8, 16, 32, 64), (1, 2, 2, 1), (2, 4, 8, 16), num_classes=7)
PLACEMENTS = {
    "pre": SMALL,
    "post": replace(SMALL, norm="post", layer_scale=0.5, stage_end_norm=False, kernel_size=5),
    "res-post": replace(SMALL, norm="res-post", center_feature_scale=True, dw_kernel_size=5),
}


def params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def images(size: int = 32, count: int = 2) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(5))


def blocks(model: InternImage) -> Iterator[Block]:
    return (module for module in model.modules() if isinstance(module, Block))


@pytest.mark.parametrize("name", PRESETS)
def test_published_parameter_counts(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    assert params(model) == PRESETS[name].params


def test_parameter_counts_of_table_d_and_of_h_without_its_head() -> None:
    with torch.device("meta"):
        kernels = [params(create_model("T", kernel_size=k)) for k in (5, 7)]
        backbone = create_model("H", features_only=True)
    assert kernels == [36_989_912, 47_597_144]
    assert params(backbone) == 1_073_122_480


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_logits_and_gradients_in_training_equal_the_plain_network(placement: str) -> None:
    config = PLACEMENTS[placement]
    released = {
        key: value.double().requires_grad_() if value.is_floating_point() else value
        for key, value in released_state(config).items()
    }
    model = InternImage(config).double()
    model.load_state_dict(rename_official({k: v.detach() for k, v in released.items()}))
    x = images(40, 3).double()
    logits = model.train()(x)
    expected = plain_logits(released, config, x, batch_statistics=True)
    torch.testing.assert_close(logits, expected, rtol=1e-8, atol=1e-8)
    logits.sin().sum().backward()
    expected.sin().sum().backward()
    grads = {key: value.grad for key, value in rename_official(released).items()}
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, grads[key], rtol=1e-6, atol=1e-8)


def test_initial_values() -> None:
    torch.manual_seed(0)
    model = InternImage(replace(SMALL, layer_scale=1e-5))
    stage = cast(Stage, model.levels[3])
    block = cast(Block, stage.blocks[0])
    assert block.gamma1 is not None
    assert torch.equal(block.gamma1, torch.full((64,), 1e-5))
    for linear in (block.mlp.fc1, block.mlp.fc2):
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not linear.bias.any()
    assert not block.dcn.offset.weight.any()
    bound = (6 / 128) ** 0.5
    assert 0.95 * bound < block.dcn.output_proj.weight.abs().max() <= bound
    assert all(m.eps == 1e-6 for m in model.modules() if isinstance(m, nn.LayerNorm))


def test_drop_path_grows_linearly_over_all_blocks() -> None:
    config = replace(SMALL, depths=(1, 2, 3, 1), drop_path=0.3)
    expected = [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    assert drop_path_rates(0.3, 7) == pytest.approx(expected)
    assert [b.drop_path.rate for b in blocks(InternImage(config))] == pytest.approx(expected)


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25)
    y = drop(torch.ones(8000, 2, 2, 3))
    per_sample = y.flatten(1)
    assert torch.equal(per_sample.amin(1), per_sample.amax(1))
    assert per_sample[:, 0].unique().tolist() == pytest.approx([0, 4 / 3])
    assert y.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(drop.eval()(y), y)


def test_drop_path_reaches_both_branches() -> None:
    model = InternImage(replace(SMALL, drop_path=0.99))
    last = list(blocks(model))[-1]
    x = torch.randn(64, 2, 2, 64)
    unchanged = (last(x) == x).flatten(1).all(1)
    assert 0.9 < unchanged.double().mean() <= 1
    last.eval()
    assert not (last(x) == x).flatten(1).all(1).any()


def test_gradient_checkpointing_changes_no_gradient() -> None:
    def gradients(checkpointing: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = InternImage(replace(SMALL, drop_path=0.5))
        model.set_gradient_checkpointing(checkpointing)
        x = images(64).requires_grad_()
        calls: list[int] = []
        for block in blocks(model):
            block.register_forward_pre_hook(lambda *_: calls.append(1))
        torch.manual_seed(1)
        model(x).sin().sum().backward()
        assert len(calls) == (12 if checkpointing else 6)
        return [cast(Tensor, t.grad) for t in (x, *model.parameters())]

    for a, b in zip(gradients(False), gradients(True), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (37, 51), (33, 32)])
def test_features_only_returns_four_maps_at_their_strides(height: int, width: int) -> None:
    model = InternImage(SMALL, features_only=True).eval()
    maps = model(torch.randn(2, 3, height, width))
    assert model.head is None
    assert len(maps) == 4
    for channels, stride, m in zip(SMALL.channels, (4, 8, 16, 32), maps, strict=True):
        assert m.shape == (2, channels, -(-height // stride), -(-width // stride))
        assert m.is_contiguous(memory_format=torch.channels_last)


def test_features_are_the_input_of_the_head() -> None:
    torch.manual_seed(0)
    model = InternImage(SMALL).eval()
    backbone = InternImage(SMALL, features_only=True).eval()
    backbone.load_state_dict(
        {k: v for k, v in model.state_dict().items() if not k.startswith("head.")}
    )
    maps = backbone(images())
    assert model.head is not None
    assert torch.equal(model.head(maps), model(images()))


def test_the_attention_head_reads_both_stages_and_any_size() -> None:
    torch.manual_seed(0)
    head = AttentionHead(replace(SMALL, head="attention"))
    stage3, stage4 = torch.randn(2, 32, 5, 3), torch.randn(2, 64, 3, 2)
    maps = (stage3, stage3, stage3, stage4)
    y = head(maps)
    assert y.shape == (2, 7)
    assert not torch.equal(y, head((*maps[:2], 2 * stage3, stage4)))
    assert not torch.equal(y, head((*maps[:3], 2 * stage4)))


@pytest.mark.parametrize("head", get_args(Head))
@pytest.mark.parametrize("operator", get_args(Operator))
def test_a_batch_of_no_images_gives_no_logits(operator: Operator, head: Head) -> None:
    model = InternImage(replace(SMALL, operator=operator, head=head)).eval()
    logits = model(images(count=0))
    assert logits.shape == (0, 7)
    if head == "plain":  # torch 2.13 has no backward of pixel_shuffle for an empty batch
        logits.sum().backward()
        assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_every_parameter_gets_a_gradient() -> None:
    """Distributed training waits for the gradient of each parameter."""
    for config in (*PLACEMENTS.values(), replace(SMALL, head="attention")):
        model = InternImage(config)
        model(images()).sum().backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_convolution_weights_are_channels_last() -> None:
    weights = [p for p in InternImage(SMALL).parameters() if p.ndim == 4]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


def test_the_whole_graph_compiles() -> None:
    torch.manual_seed(0)
    config = replace(SMALL, depths=(1, 1, 1, 1), drop_path=0.2, norm="post", layer_scale=0.1)
    model = InternImage(config)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    logits = []
    for run in (compiled, model):
        torch.manual_seed(1)
        logits.append(run(images(64)))
    torch.testing.assert_close(logits[0], logits[1])
    logits[0].sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_network_can_be_exported() -> None:
    torch.manual_seed(0)
    model = InternImage(SMALL).eval()
    exported = torch.export.export(model, (images(),))
    torch.testing.assert_close(exported.module()(images()), model(images()))


def test_autocast_trains_in_bfloat16() -> None:
    torch.manual_seed(0)
    model = InternImage(replace(SMALL, center_feature_scale=True)).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(images(64))
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), model(images(64)), rtol=0.05, atol=0.05)
    model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(images(64)).float().square().sum()
    loss.backward()
    grads = [cast(Tensor, p.grad) for p in model.parameters()]
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in grads)


def test_the_names_of_the_weights_do_not_change() -> None:
    """Saved files depend on them."""
    config = replace(
        PLACEMENTS["res-post"], stage3_extra_norms=True, depths=(1, 1, 6, 1), head="attention"
    )
    with torch.device("meta"):
        keys = {k for c in (config, PLACEMENTS["post"]) for k in InternImage(c).state_dict()}
    names = {re.sub(r"\.\d+\.", ".0.", re.sub(r"\.(weight|bias)$", "", key)) for key in keys}
    block = "levels.0.blocks.0"
    assert names == {
        *(f"patch_embed.{n}" for n in ("conv1", "norm1", "conv2", "norm2")),
        *(f"{block}.{n}" for n in ("norm1", "norm2", "res_post_norm1", "res_post_norm2")),
        *(f"{block}.{n}" for n in ("gamma1", "gamma2", "mlp.fc1", "mlp.fc2")),
        *(f"{block}.dcn.{n}" for n in ("dw_conv", "dw_norm", "offset", "mask", "center_gate")),
        *(f"{block}.dcn.{n}" for n in ("input_proj", "output_proj")),
        *(f"levels.0.{n}" for n in ("norm", "downsample.conv", "downsample.norm")),
        "levels.0.post_norms.0",
        *(f"head.{n}" for n in ("conv", "norm", "linear", "project3", "project4")),
        *(f"head.norm.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")),
        *(f"head.{n}" for n in ("norm_q", "norm_k", "norm_v", "q", "k", "v", "proj")),
    }


@pytest.mark.parametrize("shape", [(3, 3, 32), (1, 1, 32, 32)])
def test_images_of_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"wanted \(N, 3, H, W\), got"):
        InternImage(SMALL)(torch.zeros(shape))


def test_create_model_changes_the_published_configuration() -> None:
    model = create_model("T", num_classes=10, depths=(1, 1, 1, 1), drop_path=0.0)
    assert model.config == replace(
        PRESETS["T"].config, num_classes=10, depths=(1, 1, 1, 1), drop_path=0.0
    )
    assert model.eval()(images()).shape == (2, 10)
