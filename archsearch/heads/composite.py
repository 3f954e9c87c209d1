"""Two backbones as one (CBNetV2; Liang et al., TIP 2022), which share the stem.

The input of every stage of the second receives the first's map of that stage and its deeper maps,
each of these through a 1x1 convolution. The sum is scaled by a factor per channel that begins at 0,
so that the second begins as it was. `archsearch.heads.dino_cost.composite` counts it.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archsearch.heads.backbone import map_channels

Maps = Sequence[Tensor]
"""Four maps ``(N, C, H, W)``."""


class Composite(nn.Module):
    """A backbone of two, whose maps are those of the second.

    Args:
        first, second: InternImage or ConvNeXt without classifiers, of equal channels, or others
            that name ``levels`` or ``stages`` and ``layers()`` as they do, with stages from
            ``(N, H, W, C)`` to ``(N, H, W, C)``. The second loses its stem.

    Raises:
        ValueError: a backbone does not name its stages, or the channels differ.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        stages, channels = _stages(second), _equal_channels(first, second)
        self.connections = nn.ModuleList(
            Connection(c, channels[i + 1 :]) for i, c in enumerate(channels)
        )
        for connection, stage in zip(self.connections, stages, strict=True):
            stage.register_forward_pre_hook(cast(Connection, connection).added)
        self.first, self.second, self.stem_output = first, second, Given()
        _stem(first).register_forward_hook(self.stem_output.keep)
        _replace(second, _stem(second), self.stem_output)

    def forward(self, images: Tensor) -> Maps:
        """The four maps of the second."""
        return self.both(images)[1]

    def both(self, images: Tensor) -> tuple[Maps, Maps]:
        """The four maps of the first and of the second; a head learns from both."""
        first = self.first(images)
        for i, connection in enumerate(self.connections):
            cast(Connection, connection).maps = first[i:]
        second = self.second(images)
        for connection in self.connections:
            cast(Connection, connection).maps = ()
        self.stem_output.value = None
        return first, second

    def layers(self) -> list[list[nn.Module]]:
        """Both in forward order, for layer-wise decay of the learning rate."""
        both = (cast(Any, backbone).layers() for backbone in (self.first, self.second))
        return [[*one, *other] for one, other in zip(*both, strict=True)]


class Connection(nn.Module):
    """What a stage of ``channels`` channels receives from maps of the other backbone."""

    def __init__(self, channels: int, deeper: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in deeper)
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.maps: Maps = ()

    def added(self, stage: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        """The input of the stage ``(N, H, W, C)`` with what it receives."""
        del stage
        total, *deeper = self.maps
        for conv, x in zip(self.convs, deeper, strict=True):
            total = total + F.interpolate(conv(x), total.shape[2:])
        return inputs[0] + self.gamma * total.permute(0, 2, 3, 1)


class Given(nn.Module):
    """A stem that returns the output of another one."""

    def __init__(self) -> None:
        super().__init__()
        self.value: Tensor | None = None

    def keep(self, stem: nn.Module, inputs: object, output: Tensor) -> None:
        """Keep the output of the other stem."""
        del stem, inputs
        self.value = output

    def forward(self, images: Tensor) -> Tensor:
        """The output of the other stem for these images."""
        del images
        assert self.value is not None
        return self.value


def _stages(backbone: nn.Module) -> Sequence[nn.Module]:
    for name in ("levels", "stages"):
        if hasattr(backbone, name) and hasattr(backbone, "layers"):
            return cast(Sequence[nn.Module], getattr(backbone, name))
    raise ValueError(
        "a composite needs backbones that name their stages (levels or stages, and layers()) as "
        f"InternImage and ConvNeXt do: {type(backbone).__name__} does not"
    )


def _equal_channels(first: nn.Module, second: nn.Module) -> tuple[int, ...]:
    channels, others = map_channels(first), map_channels(second)
    if channels != others:
        raise ValueError(f"a composite needs equal channels, got {channels} and {others}")
    return channels


def _stem(backbone: nn.Module) -> nn.Module:
    return cast(nn.Module, cast(Any, backbone).layers()[0][0])


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for name, child in list(network.named_children()):
        if child is old:
            setattr(network, name, new)
