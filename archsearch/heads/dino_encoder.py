"""The part of DINO before its queries: four levels from a backbone's maps, and their encoder.

Shapes: N images, T positions of all levels, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from archsearch.heads.boxes import Size
from archsearch.heads.dino_cost import LEVELS, Sizes
from archsearch.heads.layer_cost import GROUPS

TEMPERATURE = 20
"""Of the sines of the positions."""


@dataclass(frozen=True, eq=False)
class Memory:
    """What the encoder says of the images.

    Args:
        tokens: ``(N, T, C)``.
        valid: ``(N, T)`` bool, false in the padding.
        ratios: ``(N, 4, 2)``, the part of a level's width and height that is no padding.
        shapes: height and width of each level.
    """

    tokens: Tensor
    valid: Tensor
    ratios: Tensor
    shapes: Sequence[Size]

    def levels(self) -> dict[str, Any]:
        """The shapes as the layers of transformers take them."""
        shapes = torch.tensor(self.shapes, device=self.valid.device)
        ends = shapes.prod(1).cumsum(0)
        return {
            "spatial_shapes": shapes,
            "spatial_shapes_list": list(self.shapes),
            "level_start_index": torch.cat((ends.new_zeros(1), ends[:-1])),
        }


class Neck(nn.Module):
    """The last three maps and one of half the sides, all of ``width`` channels."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        *_, last = channels
        self.levels = nn.ModuleList(_unit(nn.Conv2d(c, width, 1, bias=False)) for c in channels[1:])
        self.levels.append(_unit(nn.Conv2d(last, width, 3, 2, 1, bias=False)))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Levels ``(N, width, H, W)`` at strides 8, 16, 32 and 64."""
        inputs = (*maps[1:], maps[-1])
        return [level(x) for level, x in zip(self.levels, inputs, strict=True)]


def _unit(conv: nn.Conv2d) -> nn.Sequential:
    nn.init.xavier_uniform_(conv.weight)
    return nn.Sequential(conv, nn.GroupNorm(GROUPS, conv.out_channels))


class Encoder(nn.Module):
    """Deformable attention among the positions of all levels.

    Args:
        theirs: the module of transformers with the layers.
        config: of the layers.
        sizes: widths and numbers of layers.
    """

    def __init__(self, theirs: Any, config: Any, sizes: Sizes) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(LEVELS, sizes.width))
        self.layers = nn.ModuleList(
            theirs.DeformableDetrEncoderLayer(config) for _ in range(sizes.layers)
        )
        self.positions = theirs.DeformableDetrSinePositionEmbedding(
            sizes.width // 2, temperature=TEMPERATURE, normalize=True
        )
        self.reference_points = theirs.DeformableDetrEncoder.get_reference_points

    def forward(self, levels: Sequence[Tensor], sizes: Sequence[Size], padded: Size) -> Memory:
        """Levels ``(N, C, H, W)`` of images of these sizes, which are padded to one size."""
        masks = [valid_positions(sizes, padded, _size(level)).to(level.device) for level in levels]
        tokens = torch.cat([level.flatten(2).mT for level in levels], 1)
        valid = torch.cat([mask.flatten(1) for mask in masks], 1)
        ratios = torch.stack([_ratios(mask) for mask in masks], 1)
        memory = Memory(tokens, valid, ratios, [_size(level) for level in levels])
        positions = torch.cat(
            [
                self._positions(mask) + embed
                for mask, embed in zip(masks, self.level_embed, strict=True)
            ],
            1,
        )
        points = self.reference_points(tuple(memory.shapes), ratios, device=ratios.device)
        given = {"reference_points": points, **memory.levels()}
        for layer in self.layers:
            tokens = layer(tokens, valid, spatial_position_embeddings=positions, **given)
        return Memory(tokens, valid, ratios, memory.shapes)

    def _positions(self, mask: Tensor) -> Tensor:
        """``(N, h * w, C)`` of a level."""
        shape = (len(mask), 1, *mask.shape[1:])
        sines = self.positions(shape=shape, device=mask.device, dtype=torch.float32, mask=mask)
        return cast(Tensor, sines.flatten(2).mT)


def valid_positions(sizes: Sequence[Size], padded: Size, level: Size) -> Tensor:
    """``(N, h, w)`` bool: which positions of a level start inside the image, not in the padding."""
    inside = []
    for axis in (0, 1):
        starts = torch.arange(level[axis]) * padded[axis] // level[axis]
        inside.append(starts < torch.tensor([size[axis] for size in sizes])[:, None])
    rows, columns = inside
    return rows[:, :, None] & columns[:, None]


def _ratios(mask: Tensor) -> Tensor:
    """``(N, 2)``: the valid part of the width and of the height of a level."""
    return torch.stack((mask[:, 0].float().mean(1), mask[:, :, 0].float().mean(1)), -1)


def _size(level: Tensor) -> Size:
    return cast(Size, tuple(level.shape[2:]))
