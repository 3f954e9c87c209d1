"""A segmentation task of few lines on the annotated images, with a network of two convolutions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archsearch.core.family import Family
from archsearch.core.metrics import Metric
from archsearch.core.recipe import Recipe
from archsearch.core.task import Batch, Data, Group, Task
from archsearch.scenes import data
from archsearch.scenes.loader import SceneSplits, scene_splits
from archsearch.scenes.mean_iou import annotated_map, confusion, mean_iou, to_original
from archsearch.scenes.scene import IGNORED
from archsearch.scenes.views import SegmentationView


@dataclass(frozen=True)
class ToySegmentation(Task):
    ranking_metric: ClassVar[str] = "val_miou"
    measures: ClassVar[tuple[str, ...]] = ("miou",)
    metrics: ClassVar[tuple[Metric, ...]] = tuple(
        Metric(f"{part}_miou", f"{part} mIoU", "%", True, "metrics", f"{part}_miou")
        for part in ("val", "test")
    )

    def describe(self, name: str, recipe: Recipe) -> Data:
        return data.describe(name, recipe.val_fraction, "label maps")

    def prepare(self, data_: Data, recipe: Recipe, device: torch.device) -> SceneSplits:
        view = SegmentationView(recipe.image_size, recipe.image_size)
        fractions = recipe.val_fraction, recipe.data_fraction
        return scene_splits(data.load_verified(data_), view, *fractions, device)

    def build(self, variant: Family, data: Data, recipe: Recipe) -> nn.Module:  # noqa: ARG002
        return nn.Sequential(
            nn.Conv2d(3, 8, 5, 2, 2), nn.GELU(), nn.Conv2d(8, data.num_classes, 3, 1, 1)
        )

    def loss(self, model: nn.Module, batch: Batch, recipe: Recipe) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        images, targets = batch
        labels = torch.stack([target.label_map for target in targets])
        logits = F.interpolate(model(images), labels.shape[1:], mode="bilinear")
        loss = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        return loss, (labels != IGNORED).sum()

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], group: Group
    ) -> Mapping[str, float] | None:
        total = torch.zeros(11, 11, dtype=torch.int64)
        for images, targets in batches:
            logits = F.interpolate(model(images), images.shape[2:], mode="bilinear")
            for one, target in zip(logits, targets, strict=True):
                labels = to_original(one, target).argmax(0)
                total += confusion(labels, annotated_map(target), 11)
        miou = mean_iou(group.sum(total))["miou"]
        return None if miou is None else {"miou": miou}
