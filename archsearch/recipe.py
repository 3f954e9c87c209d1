"""How a model is trained: everything that changes the numbers, as data."""

from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Recipe:
    """One training recipe. Rates are per optimizer step at ``batch_size`` images.

    ``threads`` is here because CPU sums are only repeatable at a fixed number of threads.
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
    crop: Literal["none", "pad", "resized"] = "none"
    auto_augment: bool = False
    color_jitter: float = 0.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    threads: int = 1
