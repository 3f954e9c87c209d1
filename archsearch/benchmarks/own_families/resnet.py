"""A residual network of four stages. Its block is defined where it is built, to load torch late."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsearch.core.family import Family

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ResNet(Family):
    """Basic blocks of widths (w, 2w, 4w, 8w), ``l1`` in a stage but ``l3`` in the third."""

    width: int
    l1: int
    stem: int
    l3: int

    solved = "l3"

    def build(self, num_classes: int) -> "nn.Module":
        return network(self.stem, self.width, (self.l1, self.l1, self.l3, self.l1), num_classes)


def network(stem: int, width: int, depths: tuple[int, ...], num_classes: int) -> "nn.Module":
    """The network, a map from ``(N, 3, H, W)`` to ``(N, num_classes)``."""
    from torch import Tensor, nn

    class Block(nn.Module):
        """``x + f(x)``, or another width and half the size."""

        def __init__(self, c_in: int, c_out: int) -> None:
            super().__init__()
            stride = 1 if c_in == c_out else 2
            self.branch = nn.Sequential(
                nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(),
                nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out),
            )  # fmt: skip
            same = c_in == c_out
            self.skip = nn.Identity() if same else nn.Conv2d(c_in, c_out, 1, 2, bias=False)
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.relu(self.skip(x) + self.branch(x))
            return y

    layers: list[nn.Module] = [nn.Conv2d(3, stem, 4, 4), nn.BatchNorm2d(stem), nn.ReLU()]
    channels = stem
    for stage, depth in enumerate(depths):
        for _ in range(depth):
            layers.append(Block(channels, channels := width * 2**stage))
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)
    )
