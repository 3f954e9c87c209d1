"""Plain convolutions. Torch is imported in `build`, so that a kept plan does not load it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsearch.core.family import Family

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class CNN(Family):
    """Convolutions of one width and kernel size after a patch embedding."""

    width: int
    kernel: int
    patch: int
    depth: int

    solved = "depth"

    def rules(self) -> list[str]:
        return [] if self.kernel % 2 else [f"kernel must be odd, got {self.kernel}"]

    def build(self, num_classes: int) -> "nn.Module":
        from torch import nn

        layers: list[nn.Module] = [nn.Conv2d(3, self.width, self.patch, self.patch)]
        for _ in range(self.depth):
            conv = nn.Conv2d(self.width, self.width, self.kernel, padding=self.kernel // 2)
            layers += [conv, nn.BatchNorm2d(self.width), nn.ReLU()]
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self.width, num_classes))
        return nn.Sequential(*layers, *head)
