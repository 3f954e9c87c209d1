"""Image classification: one label per image, cross entropy, top-1 accuracy.

No other module of the training computes accuracy. Importing this module does not import torch.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from archsearch.core.metrics import Metric
from archsearch.core.recipe import Recipe
from archsearch.core.task import Batch, Data, Group, Splits, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from archsearch.training.augmentation import Pipeline
    from archsearch.training.loader import Read


@dataclass(frozen=True)
class Classification(Task):
    """Top-1 classification of the images that `archsearch.training.data.load` reads."""

    ranking_metric: ClassVar[str] = "val_accuracy"
    error: ClassVar[str] = "val_error"
    measures: ClassVar[tuple[str, ...]] = ("accuracy", "loss")
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("val_accuracy", "Validation accuracy", "%", True, "metrics", "val_accuracy"),
        Metric("test_accuracy", "Test accuracy", "%", True, "metrics", "test_accuracy"),
        Metric("val_error", "Validation error", "%", False, "error", "val_accuracy"),
        Metric("test_error", "Test error", "%", False, "error", "test_accuracy"),
        Metric("val_loss", "Validation loss", "", False, "metrics", "val_loss", digits=3),
        Metric("test_loss", "Test loss", "", False, "metrics", "test_loss", digits=3),
    )
    stored_without_path: ClassVar[bool] = True

    def unused(self) -> tuple[str, ...]:
        return "shorter_sides", "longer_side", "anchor_scale", "sampled_boxes"

    def describe(self, name: str, recipe: Recipe) -> Data:
        from archsearch.training.data import describe

        self.check_recipe(recipe)
        return describe(name, recipe.val_fraction)

    def check(self, data: Data) -> None:
        from archsearch.training.data import load_verified

        load_verified(data)

    def prepare(self, data: Data, recipe: Recipe, device: "torch.device") -> Splits:
        from archsearch.training.augmentation import Pipeline
        from archsearch.training.data import load_verified, split
        from archsearch.training.loader import indices, readers

        dataset = load_verified(data)
        train, held_out = split(
            dataset.train.labels, recipe.val_fraction, recipe.data_fraction, dataset.classes
        )
        read, read_test = readers(dataset.train, dataset.test, recipe.image_size, device)
        return LabeledSplits(
            train=indices(train),
            val=indices(held_out),
            test=indices(range(len(dataset.test))),
            reader=read,
            test_reader=read_test,
            pipeline=Pipeline(recipe, dataset, device),
        )

    def loss(
        self, model: "nn.Module", batch: Batch, recipe: Recipe
    ) -> tuple["Tensor", "Tensor | int"]:
        """Cross entropy with the recipe's label smoothing, and the number of images."""
        import torch.nn.functional as F

        images, targets = batch
        smoothing = recipe.label_smoothing
        logits = model(images).float()
        loss = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum")
        return loss, len(images)

    def measure(
        self, model: "nn.Module", batches: Iterable[Batch], group: Group
    ) -> Mapping[str, float] | None:
        """Top-1 accuracy in percent, and the cross entropy per image without label smoothing."""
        import torch

        device = next(iter(model.parameters())).device
        totals = torch.zeros(3, dtype=torch.float64, device=device)
        for images, labels in batches:
            totals += _totals(model(images).float(), labels)
        correct, loss, num_images = group.sum(totals).tolist()
        if not num_images:
            return None
        return {"accuracy": 100 * correct / num_images, "loss": loss / num_images}


def _totals(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """(3,): the number of correct answers, the summed loss and the number of images, in float64."""
    import torch
    import torch.nn.functional as F

    correct = (logits.argmax(-1) == labels).sum()
    loss = F.cross_entropy(logits, labels, reduction="sum")
    images = torch.full_like(correct, len(labels))
    return torch.stack([correct.double(), loss.double(), images.double()])


@dataclass
class LabeledSplits:
    """Splits of labeled images; a batch is uint8 pixels ``(N, C, H, W)`` and labels ``(N,)``."""

    train: "Tensor"
    val: "Tensor"
    test: "Tensor"
    reader: "Read"
    test_reader: "Read"
    pipeline: "Pipeline"

    def read(self, batches: "Sequence[Tensor]", seed: int | None = None) -> Iterator[Batch]:
        """With a seed, images are cropped at random if the recipe uses resized crops."""
        cropped = self.pipeline.recipe.crop == "resized"
        return self.reader(batches, seed if cropped else None)

    def read_test(self, batches: "Sequence[Tensor]") -> Iterator[Batch]:
        return self.test_reader(batches)

    def augmented(self, batch: Batch) -> Batch:
        return self.pipeline.augmented(*batch)

    def plain(self, batch: Batch) -> Batch:
        pixels, labels = batch
        return self.pipeline.plain(pixels), labels

    def parts(self, batch: Batch, num: int) -> Sequence[Batch]:
        images, targets = batch
        return list(zip(images.tensor_split(num), targets.tensor_split(num), strict=True))


CLASSIFICATION = Classification()
