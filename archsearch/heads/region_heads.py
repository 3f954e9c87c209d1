"""The networks on the pooled maps of a box: its class and deltas, and its mask."""

from typing import cast

from torch import Tensor, nn

from archsearch.heads.boxes import full_precision
from archsearch.heads.fpn import WIDTH

HIDDEN = 1024
"""Width of the linear layers of a box head."""

BOX_SIDE, MASK_SIDE = 7, 14
"""Bins per axis that a box head and a mask head receive; a mask has twice as many."""

NUM_CONVS = 4
"""3x3 convolutions of a mask head, and of a box head that has any."""


class BoxHead(nn.Module):
    """The class of a box, and for every class the deltas of its box.

    Args:
        trunk: maps ``(R, width, 7, 7)`` to features ``(R, hidden)``.
        num_classes: classes of objects; the background has the last logit.
        hidden: number of features.
    """

    def __init__(self, trunk: nn.Module, num_classes: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.trunk, self.num_classes = trunk, num_classes
        self.logits = nn.Linear(hidden, num_classes + 1)
        self.deltas = nn.Linear(hidden, 4 * num_classes)
        trunk.apply(_init_trunk)
        for layer, std in ((self.logits, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, bins: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(R, classes + 1)`` and deltas ``(R, classes, 4)``, in full precision."""
        features = self.trunk(bins)
        logits, deltas = full_precision(self.logits(features)), self.deltas(features)
        return logits, full_precision(deltas).view(len(bins), self.num_classes, 4)


def linear_trunk(width: int = WIDTH, hidden: int = HIDDEN) -> nn.Module:
    """Two linear layers, each with ReLU (Mask R-CNN with FPN)."""
    return nn.Sequential(*_flattened(width, hidden), nn.Linear(hidden, hidden), nn.ReLU())


def conv_trunk(width: int = WIDTH, hidden: int = HIDDEN) -> nn.Module:
    """Four 3x3 convolutions with BatchNorm and ReLU, one linear layer (released cascades)."""
    layers: list[nn.Module] = []
    for _ in range(NUM_CONVS):
        conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, *_flattened(width, hidden))


def _flattened(width: int, hidden: int) -> tuple[nn.Module, ...]:
    return nn.Flatten(), nn.Linear(width * BOX_SIDE**2, hidden), nn.ReLU()


class MaskHead(nn.Sequential):
    """Four 3x3 convolutions, a deconvolution to twice the side, and a mask of every class.

    Maps ``(R, width, 14, 14)`` give logits ``(R, classes, 28, 28)``.
    """

    def __init__(self, num_classes: int, width: int = WIDTH) -> None:
        layers: list[nn.Module] = []
        for _ in range(NUM_CONVS):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        layers += [nn.ConvTranspose2d(width, width, 2, stride=2), nn.ReLU()]
        super().__init__(*layers, nn.Conv2d(width, num_classes, 1))
        self.apply(_init_mask_head)


def _init_trunk(module: nn.Module) -> None:
    """Linear layers uniform by Glorot and Bengio, convolutions normal by He et al."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _init_mask_head(module: nn.Module) -> None:
    """Normal by He et al., with zero biases."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(cast(Tensor, module.bias))
