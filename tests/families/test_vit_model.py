"""ViT's network: logits equal timm's, images of any size, initialization and drop path."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archsearch.families.vit import ViT
from archsearch.families.vit_model import ViTModel
from internimage.model import DropPath

SMALL = ViT(12, 2, 20, patch=4, head_dim=4, grid=5)


def random_network(variant: ViT, num_classes: int = 5) -> ViTModel:
    """The network with weights that make every part matter."""
    model = variant.build(num_classes)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def reference(weights: dict[str, Tensor], variant: ViT, images: Tensor) -> Tensor:
    """The published network, one patch and one head at a time; images of ``grid`` patches."""

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].flatten(1).T + weights[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        x = (x - mean) / (variance + 1e-6).sqrt()
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def attention(x: Tensor, name: str) -> Tensor:
        query, key, value = linear(x, f"{name}.qkv").split(variant.width, -1)
        heads = []
        for start in range(0, variant.width, variant.head_dim):
            part = slice(start, start + variant.head_dim)
            scores = query[..., part] @ key[..., part].transpose(1, 2) / variant.head_dim**0.5
            heads.append(scores.softmax(-1) @ value[..., part])
        return linear(torch.cat(heads, -1), f"{name}.proj")

    side = variant.patch
    corners = [(i * side, j * side) for i in range(variant.grid) for j in range(variant.grid)]
    patches = [images[:, :, i : i + side, j : j + side].flatten(1) for i, j in corners]
    tokens = linear(torch.stack(patches, 1), "patch_embed.proj")
    x = torch.cat((weights["cls_token"].expand(len(images), -1, -1), tokens), 1)
    x = x + weights["pos_embed"]
    for name in (f"blocks.{i}" for i in range(variant.depth)):
        x = x + attention(norm(x, f"{name}.norm1"), f"{name}.attn")
        hidden = F.gelu(linear(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1"))
        x = x + linear(hidden, f"{name}.mlp.fc2")
    return linear(norm(x, "norm")[:, 0], "head")


@pytest.mark.parametrize("variant", [SMALL, ViT(8, 1, 5, patch=2, head_dim=8, grid=3)])
def test_logits_equal_those_of_the_layers_one_by_one(variant: ViT) -> None:
    model = random_network(variant).double()
    side = variant.grid * variant.patch
    images = torch.randn(2, 3, side, side, dtype=torch.float64)
    expected = reference(model.state_dict(), variant, images)
    for mode in (False, True):
        torch.testing.assert_close(model.train(mode)(images), expected)


def timm_network(variant: ViT, **options: object) -> nn.Module:
    timm = pytest.importorskip("timm")
    network: nn.Module = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=variant.grid * variant.patch,
        patch_size=variant.patch,
        embed_dim=variant.width,
        depth=variant.depth,
        num_heads=variant.heads,
        mlp_ratio=variant.mlp_width / variant.width,
        num_classes=5,
        **options,
    )
    return network.eval()


@pytest.mark.parametrize("size", [(20, 20), (32, 20), (8, 12), (33, 50), (3, 1)])
def test_logits_equal_those_of_timm_with_the_same_weights(size: tuple[int, int]) -> None:
    """Also of other sizes, where timm is told to resample its positions and to pad."""
    theirs = timm_network(SMALL, dynamic_img_size=True, dynamic_img_pad=True)
    ours = random_network(SMALL)
    theirs.load_state_dict(ours.state_dict())  # the same names and shapes
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        logits = theirs(images)
        assert logits.std() > 0.1
        torch.testing.assert_close(ours(images), logits, rtol=1e-4, atol=1e-4)


def test_initialization_is_that_of_timm() -> None:
    variant = ViT(64, 1, 256, patch=8, head_dim=32, grid=8)
    theirs, ours = timm_network(variant).state_dict(), variant.build(5).state_dict()
    for name, value in theirs.items():
        assert ours[name].std().item() == pytest.approx(value.std().item(), rel=0.2, abs=1e-12)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (32, 32), (3, 50), (63, 31)])
def test_images_of_any_size_have_logits_and_gradients(height: int, width: int) -> None:
    model = SMALL.build(5)
    logits = model(torch.randn(2, 3, height, width))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_last_patches_are_filled_up_with_zeros() -> None:
    model, image = random_network(SMALL), torch.randn(1, 3, 17, 14)
    torch.testing.assert_close(model(image), model(F.pad(image, (0, 2, 0, 3))))


def test_positions_of_other_sizes_are_resampled_and_that_of_the_class_token_is_kept() -> None:
    model = random_network(SMALL)
    assert model.positions(5, 5) is model.pos_embed
    other = model.positions(4, 7)
    assert other.shape == (1, 29, 12)
    assert torch.equal(other[:, 0], model.pos_embed[:, 0])
    with torch.no_grad():  # a plane stays one: rows and columns are not exchanged
        model.pos_embed[:, 1:] = torch.arange(5.0).repeat_interleave(5)[None, :, None]
    rows = model.positions(10, 5)[0, 1:, 0].reshape(10, 5)
    assert (rows[2:-2].diff(dim=0) - 0.5).abs().max() < 0.05
    assert rows.diff(dim=1).abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 4, 32, 32)])
def test_images_of_another_shape_are_rejected(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images: wanted \(N, 3, H, W\), got "):
        SMALL.build(5)(torch.zeros(shape))


def test_initialization_is_the_published_one() -> None:
    model = ViT(64, 1, 256, patch=4, grid=8).build(100)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert not module.bias.any()
        if isinstance(module, nn.LayerNorm):
            assert module.eps == 1e-6
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
    assert 0 < model.cls_token.abs().max() < 1e-5


def test_drop_path_grows_linearly_over_all_blocks() -> None:
    model = ViTModel(8, 3, 8, heads=2, drop_path=0.4)
    rates = [m.rate for m in model.modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0.0, 0.2, 0.4])
    assert not model.eval().training


def test_the_number_of_heads_matters() -> None:
    one, two = (replace(SMALL, head_dim=head_dim) for head_dim in (12, 6))
    model, other = random_network(one), two.build(5).eval()
    other.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 20, 20)
    assert not torch.allclose(model(images), other(images), atol=1e-3)
