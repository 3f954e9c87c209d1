"""torch.func over whole networks: forward mode, per-sample and second derivatives."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, jacrev, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from internimage.config import ModelConfig
from internimage.dcnv3 import DCNv3
from internimage.model import InternImage

SMALL = ModelConfig((8, 16, 32, 64), (1, 1, 1, 1), (2, 4, 8, 16), num_classes=3)
CONFIGS = {
    "dcnv3": SMALL,
    "post-norm, sigmoid": replace(
        SMALL, operator="dcnv3-sigmoid", norm="post", layer_scale=0.5, stage_end_norm=False
    ),
    "unshared": replace(SMALL, operator="dcnv3-unshared"),
    "deformable attention": replace(SMALL, operator="deformable-attention"),
    "depth-wise": replace(SMALL, operator="depthwise"),
    "attention head": replace(SMALL, head="attention"),
    "gate": replace(SMALL, norm="res-post", center_feature_scale=True, remove_center=True),
}


def network(config: ModelConfig) -> InternImage:
    """In eval mode and float64; its offsets, masks and gates depend on the image."""
    torch.manual_seed(0)
    model = InternImage(config).double().eval()
    for layer in model.modules():
        if isinstance(layer, DCNv3):
            for linear in (layer.offset, layer.mask, layer.center_gate):
                if linear is not None:
                    torch.nn.init.normal_(linear.weight, std=0.2)
    return model


def images(count: int = 1, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)


def slope(function: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor) -> Tensor:
    """The derivative along ``direction`` by central differences."""
    step = 1e-6 * direction
    return (function(x + step) - function(x - step)).detach() / 2e-6


@pytest.mark.parametrize("name", CONFIGS)
def test_a_directional_derivative_is_that_of_finite_differences(name: str) -> None:
    model, x = network(CONFIGS[name]), images()
    direction = torch.randn_like(x)
    with sdpa_kernel(SDPBackend.MATH):
        got = jvp(model, (x,), (direction,))[1]
    torch.testing.assert_close(got, slope(model, x, direction), rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of torch's attention
@pytest.mark.parametrize(
    ("name", "training"), [("dcnv3", False), ("dcnv3", True), ("attention head", False)]
)
def test_per_sample_gradients_are_those_of_single_images(name: str, training: bool) -> None:
    model, x = network(CONFIGS[name]), images(2)
    model.levels.train(training)  # BatchNorm cannot update its statistics per sample
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(model, parameters, (image[None],)).sin().sum()  # type: ignore[no-any-return]

    got = vmap(grad(loss), (None, 0))(parameters, x)
    for i in range(2):
        model.zero_grad()
        model(x[i : i + 1]).sin().sum().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(got[name][i], parameter.grad)


def test_vmap_and_jacobian_over_images() -> None:
    model, x = network(SMALL), images(2)
    torch.testing.assert_close(vmap(lambda image: model(image[None])[0])(x), model(x))
    jacobian = jacrev(model)(x[:1])[0]
    leaf = x[:1].clone().requires_grad_()
    for i, logit in enumerate(model(leaf)[0]):
        (wanted,) = torch.autograd.grad(logit, leaf, retain_graph=True)
        torch.testing.assert_close(jacobian[i], wanted)


@pytest.mark.parametrize("name", ["dcnv3", "attention head"])
def test_the_gradient_of_a_gradient_penalty_is_that_of_finite_differences(name: str) -> None:
    model, x = network(CONFIGS[name]), images()

    def penalty(x: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(model(x).sin().sum(), x, create_graph=True)
        return gradient.square().sum()

    leaf, direction = x.clone().requires_grad_(), torch.randn_like(x)
    with sdpa_kernel(SDPBackend.MATH):
        (got,) = torch.autograd.grad(penalty(leaf), leaf)
        wanted = slope(penalty, leaf, direction)
    torch.testing.assert_close((got * direction).sum(), wanted, rtol=1e-4, atol=1e-8)


def test_where_torchs_attention_has_no_derivative_it_says_so() -> None:
    model, x = network(CONFIGS["attention head"]), images()
    with pytest.raises(NotImplementedError, match="scaled_dot_product"):
        jvp(model, (x,), (x,))


def test_drop_path_is_random_per_sample_in_per_sample_gradients() -> None:
    model = network(replace(SMALL, drop_path=0.9))
    model.levels.train()
    same = images().expand(8, -1, -1, -1)
    with torch.no_grad():
        logits = vmap(lambda image: model(image[None])[0], randomness="different")(same)
    assert len(logits.unique(dim=0)) > 1
