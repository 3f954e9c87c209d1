"""A plain residual CNN to hold InternImage against: the same shape with fixed 3x3 grids.

It stands outside `internimage`: a comparison, not a member of the family.
"""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archsearch.core.cost import Cost
from archsearch.core.family import Family
from archsearch.families.internimage_cost import count
from archsearch.study import Trial
from archsearch.training.batch_norm import calibrate
from archsearch.training.device import settings
from archsearch.training.loop import Training, fit
from internimage.config import ModelConfig
from internimage.model import Downsample, Stem


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


@dataclass(frozen=True)
class PlainShape(Family):
    """The plain CNN of one InternImage's shape, as a family that the training loop can train."""

    model: ModelConfig

    solved: ClassVar[str] = ""
    switch_names: ClassVar[tuple[str, ...]] = ("model",)

    def build(self, num_classes: int) -> PlainCNN:
        return PlainCNN(replace(self.model, num_classes=num_classes))

    def cost(self, height: int = 224, width: int | None = None, num_classes: int = 1000) -> Cost:
        """The InternImage's, which is larger: it only bounds the memory of a step."""
        return count(replace(self.model, num_classes=num_classes), height, width)


def untrained(config: ModelConfig, image: Tensor, seed: int = 0) -> PlainCNN:
    """As initialized; BatchNorm takes its statistics from ``image``, as a first step would."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = PlainCNN(config)
    calibrate(model, [image], nullcontext)
    return model.eval().requires_grad_(False)


def train(trial: Trial, config: ModelConfig) -> tuple[nn.Module, float | None]:
    """Trained as ``trial`` was, with its data, recipe and seed; and what its task chooses by.

    On the CPU in fp32, without weight averaging. The value is None without a validation split.
    """
    recipe = replace(trial.recipe, precision="fp32", ema_decay=None)
    cpu = torch.device("cpu")
    with settings(recipe, cpu):
        training = Training(PlainShape(config), recipe, trial.data, trial.seed, trial.task, cpu)
        fit(training, lambda: False, lambda *_: None, lambda _: None)
    last = training.progress.curve[-1]
    chooses = trial.task.metric(trial.task.chooses)
    return training.model.eval().requires_grad_(False), chooses.of_metrics(last)
