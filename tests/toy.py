"""Small studies and toy work for the tests of folders, runners and faults."""

from archsearch.recipe import Recipe
from archsearch.study import Cell, Data, Study
from archsearch.variant import Variant

DATA = Data("toy", "f" * 16, num_classes=10, channels=1, num_train=8, num_val=4, num_test=4)


def recipe(**changes: object) -> Recipe:
    values: dict[str, object] = {"epochs": 3, "batch_size": 4, "image_size": 8, "lr": 0.1}
    return Recipe("toy", **{**values, **changes})  # type: ignore[arg-type]


def cell(l1: int) -> Cell:
    variant = Variant(16, 16, l1, l1 + 3)
    return Cell(asked={"c1": 16, "l1": l1}, fate="exact", variant=variant, cost=None)


def study(cells: int = 3, seeds: tuple[int, ...] = (0,), **changes: object) -> Study:
    """A study of ``cells`` different networks, one of them asked for twice, one infeasible."""
    twice = Cell({"c1": 17, "l1": 1}, "repaired", Variant(16, 16, 1, 4), None, "17 -> 16")
    never = Cell({"c1": 15, "l1": 1}, "infeasible", None, None, "odd")
    return Study(
        name="toy",
        question="Does it run?",
        source="tests",
        cells=(*(cell(l1) for l1 in range(1, cells + 1)), twice, never),
        recipe=recipe(**changes),
        data="toy",
        seeds=seeds,
        axes=("c1", "c1", "l1"),
    )
