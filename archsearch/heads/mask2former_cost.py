"""Closed-form cost of Mask2Former (Cheng et al., CVPR 2022) as InternImage-H uses it (Table 5).

The sizes are those of the released configuration.
"""

from dataclasses import dataclass

from archsearch.core.cost import FeatureMaps, Tally, conv, linear, norm
from archsearch.heads.layer_cost import (
    attention,
    check_width,
    deformable_attention,
    feed_forward,
    mlp,
    relu,
    repeated,
)


@dataclass(frozen=True)
class Sizes:
    """``width`` channels everywhere, ``hidden`` in the feed-forward layers; ``heads`` in attention.

    The pixel decoder has ``pixel_layers`` layers, the decoder of the queries ``layers``.

    Raises:
        ValueError: the width is no multiple of 64 and of the heads.
    """

    width: int = 1024
    hidden: int = 4096
    heads: int = 32
    queries: int = 200
    pixel_layers: int = 6
    layers: int = 9

    def __post_init__(self) -> None:
        check_width("Mask2Former", self.width, self.heads)

    @classmethod
    def of_width(cls, width: int) -> "Sizes":
        """The published numbers of layers and queries at another width, with heads of 32."""
        return cls(width=width, hidden=4 * width, heads=max(1, width // 32))


H = Sizes()


def mask2former(maps: FeatureMaps, num_classes: int, sizes: Sizes = H) -> Tally:
    """The cost of Mask2Former without its backbone.

    The convention ``mmcv`` does not count attention, and not the product of queries and pixels that
    makes a mask.
    """
    return pixel_decoder(maps, sizes) + query_decoder(maps, num_classes, sizes)


def pixel_decoder(maps: FeatureMaps, sizes: Sizes) -> Tally:
    """The cost of deformable attention over the last three maps, and of the map of masks."""
    width, finest = sizes.width, maps.pixels[0]
    levels = list(zip(maps.channels, maps.pixels, strict=True))[1:]
    tokens = sum(area for _, area in levels)
    total = Tally(params=len(levels) * width)  # an embedding of each level
    for c, area in levels:
        total += conv(c, width, 1, area) + norm(width, area)
    total += pixel_layer(len(levels), tokens, sizes) * sizes.pixel_layers
    total += conv(maps.channels[0], width, 1, finest, bias=False) + norm(width, finest)
    total += conv(width, width, 3, finest, bias=False) + norm(width, finest)
    return total + relu(width * finest) + conv(width, width, 1, finest)


def pixel_layer(levels: int, tokens: int, sizes: Sizes) -> Tally:
    """The cost of a layer of the pixel decoder."""
    width = sizes.width
    attended = deformable_attention(width, sizes.heads, levels, tokens, tokens)
    return attended + feed_forward(width, sizes.hidden, tokens) + norm(width, tokens) * 2


def query_decoder(maps: FeatureMaps, num_classes: int, sizes: Sizes) -> Tally:
    """The cost of the decoder of the queries, and of a prediction before and after every layer.

    The layers attend to the last three maps in turn, the coarsest first.
    """
    width, queries = sizes.width, sizes.queries
    coarse_first = maps.pixels[:0:-1]
    embeddings = Tally(params=2 * queries * width + len(coarse_first) * width)
    layers = (query_layer(coarse_first[i % len(coarse_first)], sizes) for i in range(sizes.layers))
    prediction = (
        norm(width, queries)
        + mlp((width,) * 4, queries)
        + linear(width, num_classes + 1, queries)
        + Tally(macs=queries * width * maps.pixels[0], activations=queries * maps.pixels[0])
    )
    return sum(layers, embeddings) + repeated(prediction, sizes.layers + 1)


def query_layer(pixels: int, sizes: Sizes) -> Tally:
    """The cost of attention to a map and among the queries, and of a feed-forward layer."""
    width, queries = sizes.width, sizes.queries
    attended = attention(width, queries, pixels) + attention(width, queries, queries)
    return attended + feed_forward(width, sizes.hidden, queries) + norm(width, queries) * 3
