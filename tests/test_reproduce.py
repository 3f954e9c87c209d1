"""Reproduction of a cell: the same seed gives the same number, a new one is in the interval."""

import json
from pathlib import Path

import pytest

from archsearch.core.budget import Budget
from archsearch.core.recipes import QUICK, resolve
from archsearch.networks import find_cell
from archsearch.reproduce import Reproduction, differences_of, reproduce
from archsearch.results import assemble
from archsearch.running.run import run_study
from archsearch.stats.intervals import Interval
from archsearch.storage.study_folder import StudyFolder
from archsearch.studies import grid, kernel_size
from archsearch.study import Record
from archsearch.training.data import describe
from tests.golden import DATA
from tests.stored import edit


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train one small cell with two seeds."""
    recipe = resolve("quick", {"epochs": "1", "data_fraction": "0.3"})
    study = grid.study(
        recipe=recipe, budget=Budget.parse("1M"), c1=(16,), group_channels=(8,), l1=(2,),
        seeds=(0, 1),
    )  # fmt: skip
    data = describe("digits", recipe.val_fraction)
    folder = StudyFolder(tmp_path_factory.mktemp("runs") / "run").create(study, data)
    run_study(folder, folder.trials(), runner="inline", device="cpu")
    return folder.path


def test_the_same_seed_gives_the_same_number(run: Path) -> None:
    before = {p: p.read_bytes() for p in run.glob("trials/*/record.json")}
    result = reproduce(run, "best", seed=1, device="cpu")
    assert result.value == result.original
    assert result.agrees
    assert {p: p.read_bytes() for p in run.glob("trials/*/record.json")} == before


def test_a_changed_record_is_not_reproduced(run: Path) -> None:
    path = next(run.glob("trials/*/record.json"))
    original = path.read_text()
    seed = json.loads((path.parent / "spec.json").read_text())["seed"]
    edit(path, lambda record: record["metrics"].update(val_accuracy=99.0))
    try:
        assert reproduce(run, "16-8-2-4", seed=seed, device="cpu").agrees is False
    finally:
        path.write_text(original)


def test_the_error_for_an_unknown_cell_lists_the_cells(run: Path) -> None:
    with pytest.raises(ValueError, match="16-8-2-4"):
        reproduce(run, "64-16-4-18")


def test_labels_distinguish_networks_with_the_same_numbers() -> None:
    results = assemble("kernels", kernel_size.study(recipe=QUICK), DATA, {}, ())
    labels = [cell.label for cell in results.cells]
    assert len(set(labels)) == 3
    for cell in results.cells:
        assert find_cell(results, cell.label) is cell
    numbers = results.cells[0].cell.variant.name if results.cells[0].cell.variant else ""
    with pytest.raises(ValueError, match=f"{numbers} matches 3 networks"):
        find_cell(results, numbers)


@pytest.mark.parametrize(
    ("value", "expected", "agrees"),
    [
        (96.0, Interval(95.0, 94.0, 97.0, 3, "prediction"), True),
        (93.0, Interval(95.0, 94.0, 97.0, 3, "prediction"), False),
        (96.0, Interval(95.0, None, None, 1, "prediction"), None),
        (None, Interval(95.0, 94.0, 97.0, 3, "prediction"), False),
    ],
)
def test_a_new_seed_is_judged_by_the_interval(
    value: float | None, expected: Interval, agrees: bool | None
) -> None:
    assert Reproduction("cell", 7, value, expected, None).agrees is agrees
    elsewhere = Reproduction("cell", 7, value, expected, 95.5, differences=("device A, here B",))
    assert elsewhere.agrees is agrees  # another device: not the digits, but the interval decides


@pytest.mark.parametrize(
    ("device", "versions", "differences"),
    [
        ("cpu (AMD EPYC)", {}, ()),
        ("cpu (Intel Xeon)", {}, ("device cpu (AMD EPYC), here cpu (Intel Xeon)",)),
        ("cpu (AMD EPYC)", {"torch": "2.14.1"}, ("torch 2.13.0, here 2.14.1",)),
        ("cpu (AMD EPYC)", {"operator": "b"}, ("operator a, here b",)),
    ],
)
def test_equal_digits_are_expected_of_the_same_cpu_torch_and_operator_only(
    device: str, versions: dict[str, str], differences: tuple[str, ...]
) -> None:
    def record(device: str, **versions: str) -> Record:
        return Record("id", "complete", device=device, versions={"torch": "2.13.0", **versions})

    first = record("cpu (AMD EPYC)", operator="a")
    assert differences_of(first, record(device, **{"operator": "a", **versions})) == differences
    assert differences_of(record("cpu"), record("cpu")) == ()
    assert differences_of(record("cpu"), record("cpu", operator="a")) == (
        "operator unknown, here a",
    )
    assert differences_of(record("NVIDIA H100"), record("NVIDIA H100")) == (
        "NVIDIA H100 may add in another order each time",
    )
