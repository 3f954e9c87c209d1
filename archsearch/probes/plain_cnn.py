"""A plain residual CNN to compare InternImage with: the same shape with fixed sampling grids.

It is not in `internimage`, because it is a comparison and not a member of the family.
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
from archsearch.training.loop import fit
from archsearch.training.state import Training
from internimage.config import ModelConfig
from internimage.model import Downsample, Stem


class PlainBlock(nn.Module):
    """``x + BN(conv1x1(GELU(BN(convKxK(x)))))``: one K x K window per block, as InternImage has."""

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
    """Stem, widths, depths, kernel and downsampling of ``config``, with `PlainBlock` as block.

    BatchNorm in evaluation mode acts on each pixel alone, so it does not widen a receptive field.
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
        """Return logits ``(N, classes)``."""
        return cast(Tensor, self.classifier(self.forward_features(images)[3].mean((2, 3))))

    def forward_features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the four stage maps, NCHW, at strides 4, 8, 16 and 32."""
        x = self.stem(images).permute(0, 3, 1, 2)
        maps = []
        for i, stage in enumerate(self.stages):
            maps.append(stage(x))
            if i < 3:
                x = self.downsamples[i](maps[-1].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return tuple(maps)


@dataclass(frozen=True)
class PlainShape(Family):
    """The plain CNN with the shape of one InternImage, as a family for the training loop."""

    model: ModelConfig

    solved: ClassVar[str] = ""
    switch_names: ClassVar[tuple[str, ...]] = ("model",)

    def build(self, num_classes: int) -> PlainCNN:
        return PlainCNN(replace(self.model, num_classes=num_classes))

    def cost(self, height: int = 224, width: int | None = None, num_classes: int = 1000) -> Cost:
        """Return the InternImage's cost, which is larger: it only bounds a step's memory."""
        return count(replace(self.model, num_classes=num_classes), height, width)


def untrained(config: ModelConfig, image: Tensor) -> PlainCNN:
    """Return an initialized CNN whose BatchNorm has the statistics of ``image``."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = PlainCNN(config)
    calibrate(model, [image], nullcontext)
    return model.eval().requires_grad_(False)


def train(trial: Trial, config: ModelConfig) -> tuple[nn.Module, float | None]:
    """Train a plain CNN with a trial's data, recipe and seed.

    Returns the CNN and its value of the metric that the task chooses by, None without a
    validation split. It trains on the CPU in fp32, without weight averaging.
    """
    recipe = replace(trial.recipe, precision="fp32", ema_decay=None)
    cpu = torch.device("cpu")
    with settings(recipe, cpu):
        training = Training(PlainShape(config), recipe, trial.data, trial.seed, trial.task, cpu)
        fit(training, lambda: False, lambda *_: None, lambda _: None)
    last = training.progress.curve[-1]
    chooses = trial.task.metric(trial.task.ranking_metric)
    return training.model.eval().requires_grad_(False), chooses.value_in(last)
