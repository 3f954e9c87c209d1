"""Closed-form cost of an InternImage, without building it and without torch.

Convention, which gives the "#FLOPs" that the paper prints for T to XL: multiply-adds of
convolutions, linear layers and attention (H's head), plus 5 per element that the operator samples
(4 bilinear, 1 modulation), so ``5 * P * C`` per output pixel. Norms, activations, pooling and
softmax are not counted. One image, batch 1.

Each function below is named after the module whose cost it returns (`internimage.model`,
`internimage.dcnv3`, `internimage.operators`); `archsearch.paper.cost_check` checks that the counts
of both are equal integers.
"""

from typing import Any

from archsearch.core.cost import Cost, FeatureMaps, Tally, conv, image_size, linear, norm
from internimage.config import POOLED_CHANNELS, TOKEN_CHANNELS, ModelConfig

MACS_PER_SAMPLE = 5


def count(config: ModelConfig, height: int = 224, width: int | None = None) -> Cost:
    """Parameters, multiply-adds and activations of ``config`` for one image, square by default.

    Raises:
        ValueError: a side of the image is less than 1.
    """
    total = sum(count_parts(config, height, width).values(), Tally())
    return Cost(total.params, total.macs, total.activations, image_size(height, width or height))


def count_parts(
    config: ModelConfig, height: int = 224, width: int | None = None
) -> dict[str, Tally]:
    """The cost of each part, in the order of the forward pass; `count` returns their sum.

    Keys: ``stem``, ``stage1``, ``downsample1``, ... ``stage4``, ``head``, ``classifier`` (the last
    Linear alone).
    """
    pixels = map_pixels(height, width)
    parts = {"stem": stem(config.channels[0], *pixels[:2])}
    for i, area in enumerate(pixels[1:]):
        parts[f"stage{i + 1}"] = stage(config, i, area)
        if i < 3:
            c, c_next = config.channels[i : i + 2]
            parts[f"downsample{i + 1}"] = downsample(c, c_next, pixels[i + 2])
    attention = config.head == "attention"
    head = attention_head if attention else plain_head
    parts["head"] = head(config, *pixels[-2:])
    features = POOLED_CHANNELS if attention else config.plain_head_channels
    parts["classifier"] = linear(features, config.num_classes)
    return parts


def feature_maps(config: ModelConfig, height: int = 224, width: int | None = None) -> FeatureMaps:
    """The four maps, and the cost of the network without its head.

    Raises:
        ValueError: a side of the image is less than 1.
    """
    parts = count_parts(config, height, width)
    backbone = [part for name, part in parts.items() if name not in ("head", "classifier")]
    sizes = map_sides(height, width)[1:]
    return FeatureMaps(config.channels, sizes, sum(backbone, Tally()), parts["stem"])


def count_row(config: ModelConfig, height: int = 224, width: int | None = None) -> dict[str, Any]:
    """The numbers of the network and its cost as one plain row, for JSON and tables."""
    cost = count(config, height, width)
    widths = {c // g for c, g in zip(config.channels, config.groups, strict=True)}
    return {
        "c1": config.channels[0],
        "group_channels": widths.pop() if len(widths) == 1 else None,
        "depths": list(config.depths),
        "widths": list(config.channels),
        "groups": list(config.groups),
        "kernel_size": config.kernel_size,
        "operator": config.operator,
        "num_classes": config.num_classes,
        "image_size": cost.image_size,
        "params": cost.params,
        "macs": cost.macs,
        "activations": cost.activations,
    }


def operator_macs(config: ModelConfig, height: int = 224, width: int | None = None) -> int:
    """The multiply-adds of the operator's samples only, over all blocks."""
    if config.operator == "depthwise":
        return 0
    per_block = (MACS_PER_SAMPLE * config.points * c for c in config.channels)
    stages = zip(map_pixels(height, width)[1:], per_block, config.depths, strict=True)
    return sum(area * macs * depth for area, macs, depth in stages)


def map_pixels(height: int, width: int | None = None) -> tuple[int, int, int, int, int]:
    """Numbers of pixels of the stem's inner map and of the four stages' maps; see `map_sides`."""
    inner, first, second, third, fourth = (h * w for h, w in map_sides(height, width))
    return inner, first, second, third, fourth


def map_sides(height: int, width: int | None = None) -> tuple[tuple[int, int], ...]:
    """Height and width of the stem's inner map and of the four stages' maps.

    Every 3x3 convolution of stride 2 and padding 1 halves a side, rounded up.

    Raises:
        ValueError: a side of the image is less than 1.
    """
    width = height if width is None else width
    if min(height, width) < 1:
        raise ValueError(f"image size must be at least 1 pixel, got {height} x {width}")
    sides = []
    for _ in range(5):
        height, width = (height + 1) // 2, (width + 1) // 2
        sides.append((height, width))
    return tuple(sides)


def stem(c1: int, inner_pixels: int, pixels: int) -> Tally:
    """The cost of two 3x3 convolutions of stride 2, each with a LayerNorm."""
    half = c1 // 2
    first = conv(3, half, 3, inner_pixels) + norm(half, inner_pixels)
    return first + conv(half, c1, 3, pixels) + norm(c1, pixels)


def downsample(c: int, c_next: int, pixels: int) -> Tally:
    """The cost of a 3x3 convolution of stride 2 without bias, and a LayerNorm."""
    return conv(c, c_next, 3, pixels, bias=False) + norm(c_next, pixels)


def stage(config: ModelConfig, index: int, pixels: int) -> Tally:
    """The cost of stage ``index`` (from 0): its blocks, its end norm and H's extra norms."""
    end_norms = int(config.stage_end_norm)
    extra_norms = len(config.extra_norm_blocks) if index == 2 else 0
    blocks = block(config, index, pixels) * config.depths[index]
    return blocks + norm(config.channels[index], pixels) * (end_norms + extra_norms)


def block(config: ModelConfig, index: int, pixels: int) -> Tally:
    """The cost of a block: operator, MLP, norms (twice as many for res-post), layer scale."""
    c = config.channels[index]
    norms = norm(c, pixels) * (4 if config.norm == "res-post" else 2)
    gammas = Tally(params=0 if config.layer_scale is None else 2 * c)
    return core_operator(config, index, pixels) + mlp(config, index, pixels) + norms + gammas


def mlp(config: ModelConfig, index: int, pixels: int) -> Tally:
    c, hidden = config.channels[index], config.hidden[index]
    return linear(c, hidden, pixels) + linear(hidden, c, pixels)


def core_operator(config: ModelConfig, index: int, pixels: int) -> Tally:
    """The cost of the layer that ``config.operator`` names, with its projections."""
    if config.operator == "depthwise":
        return depthwise_conv(config, index, pixels)
    c, g, p = config.channels[index], config.groups[index], config.points
    unshared = config.operator == "dcnv3-unshared"
    sampled = p * c if unshared else c  # elements per pixel that reach the output projection
    samples = MACS_PER_SAMPLE * p * c * pixels
    total = (
        linear(c, c, pixels)
        + linear(c, g * p * 2, pixels)
        + linear(c, g * p, pixels)
        + Tally(macs=samples, activations=sampled * pixels, mmcv=samples)
        + linear(sampled, c, pixels)
    )
    if config.operator != "deformable-attention":  # it computes offsets from the query directly
        total += conv(c, c, config.side_kernel_size, pixels, groups=c) + norm(c, pixels)
    if config.center_feature_scale:
        total += linear(c, g, pixels).as_function()  # as in the released network
    return total


def depthwise_conv(config: ModelConfig, index: int, pixels: int) -> Tally:
    """The cost of a depth-wise convolution between two projections."""
    c = config.channels[index]
    return linear(c, c, pixels) * 2 + conv(c, c, config.kernel_size, pixels, groups=c)


def plain_head(config: ModelConfig, third_pixels: int, pixels: int) -> Tally:
    """The cost of a 1x1 convolution without bias and a BatchNorm; pooling is not counted."""
    del third_pixels
    width = config.plain_head_channels
    return linear(config.channels[3], width, pixels, bias=False) + norm(width)


def attention_head(config: ModelConfig, tokens: int, pixels: int) -> Tally:
    """The cost of H's attention pooling: stages 3 and 4 to tokens, one query over them, LayerNorm.

    Stage 4 passes through a 1x1 convolution to four times the token width (PixelShuffle halves the
    stride), so the number of tokens equals the number of pixels of stage 3.
    """
    c = TOKEN_CHANNELS
    maps = linear(config.channels[2], c, tokens) + linear(config.channels[3], 4 * c, pixels)
    projections = linear(c, c) + linear(c, c, tokens) * 2
    attention = Tally(0, 2 * c * tokens, c)  # query times keys, weights times values
    out = linear(c, POOLED_CHANNELS) + norm(POOLED_CHANNELS)
    return maps + norm(c) * 3 + projections + attention + out
