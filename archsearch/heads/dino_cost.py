"""Closed-form cost of DINO (Zhang et al., ICLR 2023) and of a composite backbone (Table 4).

The sizes are those of the released configuration; denoising queries, which exist in training only,
are not counted. The package has no such module; the tests derive its parameters from those of the
library transformers' Deformable DETR.
"""

from itertools import combinations

from archsearch.core.cost import FeatureMaps, Tally, conv, linear, norm
from archsearch.heads.layer_cost import attention, deformable_attention, feed_forward, mlp, repeated

WIDTH, HIDDEN, HEADS = 256, 2048, 8
QUERIES, LAYERS, LEVELS = 900, 6, 4


def dino(maps: FeatureMaps, num_classes: int) -> Tally:
    """The cost of DINO without its backbone: neck, encoder, choice of queries and decoder."""
    tokens = sum(level_pixels(maps))
    return neck(maps) + transformer(tokens, num_classes)


def level_pixels(maps: FeatureMaps) -> tuple[int, ...]:
    """Positions of the four levels: the last three maps, and one of half the sides."""
    height, width = maps.sizes[-1]
    return (*maps.pixels[1:], ((height + 1) // 2) * ((width + 1) // 2))


def neck(maps: FeatureMaps) -> Tally:
    """The cost of a convolution without bias and a GroupNorm for each level.

    Those of maps are 1x1; that of the extra level is 3x3, with stride 2, on the last map.
    """
    *areas, extra = level_pixels(maps)
    levels = zip(maps.channels[1:], areas, strict=True)
    parts = (conv(c, WIDTH, 1, area, bias=False) + norm(WIDTH, area) for c, area in levels)
    last = conv(maps.channels[-1], WIDTH, 3, extra, bias=False) + norm(WIDTH, extra)
    return sum(parts, last)


def transformer(tokens: int, num_classes: int) -> Tally:
    """The cost of the encoder, of the choice of queries, and of the decoder with its outputs.

    Queries are chosen by a class and a box of every token. Each decoder layer has its own outputs;
    its boxes are computed twice, to refine the reference points and, after a norm, to predict.
    """
    # An embedding of each level, of each query's content, and of each class for denoising.
    embeddings = Tally(params=(LEVELS + QUERIES + num_classes) * WIDTH)
    chosen = linear(WIDTH, WIDTH, tokens) + norm(WIDTH, tokens)
    chosen += class_output(num_classes, tokens) + box_output(tokens)
    layer = decoder_layer(tokens) + class_output(num_classes, QUERIES)
    layer += repeated(box_output(QUERIES), 2)
    shared = repeated(norm(WIDTH, QUERIES) + positions(), LAYERS)
    return embeddings + chosen + (encoder_layer(tokens) + layer) * LAYERS + shared


def encoder_layer(tokens: int) -> Tally:
    """The cost of deformable attention among all tokens, and of a feed-forward layer."""
    attended = deformable_attention(WIDTH, HEADS, LEVELS, tokens, tokens)
    return attended + feed_forward(WIDTH, HIDDEN, tokens) + norm(WIDTH, tokens) * 2


def decoder_layer(tokens: int) -> Tally:
    """The cost of attention among the queries and to the tokens, and of a feed-forward layer."""
    attended = attention(WIDTH, QUERIES, QUERIES)
    attended += deformable_attention(WIDTH, HEADS, LEVELS, QUERIES, tokens)
    return attended + feed_forward(WIDTH, HIDDEN, QUERIES) + norm(WIDTH, QUERIES) * 3


def class_output(num_classes: int, positions: int) -> Tally:
    """The cost of the logits of the classes."""
    return linear(WIDTH, num_classes, positions)


def box_output(positions: int) -> Tally:
    """The cost of the four numbers of a box."""
    return mlp((WIDTH, WIDTH, WIDTH, 4), positions)


def positions() -> Tally:
    """The cost of a layer's query positions, from the sines of the four numbers of each box."""
    return mlp((2 * WIDTH, WIDTH, WIDTH), QUERIES).as_function()


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
