"""ViT as a family: numbers, switches, rules, growth, grids, training."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from archsearch.core.budget import Budget
from archsearch.core.family import variant_to_dict
from archsearch.core.recipes import resolve
from archsearch.families import family_named, variant_from_dict
from archsearch.families.compound_scaling import ROUNDING_NAMES
from archsearch.families.vit import ViT
from archsearch.results import load
from archsearch.running.run import run_study
from archsearch.space.grid import Space, plan, solve
from archsearch.space.scaling import growth_note, ladder, scaled_cell
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Study
from archsearch.training.data import describe
from archsearch.training.optimizer import build_optimizer
from internimage.model import DropPath

TI, B = ViT.named()["Ti"], ViT.named()["B"]
SMALL = ViT.template(patch=4, head_dim=16, grid=8)


def test_the_published_networks() -> None:
    shapes = {name: (v.numbers, v.heads) for name, v in ViT.named().items()}
    assert shapes == {
        "Ti": ((192, 12, 768), 3),
        "S": ((384, 12, 1536), 6),
        "B": ((768, 12, 3072), 12),
        "L": ((1024, 24, 4096), 16),
    }
    assert {tuple(v.switches.values()) for v in ViT.named().values()} == {(16, 64, 14)}
    assert (B.name, B.label, B.num_blocks) == ("768-12-3072", "(768, 12, 3072)", 12)
    assert family_named("vit") is ViT
    assert ViT.parse("ti") == TI
    with pytest.raises(ValueError, match="Ti, S, B, L, or the numbers width-depth-MLP_width, got"):
        ViT.parse("192-12")


def test_papers_figures_belong_to_exactly_the_published_network() -> None:
    assert TI.published() == {"model": "ViT-Ti", "accuracy": 72.2}
    assert ViT.named()["L"].published() == {"model": "ViT-L"}
    assert replace(TI, patch=8).published() == TI.with_solved(13).published() == {}


def test_a_width_that_the_heads_do_not_divide_is_reported() -> None:
    with pytest.raises(ValueError, match=r"width = 200 is not a multiple of head_dim = 64$"):
        ViT(200, 1, 4)
    with pytest.raises(ValueError, match="MLP width must be a whole number from 1"):
        ViT(64, 1, 0)


def test_every_wrong_switch_is_reported() -> None:
    with pytest.raises(ValueError, match="not a variant") as error:
        ViT(200, 1, 4, patch=0, head_dim=True, grid="8")  # type: ignore[arg-type]
    problems = str(error.value).removeprefix("not a variant: ").split("; ")
    assert [problem.split(", got ") for problem in problems] == [
        [f"{name} must be a whole number from 1 to 1,000,000,000", value]
        for name, value in (("patch", "0"), ("head_dim", "True"), ("grid", "'8'"))
    ]


def test_variants_survive_json() -> None:
    variant = ViT(48, 2, 100, patch=4, head_dim=16, grid=8)
    stored = json.loads(json.dumps(variant_to_dict(variant)))
    assert stored["family"] == "archsearch.families.vit:ViT"
    assert variant_from_dict(stored) == variant


def test_the_default_grid_at_30m_has_a_network_in_every_cell() -> None:
    cells = plan(Space(ViT.template(), ViT.grid_values), Budget.parse("30M"))
    assert [cell.fate for cell in cells] == ["exact"] * 20
    names = [cell.variant.name for cell in cells if cell.variant]
    assert {"384-16-1536", "256-45-768", "512-9-2048"} <= set(names)
    assert [cell.requested["width"] for cell in cells[:5]] == [256, 320, 384, 448, 512]


def test_a_small_grid_moves_widths_to_multiples_of_the_head() -> None:
    cells = plan(Space(SMALL, {"width": (32, 40), "mlp_width": (64,)}), Budget.parse("0.3M"))
    assert [(cell.fate, cell.variant and cell.variant.name) for cell in cells] == [
        ("exact", "32-31-64"), ("repaired", "48-15-64"),
    ]  # fmt: skip
    assert cells[1].reason == (
        "width = 40 is not a multiple of head_dim = 16; "
        "width 40 -> 48 (nearest multiple of head_dim, ties upwards)"
    )


def test_a_wrong_switch_is_not_repaired() -> None:
    like = ViT.template(patch=0, head_dim=16)
    (cell,) = plan(Space(like, {"width": (40,), "mlp_width": (64,)}), Budget.parse("0.3M"))
    assert (cell.fate, cell.reason.split(", ")[-1]) == ("infeasible", "got 0")


def test_solving_for_the_size_of_a_published_network_gives_it() -> None:
    for variant in ViT.named().values():
        smallest = variant.with_solved(1)
        assert solve(smallest, Budget(variant.cost().params)) == variant
        assert solve(smallest, Budget(variant.cost().macs, "macs")) == variant


@pytest.mark.parametrize(
    ("rounding", "phi", "name"),
    [
        ("nearest", 0, "192-12-768"),
        ("nearest", 1, "256-13-1024"),  # width' = 261.12, depth' = 13.08
        ("nearest", 2, "384-14-1536"),  # width' = 355.12, depth' = 14.26
        ("floor", 2, "320-14-1280"),
        ("budget", 2, "384-12-1536"),
        ("equal-size", 1, "256-13-1112"),
    ],
)
def test_roundings_from_ti_with_the_best_pair_of_internimage(
    rounding: str, phi: int, name: str
) -> None:
    variant, note = TI.grow(1.09, 1.36, phi, rounding)
    assert variant.name == name
    assert bool(note) == (phi > 0)


def test_growth_keeps_the_switches_and_says_what_was_rounded() -> None:
    variant, note = replace(TI, patch=8, grid=28).grow(1.09, 1.36, 1, "nearest")
    assert variant == ViT(256, 13, 1024, patch=8, grid=28)
    assert note == (
        "width 261.1 -> 256, depth 13.1 -> 13, MLP width 1044.5 -> 1024 (rounding 'nearest')"
    )
    assert TI.grow(1.5, 2.0, 1, "floor") == (ViT(384, 18, 1536), "")


def test_the_mlp_width_stays_a_multiple_of_what_it_was() -> None:
    """Of 8 at most: 66 is a multiple of 2, so 1.5 times 66 is rounded to 100, and 100 to 152."""
    origin = ViT(32, 1, 66, head_dim=16)
    widths = [replace(origin, mlp_width=w).resized(1, 48).mlp_width for w in (64, 66, 100, 3)]
    assert widths == [96, 100, 152, 5]
    assert "MLP width 99.0 -> 100" in origin.grow(1.0, 1.5, 1, "nearest")[1]


@pytest.mark.parametrize("axis", ["params", "macs"])
def test_the_factor_is_that_of_the_unrounded_step(axis: str) -> None:
    """Doubling both widths at constant depth multiplies the cost by 2^exponent."""
    wide, cost = getattr(ViT(1536, 12, 6144).cost(), axis), getattr(B.cost(), axis)
    assert B.growth_factor(1.0, 2.0, axis)[0] == pytest.approx(wide / cost)
    assert growth_note(1.09, 1.36, B) == ""


@pytest.mark.parametrize("rounding", ROUNDING_NAMES)
def test_ladders_from_a_small_origin(rounding: str) -> None:
    origin = ViT(64, 6, 256, patch=4, head_dim=16, grid=8)
    rungs = ladder(origin, 1.09, 1.36, Budget.parse("10M"), rounding)
    sizes = [rung.cost.params for rung in rungs if rung.cost]
    assert len(rungs) >= 5
    assert sizes == sorted(sizes)
    assert all(rung.variant and rung.variant.width % 16 == 0 for rung in rungs)
    if rounding == "equal-size":
        assert sizes[2] == pytest.approx(4 * sizes[0], rel=0.01)
    assert scaled_cell(B, 1.09, 1.36, 0, rounding).paper == B.published()


def test_equal_sizes_keep_the_mlp_width_near_its_ratio() -> None:
    """Of the networks of the best shape, the one whose ratio is the closest to the origin's."""
    variant, _ = TI.grow(1.15, 1.32, 2, "equal-size")
    assert 0.75 * 4 <= variant.mlp_width / variant.width <= 1.25 * 4
    size = 4 * TI.cost().params
    others = (replace(variant, mlp_width=width) for width in range(8, 4000, 8))
    sized = [v for v in others if abs(v.cost().params / size - 1) <= 0.01]
    assert variant == min(sized, key=lambda v: abs(v.mlp_width - 4 * v.width))
    shapes = list(ViT(64, 5, 32).shapes(64))
    assert [(v.depth, v.mlp_width) for v in shapes] == [(1, 32), (1, 40), (1, 24)]


def test_a_size_without_a_network_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"MLP width within 25% of 0\.00391 times it is within 1%"):
        ViT(256, 1, 1, head_dim=256).grow(1.0, 1.5, 2, "equal-size")


def test_the_recipe_sets_drop_path() -> None:
    recipe = replace(resolve("quick"), drop_path=0.2)
    model = ViT(16, 3, 8, head_dim=8).build_for(5, recipe)
    rates = [m.rate for m in model.modules() if isinstance(m, DropPath)]
    assert (rates[0], rates[-1]) == (0.0, 0.2)


def test_only_matrices_and_kernels_have_weight_decay() -> None:
    model = ViT(16, 2, 8, head_dim=8).build(5)
    decayed, others = build_optimizer(model, resolve("quick")).param_groups
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert {id(p) for p in decayed["params"]} == matrices
    assert {id(model.cls_token), id(model.pos_embed)} <= {id(p) for p in others["params"]}


def test_planning_loads_no_torch() -> None:
    code = (
        "import sys; from archsearch.families.vit import ViT as V; V(64, 1, 64).cost(); "
        "V(64, 1, 64).grow(1.1, 1.3, 1, 'budget'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_trains_and_its_records_are_read_back(tmp_path: Path) -> None:
    """It needs more steps than a convolutional network, so batches are small."""
    recipe = resolve("quick", {"epochs": "3", "batch_size": "16", "lr": "2e-3"})
    like = ViT.template(patch=8, head_dim=16, grid=4)
    cells = plan(Space(like, {"width": (64,), "mlp_width": (64, 96)}), Budget.parse("0.105M"))
    study = Study("vit", "How wide?", "here", cells, recipe)
    folder = StudyFolder(tmp_path / "v").create(study, describe("digits", recipe.val_fraction))
    run_study(folder, folder.trials(), runner="inline", device="cpu")
    results = load(folder.path)
    assert [t.trial.variant.name for t in results.trials] == ["64-1-64", "64-1-96"]
    accuracies = [t.record.metrics["val_accuracy"] for t in results.trials if t.record]
    assert len(accuracies) == 2
    assert min(accuracies) > 30, accuracies
    assert results.study == study
