"""The small twin that is offered before a long grid."""

from dataclasses import replace
from pathlib import Path

import pytest

from archsearch.api.options import Training
from archsearch.api.requests import Grid
from archsearch.api.twin import first_look, twin_command
from archsearch.core.budget import Budget
from archsearch.core.task import Data
from archsearch.storage.resume import without
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Study

DEFAULT = ["archsearch", "grid", "--budget", "30M"]
TWIN = [*DEFAULT[:2], "--budget", "1M", "--c1", "8,12,16", "--group-channels", "4,8"]


def study(seeds: str = "1", budget: str = "30M", **changes: str) -> Study:
    training = Training(seeds=seeds, set=changes)
    return Grid(budget=budget).study(training)


def test_the_twin_of_the_default_grid_keeps_its_epochs_and_has_cells_to_train() -> None:
    assert twin_command(study(), DEFAULT, seconds=480) == TWIN
    values = {"c1": "8,12,16", "group_channels": "4,8"}
    twin = Grid(budget="1M", values=values).study(Training())
    assert len({cell.variant for cell in twin.cells if cell.variant}) == 16


def test_what_else_the_command_had_is_kept_except_what_makes_it_long_or_its_folder() -> None:
    own = ["--data", "cifar10", "--set", "flip=true", "--workers=2", "--l1", "1,2"]
    command = [*DEFAULT, *own, "--out", "runs/x", "--seeds=3", "--extend", "--c1", "48,64,80"]
    assert twin_command(study("3"), command, 900) == [*TWIN[:2], *own, *TWIN[2:]]


@pytest.mark.parametrize(
    ("epochs", "seconds", "shorter"),
    [
        ("2", 1000, ["--epochs", "1"]),  # half of 200 s
        ("10", 2500, ["--epochs", "2"]),
        ("1", 1000, ["--set", "data_fraction=0.5"]),
        ("3", 3000, ["--epochs", "1", "--set", "data_fraction=0.5"]),
    ],
)
def test_a_longer_study_has_a_twin_of_fewer_epochs_and_images(
    epochs: str, seconds: float, shorter: list[str]
) -> None:
    assert twin_command(study(epochs=epochs), DEFAULT, seconds) == [*TWIN, *shorter]


def test_nothing_is_offered_where_the_twin_would_learn_nothing() -> None:
    assert twin_command(study(), DEFAULT, seconds=200_000) == []


def test_a_budget_of_multiply_adds_stays_one() -> None:
    own = replace(study(), budget=Budget.parse("6G macs"))
    command = twin_command(own, DEFAULT, 480)
    assert command[command.index("--budget") + 1] == "200Mmacs"
    assert Budget.parse("200Mmacs") == Budget(200_000_000, "macs")


def test_options_are_left_out_in_both_forms() -> None:
    command = ["x", "--out=a", "--out", "b", "--extend", "--data", "--out"]
    assert without(command, ["--out"], ["--extend"]) == ["x", "--data"]


def test_only_a_long_grid_gets_a_first_look(tmp_path: Path) -> None:
    data = Data("digits", "0" * 16, 10, 1, 1000, 300, 300)
    folder = StudyFolder(tmp_path / "grid").create(study(), data, DEFAULT)
    assert first_look(folder, 300) == ""
    text = first_look(folder, 301)
    assert text.splitlines()[1].strip() == " ".join(TWIN)
    assert "not which cell is best" in text
    other = StudyFolder(tmp_path / "run").create(study(), data, ["archsearch", "run", "x.py"])
    assert first_look(other, 301) == ""
