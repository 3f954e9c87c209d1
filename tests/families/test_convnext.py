"""ConvNeXt as a family: numbers, switches, rules, growth, grids, training."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from archsearch.core.budget import Budget
from archsearch.core.family import variant_to_dict
from archsearch.core.recipes import resolve
from archsearch.families import variant_from_dict
from archsearch.families.compound_scaling import ROUNDING_NAMES
from archsearch.families.convnext import ConvNeXt
from archsearch.families.convnext_model import Block
from archsearch.results import load
from archsearch.running.run import run_study
from archsearch.space.grid import Space, plan, solve
from archsearch.space.scaling import growth_note, ladder, scaled_cell
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Study
from archsearch.training.data import describe
from archsearch.training.optimizer import build_optimizer
from internimage.model import DropPath

T = ConvNeXt.named()["T"]


def test_the_published_networks() -> None:
    stages = {name: (v.channels, v.depths) for name, v in ConvNeXt.named().items()}
    assert stages == {
        "T": ((96, 192, 384, 768), (3, 3, 9, 3)),
        "S": ((96, 192, 384, 768), (3, 3, 27, 3)),
        "B": ((128, 256, 512, 1024), (3, 3, 27, 3)),
        "L": ((192, 384, 768, 1536), (3, 3, 27, 3)),
        "XL": ((256, 512, 1024, 2048), (3, 3, 27, 3)),
    }
    assert (T.name, T.label, T.num_blocks) == ("96-3-9", "(96, 3, 9)", 18)


def test_paper_figures_belong_to_exactly_the_published_network() -> None:
    assert T.published() == {"model": "ConvNeXt-T", "accuracy": 82.1}
    assert [v.published()["accuracy"] for v in ConvNeXt.named().values()] == [
        82.1, 83.1, 83.8, 87.5, 87.8,
    ]  # fmt: skip
    assert replace(T, kernel_size=5).published() == T.with_solved(10).published() == {}


def test_every_broken_rule_is_reported() -> None:
    with pytest.raises(ValueError, match="not a variant") as error:
        ConvNeXt(96, 4, 3, kernel_size=6, layer_scale=0)
    assert str(error.value).split("; ") == [
        "not a variant: L1 = 4 exceeds L3 = 3: stage 3 is the deepest",
        "kernel_size must be an odd whole number, got 6",
        "layer_scale must be a number above 0, or none for no factors, got 0",
    ]
    with pytest.raises(ValueError, match="C1 must be a whole number from 1"):
        ConvNeXt(0, 1, 1)


@pytest.mark.parametrize("value", [True, "7", -7, 0, 7.0])
def test_kernel_sizes_that_are_none(value: object) -> None:
    assert T.unchecked(kernel_size=value).problems() == [  # type: ignore[arg-type]
        f"kernel_size must be an odd whole number, got {value!r}"
    ]


@pytest.mark.parametrize("value", [True, "0.1", -0.1, float("nan"), float("inf")])
def test_layer_scales_that_are_none(value: object) -> None:
    (problem,) = T.unchecked(layer_scale=value).problems()  # type: ignore[arg-type]
    assert problem.startswith("layer_scale must be a number above 0")


@pytest.mark.parametrize("layer_scale", [None, 1, 1e-6])
def test_variants_survive_json(layer_scale: float | None) -> None:
    variant = ConvNeXt(40, 2, 3, 5, layer_scale)
    stored = json.loads(json.dumps(variant_to_dict(variant)))
    assert stored["family"] == "archsearch.families.convnext:ConvNeXt"
    assert variant_from_dict(stored) == variant
    assert layer_scale is None or type(stored["layer_scale"]) is float


def test_the_default_grid_at_30m_contains_a_neighbor_of_t() -> None:
    cells = plan(Space(T, ConvNeXt.grid_values), Budget.parse("30M"))
    fates = [cell.fate for cell in cells]
    assert (fates.count("exact"), fates.count("infeasible"), len(fates)) == (17, 3, 20)
    names = [cell.variant.name for cell in cells if cell.variant]
    assert {"96-3-10", "80-5-12", "64-1-49"} <= set(names)
    assert [cell.requested["c1"] for cell in cells[:4]] == [64, 80, 96, 112]
    assert cells[-1].reason.startswith("the smallest legal model with C1 = 112 has L3 = 5: 46.2M")


def test_a_grid_at_2m() -> None:
    cells = plan(Space(T, {"c1": (20, 24, 32), "l1": (1, 2)}), Budget.parse("2M"))
    assert [cell.variant and cell.variant.name for cell in cells] == [
        "20-1-28", "24-1-17", "32-1-7", "20-2-23", "24-2-13", "32-2-3",
    ]  # fmt: skip


def test_solving_for_the_size_of_a_published_network_gives_it() -> None:
    for variant in ConvNeXt.named().values():
        smallest = variant.with_solved(variant.min_solved())
        assert solve(smallest, Budget(variant.cost().params)) == variant
        assert solve(smallest, Budget(variant.cost().macs, "macs")) == variant


@pytest.mark.parametrize(
    ("rounding", "phi", "name"),
    [
        ("nearest", 0, "96-3-9"),
        ("nearest", 1, "128-3-11"),  # C1' = 130.56, D' = 19.62
        ("nearest", 2, "176-3-12"),  # C1' = 177.56, D' = 21.39
        ("floor", 1, "128-3-10"),
        ("floor", 2, "176-3-12"),
        ("budget", 1, "128-3-12"),
        ("equal-size", 1, "136-1-18"),
    ],
)
def test_roundings_from_t_with_the_best_pair_of_internimage(
    rounding: str, phi: int, name: str
) -> None:
    variant, note = T.grow(1.09, 1.36, phi, rounding)
    assert variant.name == name
    assert bool(note) == (phi > 0)


def test_growth_keeps_the_switches_and_says_what_was_rounded() -> None:
    origin = replace(T, kernel_size=5, layer_scale=None)
    variant, note = origin.grow(1.09, 1.36, 1, "nearest")
    assert variant == ConvNeXt(128, 3, 11, 5, None)
    assert note == "C1 130.6 -> 128, D 19.6 -> 20 (rounding 'nearest', L1 stays 3)"


@pytest.mark.parametrize("axis", ["params", "macs"])
def test_the_pair_of_internimage_doubles_a_convnext_too(axis: str) -> None:
    factor, formula = T.growth_factor(1.09, 1.36, axis)
    assert factor == pytest.approx(2, rel=0.02)
    assert formula.startswith("alpha * beta^1.9")
    assert growth_note(1.5, 1.0, T) == (
        "alpha * beta^1.970 = 1.50, not ~2: one step of phi multiplies the params by that"
    )


def test_the_factor_is_that_of_the_unrounded_step() -> None:
    """Doubling the width at constant depth multiplies the parameters by 2^exponent."""
    wide, cost = T.with_stages(192, 3, 9).cost(), T.cost()
    assert T.growth_factor(1.0, 2.0)[0] == pytest.approx(wide.params / cost.params)
    assert T.growth_factor(1.0, 2.0, "macs")[0] == pytest.approx(wide.macs / cost.macs)


@pytest.mark.parametrize("rounding", ROUNDING_NAMES)
def test_ladders_from_a_small_origin(rounding: str) -> None:
    rungs = ladder(ConvNeXt(32, 2, 3), 1.09, 1.36, Budget.parse("40M"), rounding)
    sizes = [rung.cost.params for rung in rungs if rung.cost]
    assert len(rungs) >= 4
    assert sizes == sorted(sizes)
    assert all(rung.variant and rung.variant.c1 % 8 == 0 for rung in rungs[1:])
    if rounding == "equal-size":
        assert sizes[2] == pytest.approx(4 * sizes[0], rel=0.01)
    assert scaled_cell(T, 1.09, 1.36, 0, rounding).paper == T.published()


@pytest.mark.parametrize(
    ("own", "recipe_scale", "initial"),
    [(1e-6, None, 1e-6), (1e-6, 0.1, 0.1), (None, 0.1, None)],
)
def test_the_recipe_sets_drop_path_and_layer_scale(
    own: float | None, recipe_scale: float | None, initial: float | None
) -> None:
    recipe = replace(resolve("quick"), drop_path=0.2, layer_scale=recipe_scale)
    model = ConvNeXt(8, 1, 2, layer_scale=own).build_for(5, recipe)
    for block in (m for m in model.modules() if isinstance(m, Block)):
        assert block.gamma is None if initial is None else (block.gamma == initial).all()
    rates = [m.rate for m in model.modules() if isinstance(m, DropPath)]
    assert (rates[0], rates[-1]) == (0.0, 0.2)


def test_norms_biases_and_layer_scale_have_no_weight_decay() -> None:
    model = ConvNeXt(8, 1, 1).build(5)
    decayed, others = build_optimizer(model, resolve("quick")).param_groups
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert {id(p) for p in decayed["params"]} == matrices
    assert others["weight_decay"] == 0
    gammas = {id(m.gamma) for m in model.modules() if isinstance(m, Block)}
    assert gammas <= {id(p) for p in others["params"]}


def test_planning_loads_no_torch() -> None:
    code = (
        "import sys; from archsearch.families.convnext import ConvNeXt as C; C(8, 1, 1).cost(); "
        "C(8, 1, 1).grow(1.1, 1.3, 1, 'budget'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_trains_and_its_records_are_read_back(tmp_path: Path) -> None:
    recipe = resolve("quick", {"epochs": "4", "lr": "2e-3"})
    cells = plan(Space(T, {"c1": (8, 10), "l1": (1,)}), Budget.parse("0.2M"))
    study = Study("convnext", "How wide?", "here", cells, recipe)
    folder = StudyFolder(tmp_path / "c").create(study, describe("digits", recipe.val_fraction))
    run_study(folder, folder.trials(), runner="inline", device="cpu")
    results = load(folder.path)
    assert [t.trial.variant.name for t in results.trials] == ["8-1-8", "10-1-3"]
    accuracies = [t.record.metrics["val_accuracy"] for t in results.trials if t.record]
    assert len(accuracies) == 2
    assert min(accuracies) > 50
    assert results.study == study


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_logits_do_not_depend_on_the_layout_of_the_images(
    memory_format: torch.memory_format,
) -> None:
    model, images = ConvNeXt(8, 1, 1).build(5).eval(), torch.randn(2, 3, 32, 48)
    torch.testing.assert_close(model(images.to(memory_format=memory_format)), model(images))
