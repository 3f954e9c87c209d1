"""The benchmark of planning has families that can be trained, and 1,000 cells of each."""

from math import prod

import pytest

from archsearch.benchmarks import planning
from archsearch.benchmarks.own_families.cnn import CNN
from archsearch.benchmarks.own_families.resnet import ResNet
from archsearch.benchmarks.own_families.vit import ViT
from archsearch.core.family import Family
from archsearch.core.recipes import resolve
from archsearch.space.trainable import check_variant


def test_every_plan_has_a_thousand_cells() -> None:
    assert {prod(map(len, plan.axes.values())) for plan in planning.PLANS} == {1000}
    assert planning.PLANS[0].options(20)[3].count(",") == 1


@pytest.mark.parametrize("variant", [CNN(8, 3, 4, 2), ResNet(8, 1, 8, 2), ViT(2, 8, 2, 7, 2)])
def test_the_families_can_be_trained(variant: Family) -> None:
    check_variant(variant, resolve("quick", {}))


@pytest.mark.slow
def test_the_first_plan_and_the_kept_one_are_the_same() -> None:
    rows = list(planning.rows(20))
    assert [row["cells"] for row in rows] == [20, 20, 50, 100, 100]
    assert all(row["kept_cpu_seconds"] < row["first_cpu_seconds"] for row in rows)  # type: ignore[operator]
