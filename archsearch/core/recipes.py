"""The recipes of classifiers by name: Table B, and two for small images."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from archsearch.core.recipe import Recipe, parse_field


def _table_b(column: str, **values: Any) -> Recipe:
    """One column of Table B: the values that all columns share, overridden by ``values``."""
    shared: dict[str, Any] = {
        "batch_size": 4096,
        "lr": 4e-3,
        "weight_decay": 0.05,
        "warmup_epochs": 5,
        "epochs": 300,
        "image_size": 224,
        "flip": True,
        "crop": "resized",
        "auto_augment": True,
        "mixup": 0.8,
        "cutmix": 1.0,
        "erasing": 0.25,
        "color_jitter": 0.4,
        "label_smoothing": 0.1,
        "clip_norm": 5.0,
        # Not in Table B: precision, and a validation split to rank models (the paper has none).
        "precision": "bf16",
        "val_fraction": 0.02,
    }
    return Recipe(name=f"table-b-{column}", **{**shared, **values})


_FINE_TUNING: dict[str, Any] = {
    "batch_size": 512,
    "lr": 2e-5,
    "warmup_epochs": 0,
    "epochs": 20,
    "mixup": 0.0,
    "cutmix": 0.0,
    "erasing": 0.0,
    "label_smoothing": 0.3,
}
_22K: dict[str, Any] = {"image_size": 192, "lr": 1e-3, "epochs": 90}

TABLE_B: dict[str, Recipe] = {
    "T": _table_b("T", drop_path=0.1),
    "S": _table_b("S", drop_path=0.4),
    "B": _table_b("B", drop_path=0.5),
    "L-pt": _table_b("L-pt", drop_path=0.1, **_22K),
    "L-ft": _table_b("L-ft", drop_path=0.1, image_size=384, **_FINE_TUNING),
    "XL-pt": _table_b("XL-pt", drop_path=0.2, **_22K),
    "XL-ft": _table_b("XL-ft", drop_path=0.2, image_size=384, **_FINE_TUNING),
    "H-224": _table_b("H-224", drop_path=0.2, image_size=224, **_FINE_TUNING),
    "H-640": _table_b("H-640", drop_path=0.2, image_size=640, **_FINE_TUNING),
}
"""Table B column by column: IN-1K (T, S, B), IN-22K pre-training (pt), IN-1K fine-tuning (ft,
H)."""

_TABLE_B_DEFAULT = {"L": "L-pt", "XL": "XL-pt", "H": "H-224"}

TABLE_B_NOT_IN_RECIPE: dict[str, str] = {
    "optimizer": "AdamW in every column: the training loop has no other",
    "LR schedule": "cosine in every column: the training loop has no other",
    "loss": "cross entropy in every column: the training loop has no other",
    "dropout": "none in any column, and none in the training loop",
    "repeated aug": "none in any column, and none in the training loop",
    "layer scale": "a switch of the model (none for T); the paper does not print its value; the "
    "released models use 1e-5",
    "auto augment": "the paper does not say which; these recipes use RandAugment (2 operations, "
    "magnitude 9)",
    "data": "T, S, B train on ImageNet-1K; L and XL pre-train on ImageNet-22K (pt) and fine-tune "
    "on ImageNet-1K from those weights (ft); H fine-tunes weights from 427M joint images",
    "precision": "not printed; these recipes use bf16",
    "validation split": "not printed; these recipes hold out 2% of the training images",
}
"""Rows of Table B without a field in `Recipe`, and choices that the paper leaves open."""

QUICK = Recipe(
    name="quick",
    epochs=2,
    batch_size=64,
    image_size=32,
    lr=5e-4,
    warmup_epochs=0.3,
    layer_scale=0.1,
    val_fraction=0.2,
)
"""The default: digits on two CPU cores, minutes for a complete grid of 30M models."""

CIFAR = Recipe(
    name="cifar",
    epochs=20,
    batch_size=128,
    image_size=32,
    lr=1e-3,
    warmup_epochs=1,
    layer_scale=0.1,
    flip=True,
    crop="pad",
    mixup=0.2,
    cutmix=0.2,
    drop_path=0.05,
)
"""Images of CIFAR's size, 32x32, for 5 to 50 epochs; on a GPU add ``precision=bf16``."""

RECIPES: dict[str, Recipe] = {
    "quick": QUICK,
    "cifar": CIFAR,
    **{recipe.name: recipe for recipe in TABLE_B.values()},
}


def resolve(
    name: str,
    overrides: Mapping[str, str] | None = None,
    model: str = "T",
    recipes: Mapping[str, Recipe] = RECIPES,
) -> Recipe:
    """The recipe called ``name``, with fields overridden by strings from ``key=value`` options.

    ``table-b`` is the column of ``model`` (T, S, B, L, XL, H; T's column for any other variant).
    The value ``none`` unsets an optional field.

    Raises:
        ValueError: lists an unknown recipe, every unknown field and every invalid value.
    """
    problems = []
    recipe = TABLE_B.get(_TABLE_B_DEFAULT.get(model, model), TABLE_B["T"])
    names = _names() if recipes is RECIPES else list(recipes)
    if name != "table-b" or name not in names:
        recipe = recipes.get(name, QUICK)
        if name not in recipes:
            problems.append(f"no recipe is called {name!r}; known: {', '.join(names)}")
    changes = {}
    for key, text in (overrides or {}).items():
        try:
            changes[key] = parse_field(key, text)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return replace(recipe, **changes)


def _names() -> list[str]:
    return ["quick", "cifar", "table-b", *(n for n in RECIPES if n.startswith("table-b-"))]
