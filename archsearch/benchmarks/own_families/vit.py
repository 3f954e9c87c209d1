"""A vision transformer of torch's own layers, which are imported in `build`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsearch.core.family import Family

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ViT(Family):
    """``depth`` layers of ``heads`` heads, and an MLP ``ratio`` times as wide."""

    heads: int
    head_dim: int
    ratio: int
    patch: int
    depth: int

    solved = "depth"

    def build(self, num_classes: int) -> "nn.Module":
        return network(self.heads, self.head_dim, self.ratio, self.patch, self.depth, num_classes)


def network(
    heads: int, head_dim: int, ratio: int, patch: int, depth: int, num_classes: int
) -> "nn.Module":
    """The network, a map from ``(N, 3, H, W)`` to ``(N, num_classes)``."""
    from torch import Tensor, nn

    class Network(nn.Module):
        """Without position embedding, so that any image size fits."""

        def __init__(self) -> None:
            super().__init__()
            width = heads * head_dim
            self.embed = nn.Conv2d(3, width, patch, patch)
            self.layers = nn.Sequential(
                *(
                    nn.TransformerEncoderLayer(
                        width, heads, ratio * width, batch_first=True, norm_first=True
                    )
                    for _ in range(depth)
                )
            )
            self.head = nn.Linear(width, num_classes)

        def forward(self, images: Tensor) -> Tensor:
            y: Tensor = self.head(self.layers(self.embed(images).flatten(2).mT).mean(1))
            return y

    return Network()
