"""Closed-form cost of UperNet, without building it and without torch.

Each function is named after the module of `archsearch.heads.upernet_model` whose cost it returns.
"""

from archsearch.core.cost import FeatureMaps, Tally, conv
from archsearch.heads.layer_cost import conv_unit, pooling

WIDTH = 512
"""Channels of every map in the decoder."""

AUXILIARY_WIDTH = 256
POOLED_SIDES = (1, 2, 3, 6)
AUXILIARY_STAGE = 2


def upernet(maps: FeatureMaps, num_classes: int, width: int = WIDTH) -> Tally:
    """The cost of UperNet without its backbone.

    The auxiliary head has parameters and no further cost: it is used in training only.
    """
    auxiliary_channels = maps.channels[AUXILIARY_STAGE]
    auxiliary = conv_unit(auxiliary_channels, AUXILIARY_WIDTH, 3, 0)
    auxiliary += conv(AUXILIARY_WIDTH, num_classes, 1, 0)
    return decoder(maps, num_classes, width) + auxiliary


def decoder(maps: FeatureMaps, num_classes: int, width: int) -> Tally:
    """The cost of pyramid pooling, laterals, outputs, fusion and classifier."""
    *finer, last = zip(maps.channels, maps.pixels, strict=True)
    total = pyramid_pooling(*last, width)
    for c, area in finer:
        total += conv_unit(c, width, 1, area) + conv_unit(width, width, 3, area)
    finest = maps.pixels[0]
    fusion = conv_unit(len(maps.channels) * width, width, 3, finest)
    return total + fusion + conv(width, num_classes, 1, finest)


def pyramid_pooling(c: int, pixels: int, width: int) -> Tally:
    """The cost of the means over four grids, a 1x1 convolution of each, and the bottleneck."""
    levels = (pooling(c * pixels) + conv_unit(c, width, 1, side**2) for side in POOLED_SIDES)
    bottleneck = conv_unit(c + len(POOLED_SIDES) * width, width, 3, pixels)
    return sum(levels, bottleneck)
