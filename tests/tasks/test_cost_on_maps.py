"""A task's closed form is equal to the count of the built network with its head."""

from dataclasses import dataclass

import pytest

from archsearch.core.family import Family
from archsearch.core.task import Data
from archsearch.families.convnext import ConvNeXt
from archsearch.tasks.annotated import OnMaps
from archsearch.tasks.detection import Detection
from archsearch.tasks.segmentation import Segmentation

DATA = Data("none", "", num_classes=7, channels=3, num_train=1, num_val=1, num_test=1)


@dataclass(frozen=True)
class BuiltOnly(ConvNeXt):
    """A family whose maps have no closed form."""

    feature_maps = Family.feature_maps


@pytest.mark.parametrize(
    "task", [Detection(width=8), Detection("cascade-mask-rcnn", 16), Segmentation(width=24)]
)
def test_the_closed_form_of_a_task_is_the_count_of_its_network(task: OnMaps) -> None:
    cost = task.cost(ConvNeXt(8, 1, 2), DATA, 75, 110)
    assert cost == task.cost(BuiltOnly(8, 1, 2), DATA, 75, 110)
    assert cost.image_size == (75, 110)
    assert cost != task.cost(ConvNeXt(8, 1, 2), DATA, 75, 150)
