"""Closed-form cost of a network, without building it and without torch.

Convention, which gives the "#FLOPs" that the paper prints for T to XL: multiply-adds of
convolutions, linears and attention (H's head), plus 5 per element the operator samples (4 bilinear,
1 modulation), so ``5 * P * C`` per output pixel. Norms, activations, pooling and softmax are not
counted. One image, batch 1.

Each function below is named after the module whose cost it gives (`internimage.model`,
`internimage.dcnv3`, `internimage.operators`); `archsearch.paper.cost_check` holds the two to
the same integers.
"""

from dataclasses import dataclass
from typing import Any

from internimage.config import ModelConfig

MACS_PER_SAMPLE = 5
HEAD_TOKEN_CHANNELS = 1024
HEAD_OUT_CHANNELS = 768
"""Widths of H's attention pooling (released model)."""


@dataclass(frozen=True)
class Cost:
    """What a network costs at one image size.

    ``params`` are trainable numbers; ``macs`` multiply-adds for one image in the convention of this
    module; ``activations`` the output elements of convolutions, linears, attention and the operator
    for one image.
    """

    params: int
    macs: int
    activations: int
    image_size: int


@dataclass(frozen=True)
class Tally:
    """The cost of one part; parts add up."""

    params: int = 0
    macs: int = 0
    activations: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.params + other.params,
            self.macs + other.macs,
            self.activations + other.activations,
        )

    def __mul__(self, times: int) -> "Tally":
        return Tally(self.params * times, self.macs * times, self.activations * times)


def count(config: ModelConfig, image_size: int = 224) -> Cost:
    """Parameters, multiply-adds and activations of ``config`` for one square image.

    Raises:
        ValueError: when ``image_size`` is less than 1.
    """
    total = sum(count_parts(config, image_size).values(), Tally())
    return Cost(total.params, total.macs, total.activations, image_size)


def count_parts(config: ModelConfig, image_size: int = 224) -> dict[str, Tally]:
    """The same by part, in the order of the forward pass; `count` is their sum.

    Keys: ``stem``, ``stage1``, ``downsample1``, ... ``stage4``, ``head``, ``classifier`` (the last
    Linear alone).
    """
    sides = map_sides(image_size)
    parts = {"stem": stem(config.channels[0], image_size)}
    for i in range(4):
        parts[f"stage{i + 1}"] = stage(config, i, sides[i] ** 2)
        if i < 3:
            c, c_next = config.channels[i : i + 2]
            parts[f"downsample{i + 1}"] = downsample(c, c_next, sides[i + 1] ** 2)
    attention = config.head == "attention"
    parts["head"] = attention_head(config, sides) if attention else plain_head(config, sides)
    features = HEAD_OUT_CHANNELS if attention else head_channels(config)
    parts["classifier"] = linear(features, config.num_classes)
    return parts


def count_row(config: ModelConfig, image_size: int = 224) -> dict[str, Any]:
    """The network and its cost as one plain row, for JSON and tables."""
    cost = count(config, image_size)
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
        "image_size": image_size,
        "params": cost.params,
        "macs": cost.macs,
        "activations": cost.activations,
    }


def operator_macs(config: ModelConfig, image_size: int = 224) -> int:
    """The multiply-adds of the operator's samples alone, over all blocks."""
    pixels = (side**2 for side in map_sides(image_size))
    per_block = (MACS_PER_SAMPLE * config.points * c for c in config.channels)
    return sum(p * m * d for p, m, d in zip(pixels, per_block, config.depths, strict=True))


def map_sides(image_size: int) -> tuple[int, int, int, int]:
    """Side of the four stages' maps: every 3x3 convolution of stride 2, pad 1 halves, rounded up.

    Raises:
        ValueError: when ``image_size`` is less than 1.
    """
    if image_size < 1:
        raise ValueError(f"image size wants at least 1 pixel, got {image_size}")
    first = _half(_half(image_size))
    second = _half(first)
    third = _half(second)
    return first, second, third, _half(third)


def _half(side: int) -> int:
    return (side + 1) // 2


def linear(c_in: int, c_out: int, pixels: int = 1, bias: bool = True) -> Tally:
    """`torch.nn.Linear` over ``pixels`` positions; a 1x1 convolution costs the same."""
    return Tally(c_in * c_out + bias * c_out, c_in * c_out * pixels, c_out * pixels)


def conv(
    c_in: int, c_out: int, kernel: int, pixels: int, groups: int = 1, bias: bool = True
) -> Tally:
    """`torch.nn.Conv2d` with ``pixels`` output positions."""
    weights = c_in // groups * c_out * kernel**2
    return Tally(weights + bias * c_out, weights * pixels, c_out * pixels)


def norm(channels: int) -> Tally:
    """LayerNorm or BatchNorm: a scale and a shift; multiply-adds not counted."""
    return Tally(params=2 * channels)


def stem(c1: int, image_size: int) -> Tally:
    """Two 3x3 convolutions of stride 2 with a LayerNorm each."""
    first = _half(image_size)
    half = c1 // 2
    return (
        conv(3, half, 3, first**2)
        + norm(half)
        + conv(half, c1, 3, _half(first) ** 2)
        + norm(c1)
    )  # fmt: skip


def downsample(c: int, c_next: int, pixels: int) -> Tally:
    """3x3 convolution of stride 2 without bias, and a LayerNorm."""
    return conv(c, c_next, 3, pixels, bias=False) + norm(c_next)


def stage(config: ModelConfig, index: int, pixels: int) -> Tally:
    """The blocks of stage ``index`` (from 0), its end norm and H's extra norms."""
    end_norms = int(config.stage_end_norm)
    extra_norms = len(config.extra_norm_blocks) if index == 2 else 0
    blocks = block(config, index, pixels) * config.depths[index]
    return blocks + norm(config.channels[index]) * (end_norms + extra_norms)


def block(config: ModelConfig, index: int, pixels: int) -> Tally:
    """Operator and MLP, their norms (twice as many with residual-post-norm), layer scale."""
    c = config.channels[index]
    norms = norm(c) * (4 if config.norm == "res-post" else 2)
    gammas = Tally(params=0 if config.layer_scale is None else 2 * c)
    return core_operator(config, index, pixels) + mlp(config, index, pixels) + norms + gammas


def mlp(config: ModelConfig, index: int, pixels: int) -> Tally:
    c, hidden = config.channels[index], config.hidden[index]
    return linear(c, hidden, pixels) + linear(hidden, c, pixels)


def core_operator(config: ModelConfig, index: int, pixels: int) -> Tally:
    """The layer that ``config.operator`` names, with its projections."""
    c, g, p = config.channels[index], config.groups[index], config.points
    unshared = config.operator == "dcnv3-unshared"
    sampled = p * c if unshared else c  # elements per pixel that reach the output projection
    total = (
        linear(c, c, pixels)
        + linear(c, g * p * 2, pixels)
        + linear(c, g * p, pixels)
        + Tally(0, MACS_PER_SAMPLE * p * c * pixels, sampled * pixels)
        + linear(sampled, c, pixels)
    )
    if config.operator != "deformable-attention":  # which reads offsets from the query itself
        total += conv(c, c, config.side_kernel_size, pixels, groups=c) + norm(c)
    if config.center_feature_scale:
        total += linear(c, g, pixels)
    return total


def head_channels(config: ModelConfig) -> int:
    """Width of the plain head: 1.5 C4 (released models)."""
    return int(config.channels[3] * 1.5)


def plain_head(config: ModelConfig, sides: tuple[int, int, int, int]) -> Tally:
    """1x1 convolution without bias, BatchNorm; pooling is free."""
    width = head_channels(config)
    return linear(config.channels[3], width, sides[3] ** 2, bias=False) + norm(width)


def attention_head(config: ModelConfig, sides: tuple[int, int, int, int]) -> Tally:
    """H's attention pooling: stages 3 and 4 to tokens, one query over them, LayerNorm.

    Stage 4 goes through a 1x1 convolution to four times the token width (PixelShuffle halves the
    stride), so there are as many tokens as stage 3 has pixels.
    """
    c = HEAD_TOKEN_CHANNELS
    tokens = sides[2] ** 2
    maps = linear(config.channels[2], c, tokens) + linear(config.channels[3], 4 * c, sides[3] ** 2)
    projections = linear(c, c) + linear(c, c, tokens) * 2
    attention = Tally(0, 2 * c * tokens, c)  # query times keys, weights times values
    out = linear(c, HEAD_OUT_CHANNELS) + norm(HEAD_OUT_CHANNELS)
    return maps + norm(c) * 3 + projections + attention + out
