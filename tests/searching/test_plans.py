"""The two main studies as values: what `archsearch grid` and `archsearch scale` train."""

from dataclasses import replace

import numpy as np
import pytest

from archsearch.core.budget import Budget
from archsearch.core.recipes import RECIPES
from archsearch.core.task import Data
from archsearch.families.internimage import SCALED_ORIGIN, Variant
from archsearch.searching.adaptive_plan import drive
from archsearch.searching.adaptive_seeds import more_seeds
from archsearch.space.grid import plan_rows
from archsearch.storage.request import study_of
from archsearch.studies import grid, scale
from archsearch.study import Record, Study, Trial
from tests import toy

QUICK = RECIPES["quick"]
DATA = Data("digits", "f" * 16, 10, 1, 1000, 200, 300)


def test_the_grid_by_default() -> None:
    study = grid.study(recipe=QUICK)
    assert len(study.cells) == 30
    assert study.axes == ("group_channels", "l1", "c1")
    assert set(study.axes) == set(study.cells[0].requested)
    assert (study.budget, study.data, study.seeds) == (Budget(30_000_000), "digits", (0,))
    assert study.recipe == QUICK


def test_cells_that_repair_to_one_network_share_its_trial() -> None:
    """27 cells can be trained; 5 of them are repaired to the network of another cell."""
    study = grid.study(recipe=QUICK, seeds=(0, 1))
    trained = [cell.variant for cell in study.cells if cell.variant]
    assert (len(trained), len(set(trained))) == (27, 22)
    assert len(study.trials(DATA)) == 44


def test_a_study_without_held_out_images_is_refused() -> None:
    with pytest.raises(ValueError, match="set val_fraction above 0"):
        grid.study(recipe=replace(QUICK, val_fraction=0))


def test_more_seeds_follow_the_direction_of_the_metric() -> None:
    """Error is derived from accuracy and lower is better: the best network is found."""
    study = replace(toy.study(cells=3, seeds=(0, 1)), metric="val_error")
    networks = [cell.variant for cell in study.cells[:3]]
    accuracies = dict(zip(networks, (60.0, 95.0, 70.0), strict=True))
    noise, records = np.random.default_rng(0), dict[str, Record]()

    def run(trials: tuple[Trial, ...]) -> None:
        for t in trials:
            value = accuracies[t.variant] + noise.normal(0, 0.1)
            records[t.id] = Record(t.id, "complete", {"val_accuracy": value})

    outcome = drive(more_seeds(study, DATA, 5), records.get, run)
    assert outcome is not None
    assert outcome.ranking.tied == (networks[1],)
    assert outcome.reason == "one cell is left after 3 seeds"


def test_the_supplement_with_other_values() -> None:
    study = grid.study(
        recipe=QUICK,
        budget=Budget.parse("1M", 0.1),
        preset="supplement",
        l1=(1, 2),
        like=SCALED_ORIGIN,
    )
    assert [cell.requested["c1"] for cell in study.cells[:3]] == [16, 32, 64]
    assert {cell.requested["l1"] for cell in study.cells} == {1, 2}
    assert {cell.variant.norm for cell in study.cells if cell.variant} == {"post"}
    assert study.cells[0].reason == ""


def test_the_grid_refuses_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="space must be one of main, supplement"):
        grid.study(recipe=QUICK, preset="fig-a")
    with pytest.raises(ValueError, match="C1 must be different whole numbers"):
        grid.study(recipe=QUICK, c1=())
    with pytest.raises(ValueError, match="11 of 30 cells are not exact"):
        grid.study(recipe=QUICK, invalid="error")


def test_scale_without_factors_is_table_c() -> None:
    study = scale.study(recipe=QUICK)
    assert study.name == "table-c"
    assert [cell.variant and cell.variant.name for cell in study.cells] == [
        "128-16-4-18", "112-16-4-20", "112-16-4-21", "112-16-4-24", "96-16-5-30",
    ]  # fmt: skip
    assert {cell.variant.norm for cell in study.cells if cell.variant} == {"post"}


def test_table_c_from_another_origin_is_rounded() -> None:
    study = scale.study(recipe=QUICK, origin=Variant(16, 4, 2, 6))
    assert "rounding 'nearest'" in study.cells[0].reason
    assert study.cells[0].paper["accuracy"] == 84.5
    assert study.budget is None  # phi decides the size; 100M is the paper's
    assert scale.study(recipe=QUICK).budget == Budget(100_000_000)


def test_table_c_of_equal_size_has_that_size_as_its_budget() -> None:
    small = Variant(8, 2, 2, 6, norm="post", layer_scale=1e-5)
    study = scale.study(recipe=QUICK, origin=small, rounding="equal-size", phi=3)
    assert study.name == "table-c"
    assert study.budget == Budget(8 * small.cost().params, tolerance=0.01)
    assert {cell.requested["phi"] for cell in study.cells} == {3}
    assert scale.study(recipe=QUICK, phi=3).budget is None
    assert "rounding 'nearest'" in scale.study(recipe=QUICK, phi=3).cells[0].reason
    with pytest.raises(ValueError, match="phi chooses the step of Table C, got 3"):
        scale.study(recipe=QUICK, alpha=1.09, beta=1.36, phi=3)


def test_scale_with_factors_is_a_ladder() -> None:
    study = scale.study(recipe=QUICK, alpha=1.09, beta=1.36, rounding="floor")
    assert study.name == "scale"
    assert [cell.requested["phi"] for cell in study.cells] == [0, 1, 2]
    assert "rounding 'floor'" in study.cells[1].reason


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"alpha": 0.5}, "alpha must be a number >= 1.*; beta is missing"),
        ({"beta": 1.36}, "alpha is missing"),
        ({"alpha": 0.5, "beta": 0.5}, "alpha must be.*; beta must be"),
    ],
)
def test_one_message_for_every_bad_factor(factors: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scale.study(recipe=QUICK, **factors)


@pytest.mark.parametrize("study", [grid.study(recipe=QUICK), scale.study(recipe=QUICK)])
def test_a_stored_study_reads_back_equal(study: Study) -> None:
    back = study_of({**study.to_dict(), "data": {"name": study.data}})
    assert back == study
    assert plan_rows(back.cells) == plan_rows(study.cells)


@pytest.mark.parametrize("module", [grid, scale])
def test_the_question_of_a_study_is_its_docstring(module) -> None:  # type: ignore[no-untyped-def]
    assert module.ABOUT.question == (module.__doc__ or "").splitlines()[0]
    assert module.study(recipe=QUICK).question == module.ABOUT.question
    assert module.ABOUT.question.endswith("?")
