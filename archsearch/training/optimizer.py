"""Optimizer, learning rate schedule and averaged weights."""

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from archsearch.core.recipe import Recipe


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and kernels, not on norms, biases and layer scale."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    assert len(decayed) + len(others) == len(parameters)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)


def learning_rate(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    """Learning rate of optimizer step ``step`` (from 0): linear warm-up, then a cosine to zero."""
    total = recipe.epochs * steps_per_epoch
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), total - 1)
    if step < warmup:
        return recipe.lr * (step + 1) / (warmup + 1)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


def averaged_model(model: nn.Module, recipe: Recipe) -> AveragedModel | None:
    """The exponential moving average of the weights; None if the recipe does not average."""
    if recipe.ema_decay is None:
        return None
    average = get_ema_multi_avg_fn(recipe.ema_decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=average)
