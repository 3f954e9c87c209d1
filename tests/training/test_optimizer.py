"""The learning rate schedule, and the parameters with weight decay."""

import pytest

from archsearch.core.recipe import resolve
from archsearch.families.internimage import Variant
from archsearch.training.optimizer import build_optimizer, learning_rate
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


def test_weight_decay_is_for_matrices_and_kernels_only():
    model = InternImage(Variant(16, 8, 1, 1, norm="post", layer_scale=0.1).config(10))
    decayed, others = build_optimizer(model, SHORT).param_groups
    named = {id(p): name for name, p in model.named_parameters()}
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    assert all(named[id(p)].endswith("weight") for p in decayed["params"])
    without_decay = {named[id(p)].split(".")[-1] for p in others["params"]}
    assert {"bias", "gamma1", "gamma2"} <= without_decay
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))
