"""Recipes: errors list every wrong field, Table B equals the paper's, --set values are typed."""

import json
from dataclasses import fields, replace

import pytest

from archsearch.core.recipe import Recipe
from archsearch.core.recipes import CIFAR, QUICK, RECIPES, TABLE_B, TABLE_B_NOT_IN_RECIPE, resolve
from archsearch.core.task import Data
from archsearch.families.internimage import Variant
from archsearch.study import Trial

# Table B of the supplement, row by row as printed: columns T, S, B, L pt, L ft, XL pt, XL ft, H.
PRINTED = {
    "image_size": (224, 224, 224, 192, 384, 192, 384, 224),
    "batch_size": (4096, 4096, 4096, 4096, 512, 4096, 512, 512),
    "lr": (4e-3, 4e-3, 4e-3, 1e-3, 2e-5, 1e-3, 2e-5, 2e-5),
    "weight_decay": (0.05,) * 8,
    "warmup_epochs": (5, 5, 5, 5, 0, 5, 0, 0),
    "epochs": (300, 300, 300, 90, 20, 90, 20, 20),
    "flip": (True,) * 8,
    "crop": ("resized",) * 8,
    "auto_augment": (True,) * 8,
    "mixup": (0.8, 0.8, 0.8, 0.8, 0, 0.8, 0, 0),
    "cutmix": (1.0, 1.0, 1.0, 1.0, 0, 1.0, 0, 0),
    "erasing": (0.25, 0.25, 0.25, 0.25, 0, 0.25, 0, 0),
    "color_jitter": (0.4,) * 8,
    "label_smoothing": (0.1, 0.1, 0.1, 0.1, 0.3, 0.1, 0.3, 0.3),
    "drop_path": (0.1, 0.4, 0.5, 0.1, 0.1, 0.2, 0.2, 0.2),
    "clip_norm": (5.0,) * 8,
}
COLUMNS = ("T", "S", "B", "L-pt", "L-ft", "XL-pt", "XL-ft", "H-224")


@pytest.mark.parametrize("row", PRINTED)
def test_table_b_equals_the_papers(row):
    assert tuple(getattr(TABLE_B[c], row) for c in COLUMNS) == PRINTED[row]


def test_table_b_has_h_at_both_printed_sizes_and_lists_rows_without_a_field():
    assert TABLE_B["H-640"] == replace(TABLE_B["H-224"], name="table-b-H-640", image_size=640)
    rows = {"optimizer", "LR schedule", "loss", "dropout", "repeated aug", "layer scale"}
    assert rows <= set(TABLE_B_NOT_IN_RECIPE)


def test_table_b_uses_the_column_of_the_model():
    assert resolve("table-b") == TABLE_B["T"]
    assert resolve("table-b", model="XL") == TABLE_B["XL-pt"]
    assert resolve("table-b", model="64-16-4-18") == TABLE_B["T"]
    assert resolve("table-b-L-ft") == TABLE_B["L-ft"]


def test_every_recipe_is_reachable_by_its_name():
    assert all(resolve(name).name == name for name in RECIPES)


def test_overrides_are_typed():
    recipe = resolve(
        "quick",
        {
            "epochs": "7",
            "lr": "1e-4",
            "flip": "yes",
            "crop": "pad",
            "layer_scale": "none",
            "precision": "bf16",
        },
    )
    changed = {"epochs": 7, "lr": 1e-4, "flip": True, "crop": "pad", "precision": "bf16"}
    assert recipe == replace(QUICK, layer_scale=None, **changed)


def test_every_wrong_override_is_reported():
    overrides = {"epoch": "3", "flip": "maybe", "batch_size": "3.5", "nonsense": "1"}
    with pytest.raises(ValueError, match="no recipe") as error:
        resolve("fast", overrides)
    message = str(error.value)
    for part in ("'fast'", "quick, cifar, table-b", "'epoch' (did you mean epochs?)", "'maybe'"):
        assert part in message
    assert "batch_size must be a whole number up to 1,000,000,000, got '3.5'" in message
    assert "no field 'nonsense'; known: epochs" in message


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("epochs", True),
        ("batch_size", -1),
        ("batch_size", 1),
        ("image_size", 0),
        ("threads", 0),
        ("lr", 0),
        ("lr", "fast"),
        ("lr", float("nan")),
        ("lr", None),
        ("lr", float("inf")),
        ("weight_decay", -0.1),
        ("warmup_epochs", -1),
        ("warmup_epochs", 3),
        ("label_smoothing", 1),
        ("clip_norm", 0),
        ("drop_path", 1),
        ("layer_scale", 0),
        ("ema_decay", 1),
        ("precision", "fp8"),
        ("val_fraction", 1),
        ("data_fraction", 0),
        ("data_fraction", 1.1),
        ("flip", 1),
        ("crop", "middle"),
        ("auto_augment", "rand"),
        ("color_jitter", -1),
        ("erasing", 1.1),
        ("mixup", -1),
        ("cutmix", float("inf")),
    ],
)
def test_a_wrong_value_is_rejected_by_field_name(field, bad):
    with pytest.raises(ValueError, match=f"quick.*{field}.*{bad}"):
        replace(QUICK, **{field: bad})


@pytest.mark.parametrize("field", ["lr", "epochs", "threads"])
@pytest.mark.parametrize("power", [400, 5000])
def test_a_number_that_no_computation_holds_is_rejected(field, power):
    with pytest.raises(ValueError, match=rf"quick.*{field} must be a finite number.*, got a num"):
        replace(QUICK, **{field: 10**power})
    assert replace(QUICK, lr=1e30).lr == 1e30  # diverges, which is a result


def test_all_wrong_fields_of_a_recipe_are_reported_together():
    with pytest.raises(ValueError, match=r"epochs .*; batch_size .*; lr .*; crop "):
        Recipe(name="x", epochs=0, batch_size=0, image_size=32, lr=-1, crop="middle")


def test_whole_numbers_become_floats():
    """1 and 1.0 must give the same trial: JSON may return either."""
    assert [type(getattr(replace(QUICK, lr=1), f.name)) for f in fields(Recipe)] == [
        type(getattr(replace(QUICK, lr=1.0), f.name)) for f in fields(Recipe)
    ]


def test_the_recipe_sets_layer_scale_only_where_the_variant_has_it():
    plain = Variant(16, 8, 1, 1).config_for(10, CIFAR)
    scaled = Variant(16, 8, 1, 1, norm="post", layer_scale=1e-5).config_for(10, CIFAR)
    assert (plain.layer_scale, scaled.layer_scale) == (None, CIFAR.layer_scale)
    assert (scaled.num_classes, scaled.drop_path) == (10, CIFAR.drop_path)
    unset = replace(CIFAR, layer_scale=None)
    variant = Variant(16, 8, 1, 1, norm="post", layer_scale=1e-5)
    assert variant.config_for(10, unset).layer_scale == 1e-5


def test_fields_of_other_schedules_keep_the_identity_of_older_trials():
    """They are stored only where they are set, as lists, and are read back."""
    new = {"schedule", "lr_drops", "warmup_steps", "layer_decay", "shorter_sides", "longer_side"}
    new |= {"anchor_scale", "sampled_boxes", "gradient_checkpointing"}
    assert not QUICK.to_dict().keys() & new
    changes = {"schedule": "steps", "lr_drops": "1,2", "warmup_epochs": "0", "warmup_steps": "5"}
    recipe = resolve("quick", {**changes, "epochs": "3"})
    stored = json.loads(json.dumps(recipe.to_dict()))
    assert stored["lr_drops"] == [1, 2]
    assert Recipe(**stored) == recipe
    data = Data("digits", "f", 10, 1, 1, 1, 1)
    assert Trial(Variant(16, 8, 1, 1), QUICK, data, 0).id == "70e5abfa67aeda2a"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr_drops": "8,x"}, "lr_drops must be .* or several"),
        ({"lr_drops": "2"}, r"the schedule cosine has lr_drops \[2\]"),
        ({"schedule": "steps"}, r"the schedule steps has lr_drops \[\]"),
        ({"schedule": "linear"}, "schedule must be one of cosine, steps, poly"),
        ({"warmup_steps": "5"}, "warmup_steps and warmup_epochs are both set"),
        ({"shorter_sides": "0"}, "shorter_sides must be 1 or more"),
        ({"anchor_scale": "0"}, "anchor_scale must be more than 0"),
        ({"sampled_boxes": "0"}, "sampled_boxes must be 1 or more"),
        ({"layer_decay": "1.1"}, "layer_decay must be more than 0, at most 1"),
    ],
)
def test_wrong_schedules_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        resolve("quick", changes)
