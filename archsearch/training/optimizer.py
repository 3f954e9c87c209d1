"""Optimizer, learning rate schedule and averaged weights."""

import math
from collections.abc import Iterator

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from archsearch.core.recipe import Recipe

SCALE = "rate_scale"
"""The factor of a group's learning rate, among its settings; 1 if there is none."""


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and kernels, not on norms, biases and layer scale.

    Parameters that a module names in ``no_weight_decay()`` are not decayed either, as in timm. A
    name that the module does not have is ignored: timm's networks list optional parameters, too.

    Raises:
        ValueError: the recipe has layer-wise decay, and the network does not name its layers.
    """
    excluded = set(_without_weight_decay(model))
    scales = _rate_scales(model, recipe.layer_decay)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and name not in excluded
            groups.setdefault((scales.get(parameter, 1.0), decays), []).append(parameter)
    settings = [
        {"params": parameters, "weight_decay": recipe.weight_decay * decays}
        | ({} if scale == 1 else {SCALE: scale})
        for (scale, decays), parameters in groups.items()
    ]
    return torch.optim.AdamW(settings, lr=recipe.lr, fused=True)


def _rate_scales(model: nn.Module, decay: float) -> dict[nn.Parameter, float]:
    """The factor of the rate of each parameter of the backbone; 1 for those of a head.

    It is ``decay`` for the last block, its square for the block before, and so on to the stem
    (Bao et al., ICLR 2022).
    """
    if decay == 1:
        return {}
    backbone = getattr(model, "backbone", model)
    layers = getattr(backbone, "layers", None)
    if layers is None:
        raise ValueError(
            f"layer_decay {decay:g} needs a network that names its layers in forward order: "
            f"{type(backbone).__name__} has no layers(), use layer_decay=1"
        )
    return {
        parameter: decay**power
        for power, modules in enumerate(reversed(layers()), 1)
        for module in modules
        for parameter in module.parameters()
    }


def _without_weight_decay(model: nn.Module) -> Iterator[str]:
    """The names that the network and its modules list, as the network names them."""
    for prefix, module in model.named_modules():
        for name in getattr(module, "no_weight_decay", tuple)():
            yield f"{prefix}.{name}" if prefix else name


def learning_rate(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    """Learning rate of optimizer step ``step`` (from 0): linear warm-up, then the schedule.

    Steps and poly count from the first step, as in the released configurations: the warm-up lowers
    the rate that they have at its steps. A cosine begins at the end of the warm-up.
    """
    total = recipe.epochs * steps_per_epoch
    warmup = recipe.warmup_steps or round(recipe.warmup_epochs * steps_per_epoch)
    warmup = min(warmup, total - 1)
    warm = min(1.0, (step + 1) / (warmup + 1))
    if recipe.schedule == "steps":
        drops = sum(step >= epoch * steps_per_epoch for epoch in recipe.lr_drops)
        return float(recipe.lr * warm * 0.1**drops)
    if recipe.schedule == "poly":
        return recipe.lr * warm * (1 - step / total)
    if step < warmup:
        return recipe.lr * (step + 1) / (warmup + 1)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value * group.get(SCALE, 1.0)


def averaged_model(model: nn.Module, recipe: Recipe) -> AveragedModel | None:
    """The exponential moving average of the weights; None if the recipe does not average."""
    if recipe.ema_decay is None:
        return None
    average = get_ema_multi_avg_fn(recipe.ema_decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=average)
