"""The learning rate schedule, and the parameters with weight decay."""

import pytest
import torch
from torch import nn

from archsearch.core.recipes import resolve
from archsearch.families.convnext import ConvNeXt
from archsearch.families.internimage import Variant
from archsearch.training.optimizer import build_optimizer, learning_rate, set_learning_rate
from internimage import InternImage
from tests.training.trainings import SHORT


def test_warm_up_is_linear_and_the_cosine_ends_at_zero():
    recipe = resolve("quick", {"epochs": "10", "warmup_epochs": "2", "lr": "1.0"})
    rates = [learning_rate(n, 5, recipe) for n in range(50)]
    assert rates[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert rates[10] == max(rates) == 1.0
    assert rates[30] == pytest.approx(0.5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[49] < 0.01


def test_steps_and_poly_count_from_the_first_step_and_warm_up_lowers_them():
    steps = {"schedule": "steps", "lr_drops": "2,3", "epochs": "4", "lr": "1.0"}
    recipe = resolve("quick", {**steps, "warmup_epochs": "0", "warmup_steps": "3"})
    rates = [learning_rate(n, 5, recipe) for n in range(20)]
    expected = [0.25, 0.5, 0.75, *[1.0] * 7, *[0.1] * 5, *[0.01] * 5]
    assert rates == pytest.approx(expected)
    recipe = resolve(
        "quick", {"schedule": "poly", "epochs": "2", "lr": "1.0", "warmup_epochs": "0"}
    )
    rates = [learning_rate(n, 5, recipe) for n in range(10)]
    assert rates == pytest.approx([1 - n / 10 for n in range(10)])


@pytest.mark.parametrize("variant", [Variant(8, 8, 1, 2), ConvNeXt(8, 1, 2)])
def test_layer_wise_decay_falls_from_the_head_to_the_stem(variant):
    backbone = variant.build_backbone()
    model = nn.ModuleDict({"backbone": backbone, "head": nn.Linear(2, 2)})
    recipe = resolve("quick", {"layer_decay": "0.5"})
    optimizer = build_optimizer(model, recipe)
    set_learning_rate(optimizer, 1.0)
    groups = optimizer.param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    stem, *blocks = backbone.layers()
    assert rates.keys() == {id(p) for p in model.parameters()}
    assert {rates[id(p)] for p in model["head"].parameters()} == {1.0}
    assert {rates[id(p)] for p in stem[0].parameters()} == {0.5**6}
    firsts = [next(iter(modules[0].parameters())) for modules in blocks]
    assert [rates[id(p)] for p in firsts] == [0.5**n for n in (5, 4, 3, 2, 1)]
    assert groups[0]["lr"] == 1.0, "the curve's rate is the head's"
    with pytest.raises(ValueError, match=r"Linear has no layers\(\), use layer_decay=1"):
        build_optimizer(nn.Linear(2, 2), recipe)


def test_weight_decay_is_for_matrices_and_kernels_only():
    model = InternImage(Variant(16, 8, 1, 1, norm="post", layer_scale=0.1).config(10))
    decayed, others = build_optimizer(model, SHORT).param_groups
    named = {id(p): name for name, p in model.named_parameters()}
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    assert all(named[id(p)].endswith("weight") for p in decayed["params"])
    without_decay = {named[id(p)].split(".")[-1] for p in others["params"]}
    assert {"bias", "gamma1", "gamma2"} <= without_decay
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.weight = (nn.Parameter(torch.ones(2, 3)) for _ in range(2))

    def no_weight_decay(self) -> set[str]:
        return {"embedding", "of_another_module"}


def test_parameters_that_a_module_names_have_no_weight_decay():
    """By the name in the module, also if that is a part of the network, as timm's are."""
    for model in (Positions(), nn.Sequential(nn.Linear(3, 3), nn.Sequential(Positions()))):
        without = build_optimizer(model, SHORT).param_groups[1]["params"]
        named = {id(p): name for name, p in model.named_parameters()}
        assert [named[id(p)].split(".")[-1] for p in without if p.ndim > 1] == ["embedding"]


VARIANTS = (
    Variant(16, 8, 1, 1),
    Variant(16, 8, 1, 1, norm="post", layer_scale=0.1),
    Variant(16, 8, 1, 2, norm="res-post"),
)


def gradients_of(variant, image_size):
    """The network in training mode, with the gradients of one step on noise."""
    torch.manual_seed(0)
    model = InternImage(variant.config(10)).train()
    model(torch.rand(4, 3, image_size, image_size)).square().sum().backward()
    return model


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("image_size", [32, 64])
def test_parameters_and_gradients_have_one_memory_layout(variant, image_size):
    """The fused AdamW of a CPU walks through both in memory order."""
    for name, parameter in gradients_of(variant, image_size).named_parameters():
        assert layout(parameter) == layout(parameter.grad), name


def layout(tensor):
    """The strides that matter: of a side of one, any stride addresses the same memory."""
    return [s for s, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def test_the_fused_update_is_that_of_a_loop_over_tensors():
    fused, plain = (gradients_of(VARIANTS[0], 32) for _ in range(2))
    optimizer = build_optimizer(fused, SHORT)
    groups = [{**group, "fused": False} for group in build_optimizer(plain, SHORT).param_groups]
    optimizer.step()
    torch.optim.AdamW(groups, foreach=False).step()
    start = gradients_of(VARIANTS[0], 32)
    parameters = zip(fused.parameters(), plain.parameters(), start.parameters(), strict=True)
    for parameter, expected, before in parameters:
        assert torch.allclose(parameter - before, expected - before, atol=1e-2 * SHORT.lr)
