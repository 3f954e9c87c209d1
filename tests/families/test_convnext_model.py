"""ConvNeXt's network: logits equal timm's, images of any size, initialization and drop path."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archsearch.families.convnext import ConvNeXt
from archsearch.families.convnext_model import Block, ConvNeXtModel
from internimage.model import DropPath

SMALL = ConvNeXt(8, 1, 2)

TIMM_NAMES = {
    r"stem_(0|1)\.": lambda m: ("stem.conv.", "stem.norm.")[int(m[1])],
    r"stages_(\d)\.downsample\.(0|1)\.": lambda m: (
        f"downsamples.{int(m[1]) - 1}.{('norm', 'conv')[int(m[2])]}."
    ),
    r"stages_(\d)\.blocks\.(\d+)\.": lambda m: f"stages.{m[1]}.{m[2]}.",
    r"conv_dw\.": "dw_conv.",
    r"head\.fc\.": "head.linear.",
}
"""timm's names of modules -> ours."""


def our_name(timm_name: str) -> str:
    name = re.sub(r"^(stem|stages)\.(\d)", r"\1_\2", timm_name)
    for pattern, ours in TIMM_NAMES.items():
        name = re.sub(pattern, ours, name)
    return name


def reference(weights: dict[str, Tensor], depths: tuple[int, ...], x: Tensor) -> Tensor:
    """The published network on NCHW maps, one functional call per layer."""

    def conv(x: Tensor, name: str, **options: int) -> Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=0)
        scale, shift = (weights[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
        return (x - mean) / (variance + 1e-6).sqrt() * scale + shift

    def pointwise(x: Tensor, name: str) -> Tensor:
        bias = weights[f"{name}.bias"][:, None, None]
        return torch.einsum("nchw,oc->nohw", x, weights[f"{name}.weight"]) + bias

    x = norm(conv(x, "stem.conv", stride=4), "stem.norm")
    for stage, depth in enumerate(depths):
        if stage:
            name = f"downsamples.{stage - 1}"
            x = conv(norm(x, f"{name}.norm"), f"{name}.conv", stride=2)
        for block in (f"stages.{stage}.{i}" for i in range(depth)):
            padding = weights[f"{block}.dw_conv.weight"].shape[-1] // 2
            y = conv(x, f"{block}.dw_conv", padding=padding, groups=x.shape[1])
            y = F.gelu(pointwise(norm(y, f"{block}.norm"), f"{block}.mlp.fc1"))
            gamma = weights.get(f"{block}.gamma", torch.ones(x.shape[1]))
            x = x + gamma[:, None, None] * pointwise(y, f"{block}.mlp.fc2")
    pooled = norm(x.mean((2, 3), keepdim=True), "head.norm")
    return pointwise(pooled, "head.linear")[:, :, 0, 0]


@pytest.mark.parametrize("variant", [SMALL, ConvNeXt(8, 2, 2, kernel_size=5, layer_scale=None)])
def test_logits_equal_those_of_the_layers_one_by_one(variant: ConvNeXt) -> None:
    model, images = variant.build(5).double(), torch.randn(2, 3, 71, 102, dtype=torch.float64)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    expected = reference(model.state_dict(), variant.depths, images)
    for mode in (False, True):
        torch.testing.assert_close(model.train(mode)(images), expected)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (70, 101)])
def test_logits_equal_those_of_timm_with_the_same_weights(height: int, width: int) -> None:
    """In evaluation and, without drop path, in training, where tiny maps take a faster path."""
    timm = pytest.importorskip("timm")
    sizes = {"dims": (8, 16, 32, 64), "depths": (1, 1, 2, 1), "ls_init_value": 0.5}
    theirs = timm.create_model("convnext_tiny", num_classes=5, **sizes).eval()
    ours = SMALL.build(5).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict({our_name(name): value for name, value in theirs.state_dict().items()})
    images = torch.randn(2, 3, height, width)
    with torch.no_grad():
        logits = theirs(images)
        assert logits.std() > 0.1
        for mode in (False, True):
            torch.testing.assert_close(ours.train(mode)(images), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (32, 32), (3, 50), (63, 31)])
def test_images_of_any_size_have_logits_and_gradients(height: int, width: int) -> None:
    model = SMALL.build(5)
    logits = model(torch.randn(2, 3, height, width))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_small_image_is_filled_up_with_zeros() -> None:
    model, image = SMALL.build(5).eval(), torch.randn(1, 3, 3, 2)
    padded = F.pad(image, (0, 2, 0, 1))
    torch.testing.assert_close(model(image), model(padded))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 4, 32, 32)])
def test_images_of_another_shape_are_rejected(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images: wanted \(N, 3, H, W\), got "):
        SMALL.build(5)(torch.zeros(shape))


def test_four_maps_without_the_head() -> None:
    model = ConvNeXtModel(SMALL.channels, SMALL.depths, features_only=True)
    shapes = [tuple(x.shape) for x in model(torch.zeros(1, 3, 64, 96))]
    assert shapes == [(1, 8, 16, 24), (1, 16, 8, 12), (1, 32, 4, 6), (1, 64, 2, 3)]


def test_initialization_is_the_published_one() -> None:
    model = ConvNeXt(32, 1, 1).build(10)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.15)
            assert not module.bias.any()
        if isinstance(module, nn.LayerNorm):
            assert module.eps == 1e-6
        if isinstance(module, Block):
            assert (module.gamma == 1e-6).all()


def test_drop_path_grows_linearly_over_all_blocks() -> None:
    model = ConvNeXtModel((2, 4, 8, 16), (1, 1, 2, 1), drop_path=0.4)
    rates = [m.rate for m in model.modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_convolutions_are_stored_channels_last() -> None:
    """Else every convolution of an NHWC map copies its weights, and DDP its gradients."""
    convolutions = [m for m in SMALL.build(5).modules() if isinstance(m, nn.Conv2d)]
    channels_last = torch.channels_last
    assert all(m.weight.is_contiguous(memory_format=channels_last) for m in convolutions)
