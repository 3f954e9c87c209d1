"""What a plan can decide, from records or a given noise: the command, the call and the quote."""

import json
from pathlib import Path
from typing import Any

import pytest

import archsearch
from archsearch.api.power import power_line
from archsearch.core.budget import Budget
from archsearch.core.recipes import QUICK
from archsearch.core.task import Data
from archsearch.storage.study_folder import StudyFolder
from archsearch.studies import grid

RESULTS = Path(__file__).parents[2] / "studies/results"
GRID, TABLE_C = RESULTS / "grid-2.2M-cifar10", RESULTS / "table-c-cifar10"
STACKING: dict[str, Any] = {"budget": "2.2M", "c1": [16], "group_channels": [4, 8]}


def effects(**options: Any) -> dict[tuple[str, int], float]:
    rows = archsearch.power(**options).rows()
    return {(row["contrast"], row["seeds"]): row["smallest_effect"] for row in rows}


def test_the_noise_of_the_published_grid_is_that_of_the_wider_networks() -> None:
    """The audit's residual deviation is .80 points for C1 >= 16."""
    wide = archsearch.power(GRID, c1=[16, 20, 24], group_channels=[4, 8])
    assert wide.noise.deviation == pytest.approx(0.80, abs=0.005)
    assert "15 networks in the range of the plan" in wide.noise.source
    assert archsearch.power(GRID).noise.deviation == pytest.approx(1.09, abs=0.005)


def test_table_c_finds_what_the_audit_says() -> None:
    found = effects(run=TABLE_C, seeds=[3, 24])
    assert found["two pairs (alpha, beta)", 24] == pytest.approx(0.56, abs=0.005)
    assert found["two pairs (alpha, beta)", 3] == pytest.approx(1.9, abs=0.05)


def test_of_several_steps_the_one_that_is_the_hardest_to_find_is_printed() -> None:
    """C1 20 → 24 shares few cells with the others in the published grid."""
    answer = archsearch.power(GRID, seeds=[3])
    assert [contrast.label for contrast in answer.contrasts] == [
        "each step of C1", "C' 4 → 8", "each step of L1", "L1 = 4 against the others",
        "slope of L1, per block",
    ]  # fmt: skip
    step = {row["contrast"]: row["alone"] for row in answer.rows()}
    assert step["each step of C1"] > 1.5 * step["C' 4 → 8"]


def test_a_planned_grid_needs_no_run() -> None:
    found = effects(sd=0.8, seeds=[12], tests=1, **STACKING)
    assert found["C' 4 → 8", 12] == pytest.approx(0.42, abs=0.01)
    assert found["L1 = 4 against the others", 12] == pytest.approx(0.52, abs=0.005)
    assert found["slope of L1, per block", 12] == pytest.approx(0.15, abs=0.005)


def test_a_narrow_plan_takes_the_noise_of_all_networks() -> None:
    """Two networks with three seeds have two degrees of freedom."""
    answer = archsearch.power(GRID, c1=[20, 24], group_channels=[4], l1=[1, 2])
    assert "20 networks, 38 degrees" in answer.noise.source


def test_the_cheapest_design_has_only_the_networks_of_the_contrast() -> None:
    answer = archsearch.power(GRID, c1=[16], group_channels=[4, 8], effect=0.5)
    designs = {row["contrast"]: row for row in answer.designs()}
    step = designs["each step of L1"]
    assert step["networks"] == 4
    assert step["trainings"] == 4 * step["seeds"]
    assert step["hours"] == pytest.approx(step["trainings"] * answer.noise.seconds / 3600)


def test_the_command_prints_effects_trainings_and_hours(run_cli: Any) -> None:
    _, out, err = run_cli("power", str(GRID), "--seeds", "3,12", "--effect", "0.5")
    assert "C' 4 → 8" in out
    assert "hours on one worker" in out
    assert "Cheapest design for 0.5 points" in out
    assert "deviation of the noise is 1.09 points" in err
    _, out, _ = run_cli("power", "--sd", "0.8", "--pairs", "5", "--format", "json")
    answer = json.loads(out)
    assert answer["deviation"] == 0.8
    assert answer["effects"][0]["hours"] is None


def test_all_wrong_options_are_named_together() -> None:
    with pytest.raises(ValueError, match="5 errors") as error:
        archsearch.power(seeds="1,2", tests=0, effect=-1.0, pairs=5, c1=[16])
    for part in ("tests must be", "effect must be", "or sd", "cannot be combined", "got 1"):
        assert part in str(error.value)


def test_a_run_with_one_seed_has_no_noise(tmp_path: Path) -> None:
    folder = planned(tmp_path, seeds=(0, 1, 2))
    with pytest.raises(ValueError, match="the noise of training is unknown"):
        archsearch.power(folder.path)


def test_a_plan_that_compares_no_numbers_is_an_error() -> None:
    with pytest.raises(ValueError, match="the plan compares no numbers"):
        archsearch.power(RESULTS / "ladder-cifar10", sd=1.0)


def planned(path: Path, seeds: tuple[int, ...]) -> StudyFolder:
    study = grid.study(
        recipe=QUICK, budget=Budget(2_200_000), c1=(16,), group_channels=(4, 8), seeds=seeds
    )
    data = Data("digits", "f" * 16, 10, 1, num_train=8, num_val=4, num_test=4)
    return StudyFolder(path / "run").create(study, data, ("archsearch", "grid"))


def test_the_quote_says_what_the_plan_finds_and_that_the_noise_is_assumed(tmp_path: Path) -> None:
    line = power_line(planned(tmp_path, seeds=(0, 1, 2)))
    assert line.startswith("Power: with 3 seeds this study finds C' 4 → 8 from 0.9, ")
    assert "slope" not in line, "it is in points per block, not in points"
    assert "deviation 0.8 assumed, as on our CIFAR-10 grid" in line


def test_the_quote_of_one_seed_says_that_it_finds_nothing(tmp_path: Path) -> None:
    assert "one seed per network shows no effect" in power_line(planned(tmp_path, seeds=(0,)))


def test_the_quote_takes_the_noise_of_the_folder() -> None:
    line = power_line(StudyFolder(GRID))
    assert "deviation 1.1 from grid-2.2M-cifar10, 20 networks, 38 degrees of freedom" in line
    assert power_line(StudyFolder(RESULTS / "ladder-cifar10")) == ""
