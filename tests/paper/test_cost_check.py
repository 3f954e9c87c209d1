"""Closed form, built module, fvcore and FlopCounterMode agree; differences are reported."""

from dataclasses import replace
from random import Random
from typing import get_args

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from archsearch.families.internimage_cost import count
from archsearch.paper import cost_check as module
from archsearch.paper.cost_check import IndependentCount, Verification, verification, verify
from cuda_ops import dcnv3
from internimage.config import PRESETS, Head, ModelConfig, Norm, Operator
from internimage.model import InternImage


def random_config(seed: int) -> ModelConfig:
    """A random small network over all options, with widths and groups that follow no rule."""
    rng = Random(seed)
    pick = rng.choice
    groups = tuple(rng.randint(1, 3) for _ in range(4))
    norm, operator, kernel = pick(get_args(Norm)), pick(get_args(Operator)), pick((1, 3, 5))
    return ModelConfig(
        channels=tuple(g * rng.randint(1, 9) * (2 if i == 0 else 1) for i, g in enumerate(groups)),
        depths=(1, 1, pick((1, 1, 2, 7)), 1),  # an extra norm follows the sixth block
        groups=groups,
        kernel_size=kernel,
        dw_kernel_size=pick((None, 1, 3, 5)),
        num_classes=rng.randint(1, 7),
        mlp_ratio=pick((1.5, 2.7, 4.0)),
        norm=norm,
        layer_scale=None if norm == "res-post" else pick((None, 0.1)),
        stage_end_norm=pick((True, False)),
        stage3_extra_norms=pick((True, False)),
        offset_scale=pick((1.0, 2.0)),
        remove_center=kernel > 1 and operator != "depthwise" and pick((True, False)),
        center_feature_scale=(
            operator not in ("dcnv3-unshared", "depthwise") and pick((True, False))
        ),
        head=pick(get_args(Head)),
        operator=operator,
    )


@pytest.mark.parametrize(
    "seeds", [range(100), pytest.param(range(100, 500), marks=pytest.mark.slow)]
)
def test_parameters_of_five_hundred_networks(seeds: range) -> None:
    for seed in seeds:
        config = random_config(seed)
        with torch.device("meta"):
            model = InternImage(config)
        by_module = sum(p.numel() for p in model.parameters())
        by_fvcore = module.parameter_count(model)[""]
        assert count(config).params == by_module == by_fvcore, config


@pytest.mark.parametrize("seed", range(58, 66))
def test_every_figure_of_random_networks(seed: int) -> None:
    """Eight seeds that cover every value of every switch, at sizes that are odd at some stage."""
    assert verify(random_config(seed), height=seed - 25) == []


@pytest.mark.parametrize(("height", "width"), [(41, 70), (70, 41), (1, 96)])
def test_every_figure_at_a_height_and_a_width(height: int, width: int) -> None:
    config = random_config(61)
    assert verify(config, height, width) == []
    assert count(config, height, width).macs != count(config, height).macs


@pytest.mark.parametrize(
    "name", ["T", *(pytest.param(n, marks=pytest.mark.slow) for n in PRESETS if n != "T")]
)
def test_every_figure_of_published_models_at_the_largest_printed_size(name: str) -> None:
    preset = PRESETS[name]
    result = verification(preset.config, max(preset.printed_gmacs))
    assert result.differences() == []
    assert [c.method for c in result.counts] == ["module", "fvcore", "FlopCounterMode"]
    assert {c.params for c in result.counts} == {preset.params, None}


def test_an_operator_without_a_handle_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(module._HANDLES, "archsearch::dcnv3")
    messages = verify(PRESETS["T"].config, 32)
    assert "fvcore has no handle for archsearch::dcnv3 (30 times)" in messages
    assert any(line.startswith("macs: closed form") and "fvcore" in line for line in messages)


def test_differences_show_figure_method_and_both_values() -> None:
    cost = count(PRESETS["T"].config)
    wrong = Verification(cost, (IndependentCount("module", params=cost.params - 4),))
    assert wrong.differences() == [
        "params: closed form 29,918,424, module 29,918,420 (-4)",
    ]


def test_a_module_that_differs_from_its_closed_form_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = replace(PRESETS["T"].config, depths=(1, 1, 1, 1))
    wider = replace(config, mlp_ratio=5.0)
    monkeypatch.setattr(module, "InternImage", lambda _: InternImage(wider))
    assert {line.split(":")[0] for line in verify(config, 32)} == {"params", "macs", "activations"}


def test_flops_of_the_operator() -> None:
    """All sizes differ: 2 images, 5 x 7 outputs, 6 channels in 2 groups, 9 points."""
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        dcnv3(torch.empty(2, 5, 7, 6), torch.empty(2, 5, 7, 36), torch.empty(2, 5, 7, 18), groups=2)
    assert counter.get_total_flops() == 2 * 5 * (2 * 5 * 7) * 9 * 6
