"""A plain residual CNN to hold InternImage against: the same shape with fixed 3x3 grids.

It stands outside `internimage`: a comparison, not a member of the family.
"""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archsearch.core.recipe import Recipe
from archsearch.core.study import Trial
from archsearch.training.augmentation import Pipeline
from archsearch.training.data import load, split
from archsearch.training.evaluation import calibrate, evaluate
from archsearch.training.loader import Batch, epoch_batches, even_parts, reader
from archsearch.training.optimizer import optimizer_of, rate, set_rate
from internimage.config import ModelConfig
from internimage.model import Downsample, Stem

CALIBRATION_BATCHES = 4


class PlainBlock(nn.Module):
    """``x + BN(conv1x1(GELU(BN(convKxK(x)))))``: one window of K per block, as InternImage has."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        pad = kernel_size // 2
        self.conv1 = nn.Conv2d(channels, channels, kernel_size, padding=pad, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.gelu(self.norm1(self.conv1(x)))))
        return x + cast(Tensor, y)


class PlainCNN(nn.Module):
    """Stem, widths, depths, kernel and downsampling of ``config``, with `PlainBlock` inside.

    BatchNorm in evaluation mode acts on each pixel alone, so it adds nothing to a receptive field.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.channels
        self.stem = Stem(c[0])
        self.stages = nn.ModuleList(
            nn.Sequential(*(PlainBlock(c[i], config.kernel_size) for _ in range(config.depths[i])))
            for i in range(4)
        )
        self.downsamples = nn.ModuleList(Downsample(c[i], c[i + 1]) for i in range(3))
        self.classifier = nn.Linear(c[3], config.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, classes)``."""
        return cast(Tensor, self.classifier(self.forward_features(images)[3].mean((2, 3))))

    def forward_features(self, images: Tensor) -> tuple[Tensor, ...]:
        """The four stage maps, NCHW, at strides 4, 8, 16 and 32."""
        x = self.stem(images).permute(0, 3, 1, 2)
        maps = []
        for i, stage in enumerate(self.stages):
            maps.append(stage(x))
            if i < 3:
                x = self.downsamples[i](maps[-1].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return tuple(maps)


def untrained(config: ModelConfig, image: Tensor, seed: int = 0) -> PlainCNN:
    """As initialised; BatchNorm takes its statistics from ``image``, as a first step would."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = PlainCNN(config)
    unused = torch.zeros(len(image), dtype=torch.int64)
    calibrate(model, [(image, unused)], lambda pixels: pixels, nullcontext)
    return model.eval().requires_grad_(False)


def train(trial: Trial) -> tuple[PlainCNN, float | None]:
    """Trained as ``trial`` was, with its data, recipe and seed; and its validation accuracy (%).

    On the CPU in fp32, without weight averaging. The accuracy is None without a validation split.
    """
    recipe, dataset, place = trial.recipe, load(trial.data.name), torch.device("cpu")
    kept, held = split(dataset.train.labels, recipe.val_fraction, recipe.data_fraction)
    indices = torch.from_numpy(kept)
    read = reader(dataset.train, recipe.image_size, place)
    pipeline = Pipeline(recipe, dataset, place)
    with torch.random.fork_rng([]):
        torch.manual_seed(trial.seed)
        model = PlainCNN(trial.variant.config(trial.data.num_classes))
        _fit(model, recipe, pipeline, lambda e: read(_epoch(indices, trial, e)), len(indices))
        first = even_parts(indices, recipe.batch_size)[:CALIBRATION_BATCHES]
        calibrate(model, read(first), pipeline.plain, nullcontext)
    batches = read(even_parts(torch.from_numpy(held), recipe.batch_size))
    score = evaluate(model, batches, pipeline.plain, nullcontext)
    return model.eval().requires_grad_(False), None if score is None else score.accuracy


def _epoch(indices: Tensor, trial: Trial, epoch: int) -> list[Tensor]:
    return epoch_batches(indices, trial.recipe.batch_size, trial.seed, epoch)


def _fit(
    model: PlainCNN,
    recipe: Recipe,
    pipeline: Pipeline,
    batches: Callable[[int], Iterable[Batch]],
    num_images: int,
) -> None:
    """AdamW along the recipe's schedule, through all its epochs."""
    optimizer = optimizer_of(model.train(), recipe)
    steps = -(-num_images // recipe.batch_size)
    for epoch in range(recipe.epochs):
        for step, (pixels, labels) in enumerate(batches(epoch), epoch * steps):
            set_rate(optimizer, rate(step, steps, recipe))
            images, targets = pipeline.augmented(pixels, labels)
            smoothing = recipe.label_smoothing
            loss = F.cross_entropy(model(images), targets, label_smoothing=smoothing)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
