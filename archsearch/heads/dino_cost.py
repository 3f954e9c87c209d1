"""Closed-form cost of DINO (Zhang et al., ICLR 2023) and of a composite backbone (Table 4).

The sizes are those of the released configuration; denoising queries, which exist in training only,
are not counted. The tests derive the parameters from those of the library transformers' Deformable
DETR, too.
"""

from dataclasses import dataclass
from itertools import combinations

from archsearch.core.cost import FeatureMaps, Tally, conv, linear, norm
from archsearch.heads.layer_cost import (
    attention,
    check_width,
    deformable_attention,
    feed_forward,
    mlp,
    repeated,
)

LEVELS = 4


@dataclass(frozen=True)
class Sizes:
    """``width`` channels everywhere, ``hidden`` in the feed-forward layers; ``heads`` in attention.

    Encoder and decoder have ``layers`` layers each.

    Raises:
        ValueError: the width is no multiple of 64 and of the heads.
    """

    width: int = 256
    hidden: int = 2048
    heads: int = 8
    queries: int = 900
    layers: int = 6

    def __post_init__(self) -> None:
        check_width("DINO", self.width, self.heads)

    @classmethod
    def of_width(cls, width: int) -> "Sizes":
        """The published numbers of layers and queries at another width, with heads of 32."""
        return cls(width=width, hidden=8 * width, heads=max(1, width // 32))


PUBLISHED = Sizes()


def dino(maps: FeatureMaps, num_classes: int, sizes: Sizes = PUBLISHED) -> Tally:
    """The cost of DINO without its backbone: neck, encoder, choice of queries and decoder."""
    tokens = sum(level_pixels(maps))
    return neck(maps, sizes.width) + transformer(tokens, num_classes, sizes)


def level_pixels(maps: FeatureMaps) -> tuple[int, ...]:
    """Positions of the four levels: the last three maps, and one of half the sides."""
    height, width = maps.sizes[-1]
    return (*maps.pixels[1:], ((height + 1) // 2) * ((width + 1) // 2))


def neck(maps: FeatureMaps, width: int = PUBLISHED.width) -> Tally:
    """The cost of a convolution without bias and a GroupNorm for each level.

    Those of maps are 1x1; that of the extra level is 3x3, with stride 2, on the last map.
    """
    *areas, extra = level_pixels(maps)
    levels = zip(maps.channels[1:], areas, strict=True)
    parts = (conv(c, width, 1, area, bias=False) + norm(width, area) for c, area in levels)
    last = conv(maps.channels[-1], width, 3, extra, bias=False) + norm(width, extra)
    return sum(parts, last)


def transformer(tokens: int, num_classes: int, sizes: Sizes = PUBLISHED) -> Tally:
    """The cost of the encoder, of the choice of queries, and of the decoder with its outputs.

    Queries are chosen by a class and a box of every token. Each decoder layer has its own outputs;
    its boxes are computed twice, to refine the reference points and, after a norm, to predict.
    """
    # An embedding of each level, of each query's content, and of each class for denoising.
    width, queries = sizes.width, sizes.queries
    embeddings = Tally(params=(LEVELS + queries + num_classes) * width)
    chosen = linear(width, width, tokens) + norm(width, tokens)
    chosen += linear(width, num_classes, tokens) + box_output(width, tokens)
    layer = decoder_layer(tokens, sizes) + linear(width, num_classes, queries)
    layer += repeated(box_output(width, queries), 2)
    shared = repeated(norm(width, queries) + positions(sizes), sizes.layers)
    return embeddings + chosen + (encoder_layer(tokens, sizes) + layer) * sizes.layers + shared


def encoder_layer(tokens: int, sizes: Sizes) -> Tally:
    """The cost of deformable attention among all tokens, and of a feed-forward layer."""
    width = sizes.width
    attended = deformable_attention(width, sizes.heads, LEVELS, tokens, tokens)
    return attended + feed_forward(width, sizes.hidden, tokens) + norm(width, tokens) * 2


def decoder_layer(tokens: int, sizes: Sizes) -> Tally:
    """The cost of attention among the queries and to the tokens, and of a feed-forward layer."""
    width, queries = sizes.width, sizes.queries
    attended = attention(width, queries, queries)
    attended += deformable_attention(width, sizes.heads, LEVELS, queries, tokens)
    return attended + feed_forward(width, sizes.hidden, queries) + norm(width, queries) * 3


def box_output(width: int, positions: int) -> Tally:
    """The cost of the four numbers of a box."""
    return mlp((width, width, width, 4), positions)


def positions(sizes: Sizes) -> Tally:
    """The cost of a layer's query positions, from the sines of the four numbers of each box."""
    width = sizes.width
    return mlp((2 * width, width, width), sizes.queries).as_function()


def composite(maps: FeatureMaps) -> FeatureMaps:
    """Two such backbones as one (Liang et al., TIP 2022), which share the stem.

    Every map of the second receives all deeper maps of the first, each through a 1x1 convolution,
    and the map of the same stage; the sum is scaled by a factor per channel. That connection
    reproduces H's printed 2.18B; neither the paper nor its supplement describes it.
    """
    levels = list(zip(maps.channels, maps.pixels, strict=True))
    across = [conv(deep, c, 1, area) for (c, _), (deep, area) in combinations(levels, 2)]
    factors = Tally(params=sum(maps.channels))
    cost = maps.cost * 2 + maps.stem * -1 + sum(across, factors)
    return FeatureMaps(maps.channels, maps.sizes, cost, maps.stem)
