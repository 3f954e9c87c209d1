"""A user-defined family in one file."""

from dataclasses import dataclass

import torch
from torch import nn

from archsearch.core.family import Family


class Block(nn.Module):
    """Residual block ``x + f(x)``, so that deep networks train."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.conv(x))


@dataclass(frozen=True)
class Net(Family):
    width: int
    depth: int

    solved = "depth"

    def rules(self) -> list[str]:
        return [f"width must be even, got {self.width}"] if self.width % 2 else []

    def build(self, num_classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, self.width, 4, 4),
            *(Block(self.width) for _ in range(self.depth)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(self.width, num_classes),
        )
