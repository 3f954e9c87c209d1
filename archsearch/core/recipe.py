"""A training recipe: every setting that changes a result, as data. This module imports no torch."""

import difflib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

from archsearch.core.numbers import LARGEST, quoted, whole_number

Precision = Literal["fp32", "bf16", "fp16"]
Crop = Literal["none", "pad", "resized"]
Schedule = Literal["cosine", "steps", "poly"]


@dataclass(frozen=True)
class Recipe:
    """One training recipe: AdamW, linear warm-up, then a cosine schedule to zero.

    ``lr`` is the peak learning rate at ``batch_size`` images per optimizer step. ``layer_scale``
    replaces the initial value of variants that have layer scale; None keeps the variant's value.
    ``ema_decay`` is per step; if it is set, the averaged weights are measured. ``val_fraction`` is
    the fraction of the training split that is held out, ``data_fraction`` the fraction of the rest
    that is trained on. ``auto_augment`` is RandAugment with two operations of magnitude 9.
    ``color_jitter`` is the strength for brightness, contrast and saturation, ``erasing`` a
    probability, ``mixup`` and ``cutmix`` the alpha of their Beta distributions (0 turns them off).
    ``threads`` is part of the recipe because CPU sums only repeat at a fixed number of threads.

    Instead of a cosine, the schedule ``steps`` divides the rate by 10 after each epoch of
    ``lr_drops``, and ``poly`` lowers it linearly to zero. ``warmup_steps`` are optimizer steps of
    warm-up, instead of ``warmup_epochs``. A block's rate is ``layer_decay`` times that of the next
    block. Detectors see images with a shorter side out of ``shorter_sides`` (empty for
    ``image_size``) and a longer side of at most ``longer_side``; the side of their square anchors
    is ``anchor_scale`` strides, and each stage learns from ``sampled_boxes`` per image. With
    ``gradient_checkpointing`` a step stores the input of each block only and computes the rest
    again, which takes less memory and more time and gives the same numbers.

    Raises:
        ValueError: lists every wrong field.
    """

    name: str
    epochs: int
    batch_size: int
    image_size: int
    lr: float
    weight_decay: float = 0.05
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.1
    clip_norm: float = 5.0
    drop_path: float = 0.0
    layer_scale: float | None = None
    ema_decay: float | None = None
    precision: Precision = "fp32"
    val_fraction: float = 0.1
    data_fraction: float = 1.0
    flip: bool = False
    crop: Crop = "none"
    auto_augment: bool = False
    color_jitter: float = 0.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    threads: int = 1
    schedule: Schedule = "cosine"
    lr_drops: tuple[int, ...] = ()
    warmup_steps: int = 0
    layer_decay: float = 1.0
    shorter_sides: tuple[int, ...] = ()
    longer_side: int = 1333
    anchor_scale: float = 8.0
    sampled_boxes: int = 512
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for key in _TUPLES:  # JSON gives lists
            if isinstance(value := getattr(self, key), list):
                object.__setattr__(self, key, tuple(value))
        if problems := _problems(self):
            raise ValueError(f"not a recipe ({self.name}): " + "; ".join(problems))
        for key in _FLOATS:  # 1 and 1.0 must give the same trial identity
            if (value := getattr(self, key)) is not None:
                object.__setattr__(self, key, float(value))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as trials and requests store them.

        Fields that recipes did not always have are left out where they have their default, so that
        older trials keep their identity.
        """
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in vars(self).items()
            if key not in _LATER or value != _LATER[key]
        }


_HINTS: dict[str, Any] = get_type_hints(Recipe)
_CHOICES = {key: get_args(_HINTS[key]) for key in ("precision", "crop", "schedule")}
_OPTIONAL = {key for key, hint in _HINTS.items() if hint == float | None}
_FLOATS = {key for key, hint in _HINTS.items() if hint is float} | _OPTIONAL
_INTS = {key for key, hint in _HINTS.items() if hint is int}
_BOOLS = {key for key, hint in _HINTS.items() if hint is bool}
_TUPLES = {key for key, hint in _HINTS.items() if hint == tuple[int, ...]}
_SETTABLE = tuple(key for key in _HINTS if key != "name")
_LATER = {
    key: getattr(Recipe, key)
    for key in (
        "schedule", "lr_drops", "warmup_steps", "layer_decay", "shorter_sides", "longer_side",
        "anchor_scale", "sampled_boxes", "gradient_checkpointing",
    )
}  # fmt: skip
"""Fields that were added after trials were stored, with their defaults."""


_Range = tuple[Callable[[float], bool], str]


def _at_least(low: float) -> _Range:
    return lambda v: v >= low, f"{low:g} or more"


_POSITIVE: _Range = (lambda v: v > 0, "more than 0")
_SHARE: _Range = (lambda v: 0 <= v < 1, "0 or more, below 1")
_RANGES: dict[str, _Range] = {
    **dict.fromkeys(("epochs", "image_size", "threads"), _at_least(1)),
    **dict.fromkeys(("longer_side", "sampled_boxes", *_TUPLES), _at_least(1)),
    "batch_size": _at_least(2),  # BatchNorm fails for one image with a 1x1 feature map
    **dict.fromkeys(("weight_decay", "warmup_epochs", "warmup_steps"), _at_least(0)),
    **dict.fromkeys(("color_jitter", "mixup", "cutmix"), _at_least(0)),
    **dict.fromkeys(("lr", "clip_norm", "layer_scale", "anchor_scale"), _POSITIVE),
    **dict.fromkeys(("label_smoothing", "drop_path", "val_fraction"), _SHARE),
    "erasing": (lambda v: 0 <= v <= 1, "a probability"),
    "ema_decay": (lambda v: 0 < v < 1, "more than 0, below 1"),
    "layer_decay": (lambda v: 0 < v <= 1, "more than 0, at most 1"),
    "data_fraction": (lambda v: 0 < v <= 1, "more than 0, at most 1"),
}


def _problems(recipe: Recipe) -> list[str]:
    values = {key: getattr(recipe, key) for key in _SETTABLE}
    problems = [p for key, value in values.items() if (p := _field_problem(key, value))]
    if not problems and recipe.warmup_epochs > recipe.epochs:
        problems.append(
            f"warmup_epochs ({recipe.warmup_epochs:g}) exceeds epochs ({recipe.epochs}): lower it"
        )
    if not problems and recipe.warmup_steps and recipe.warmup_epochs:
        problems.append("warmup_steps and warmup_epochs are both set: unset one of them")
    if not problems and (recipe.schedule == "steps") != bool(recipe.lr_drops):
        problems.append(
            f"the schedule {recipe.schedule} has lr_drops {list(recipe.lr_drops)}: steps needs "
            "epochs after which the rate drops, other schedules have none"
        )
    return problems


def _field_problem(key: str, value: object) -> str | None:
    expected = None
    if key in _CHOICES:
        expected = None if value in _CHOICES[key] else f"one of {', '.join(_CHOICES[key])}"
    elif key in _BOOLS:
        expected = None if isinstance(value, bool) else "true or false"
    elif key in _TUPLES:
        expected = _numbers_problem(key, value)
    elif not (value is None and key in _OPTIONAL):
        expected = _number_problem(key, value)
    return expected and f"{key} must be {expected}, got {quoted(value)}"


def _numbers_problem(key: str, value: object) -> str | None:
    if not isinstance(value, tuple):
        return "whole numbers such as 8,11"
    return next((p for one in value if (p := _number_problem(key, one))), None)


def _number_problem(key: str, value: object) -> str | None:
    whole = key in _INTS | _TUPLES
    kinds = int if whole else int | float
    if not isinstance(value, kinds) or isinstance(value, bool):
        return "a whole number" if whole else "a number"
    largest = LARGEST if whole else sys.float_info.max
    if not abs(value) <= largest:  # NaN too
        return f"a finite number, at most {largest:,}" if whole else "a finite number"
    in_range, expected = _RANGES[key]
    return None if in_range(value) else expected


def parse_field(key: str, text: str) -> Any:
    """``text`` converted to the type of field ``key``; `Recipe` checks the range.

    Raises:
        ValueError: the field is unknown, or the text has another type.
    """
    if key not in _SETTABLE:
        near = difflib.get_close_matches(key, _SETTABLE, 1)
        hint = f" (did you mean {near[0]}?)" if near else f"; known: {', '.join(_SETTABLE)}"
        raise ValueError(f"a recipe has no field {key!r}{hint}")
    if key in _OPTIONAL and text.lower() == "none":
        return None
    if key in _BOOLS:
        values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if text.lower() not in values:
            raise ValueError(f"{key} must be true or false, got {text!r}")
        return values[text.lower()]
    if key in _CHOICES:
        return text
    try:
        if key in _TUPLES:
            return tuple(whole_number(part) for part in text.split(",") if part)
        return whole_number(text) if key in _INTS else float(text)
    except ValueError:
        whole = f"a whole number up to {LARGEST:,}"
        expected = f"{whole}, or several (8,11)" if key in _TUPLES else whole
        expected = expected if key in _INTS | _TUPLES else "a number"
        raise ValueError(f"{key} must be {expected}, got {quoted(text)}") from None
