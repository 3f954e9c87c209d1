"""What a recipe sets and a task does not use is refused, whatever the task."""

from dataclasses import replace
from typing import Any

import pytest

from archsearch.core.recipes import QUICK
from archsearch.core.task import Task
from archsearch.tasks.classification import CLASSIFICATION
from archsearch.tasks.detection import Detection
from archsearch.tasks.recipes import DETECTION_RECIPES, SEGMENTATION_RECIPES
from archsearch.tasks.segmentation import Segmentation

OTHER: dict[str, Any] = {
    "label_smoothing": 0.2, "auto_augment": True, "color_jitter": 0.4, "erasing": 0.1,
    "mixup": 0.8, "cutmix": 1.0, "shorter_sides": (64,), "longer_side": 99, "anchor_scale": 4.0,
    "sampled_boxes": 64,
}  # fmt: skip
TASKS = [CLASSIFICATION, Detection(), Detection("dino", 64), Segmentation()]


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_every_unused_field_is_refused_by_name(task: Task) -> None:
    recipe = replace(QUICK, **{n: OTHER[n] for n in task.unused()})
    with pytest.raises(ValueError, match=f"does not use {', '.join(task.unused())} of a recipe"):
        task.check_recipe(recipe)


def test_it_is_refused_before_data_is_read() -> None:
    with pytest.raises(ValueError, match="classification does not use sampled_boxes of a recipe"):
        CLASSIFICATION.describe("nowhere", replace(QUICK, sampled_boxes=64))


@pytest.mark.parametrize("task", [Detection(), Segmentation()], ids=str)
def test_a_padded_crop_is_refused_on_maps(task: Task) -> None:
    with pytest.raises(ValueError, match="crop=pad is for classification"):
        task.describe("nowhere", replace(QUICK, crop="pad"))


def test_no_recipe_sets_what_its_task_ignores() -> None:
    for recipe in DETECTION_RECIPES.values():
        Detection("dino" if "dino" in recipe.name else "mask-rcnn").check_recipe(recipe)
    for recipe in SEGMENTATION_RECIPES.values():
        Segmentation().check_recipe(recipe)
