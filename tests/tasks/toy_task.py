"""A user-defined task in one file: predict the mean brightness of an image, by squared error."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from archsearch.core.metrics import Metric
from archsearch.core.recipe import Recipe
from archsearch.core.task import Batch, Group
from archsearch.tasks.classification import Classification


@dataclass(frozen=True)
class Brightness(Classification):
    """Uses classification's data, batches and augmentation, with its own target, loss and score."""

    ranking_metric: ClassVar[str] = "val_error"
    measures: ClassVar[tuple[str, ...]] = ("error",)
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("val_error", "Validation error", "", False, "metrics", "val_error", digits=4),
        Metric("test_error", "Test error", "", False, "metrics", "test_error", digits=4),
    )
    stored_without_path: ClassVar[bool] = False

    def loss(self, model: nn.Module, batch: Batch, recipe: Recipe) -> tuple[Tensor, Tensor]:
        del recipe
        images = batch[0]
        error = (model(images)[:, 0] - images.mean((1, 2, 3))).square()
        return error.sum(), torch.tensor(float(len(images)))  # a weight that the loop adds up

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], group: Group
    ) -> Mapping[str, float] | None:
        del group  # one process
        errors = [(model(x)[:, 0] - x.mean((1, 2, 3))).square() for x, _ in batches]
        return {"error": float(torch.cat(errors).mean())} if errors else None
