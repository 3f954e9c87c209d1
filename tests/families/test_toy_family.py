"""A user-defined family is solved, counted, trained, stored and read back without other edits."""

from pathlib import Path

import pytest

from archsearch.core.budget import Budget
from archsearch.core.meta_cost import count_module
from archsearch.core.recipes import resolve
from archsearch.families.internimage import ORIGIN, SCALED_ORIGIN, Variant
from archsearch.results import load
from archsearch.running.run import run_study
from archsearch.space.grid import Space, plan, plan_rows
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Study
from archsearch.training.data import describe
from tests.families.toy_family import Net

BUDGET = Budget.parse("50K")
SPACE = Space(Net(16, 1), {"width": (16, 24, 33)})


def test_the_file_is_short() -> None:
    assert len(Path(__file__).with_name("toy_family.py").read_text().splitlines()) <= 40


def test_the_cells_are_solved_by_counting_the_built_network() -> None:
    cells = plan(SPACE, BUDGET)
    # (50,000 - 17 * 1000 - 49 * 16) / (145 * 16) = 13.9; (50,000 - 25,000 - 1,176) / 5,208 = 4.6
    assert [c.variant and c.variant.name for c in cells] == ["16-14", "24-5", None]
    assert [c.fate for c in cells] == ["exact", "exact", "infeasible"]
    assert cells[2].reason == "width must be even, got 33"
    cost = Net(16, 3).cost(32, num_classes=10)
    by_hand = 16 * (3 * 16 + 1) + 3 * 16 * (16 * 9 + 1) + 10 * 17
    assert cost.params == by_hand
    assert cost.macs == 8 * 8 * 16 * 48 + 3 * 8 * 8 * 16 * 16 * 9 + 160
    assert cost.activations == 8 * 8 * 16 * 4 + 10


@pytest.mark.parametrize("variant", [ORIGIN, SCALED_ORIGIN, Variant(16, 8, 1, 2, kernel_size=5)])
def test_counting_on_the_meta_device_equals_the_closed_form(variant: Variant) -> None:
    assert count_module(lambda: variant.build(1000), 96, 64) == variant.cost(96, 64)


def test_it_trains_and_its_records_are_read_back(tmp_path: Path) -> None:
    recipe = resolve("quick", {"epochs": "1", "data_fraction": "0.1"})
    study = Study("toy", "How wide?", "here", plan(SPACE, BUDGET), recipe)
    folder = StudyFolder(tmp_path / "toy").create(study, describe("digits", recipe.val_fraction))
    run_study(folder, folder.trials(), runner="inline", device="cpu")
    results = load(folder.path)
    assert [t.trial.variant for t in results.trials] == [Net(16, 14), Net(24, 5)]
    assert {t.state for t in results.trials} == {"complete"}
    assert [row["width"] for row in plan_rows(results.study.cells)] == [16, 24, 33]
    assert [row["depth"] for row in results.rows()] == [14, 5, None]
    assert results.study == study
