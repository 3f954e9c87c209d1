"""Closed-form memory of a training step, without building the network and without torch.

The model: at its peak a step of AdamW in fp32 holds four numbers per parameter (weight, gradient
and two moments) and every tensor that the forward pass keeps for the backward pass, counted once
even if several operations keep it. Not counted: temporary tensors, the allocator's rounding, and
the framework's initial allocations. The prediction is therefore low by the largest temporary
tensors, and high where a gradient is allocated only after the kept tensors of its layer are freed.
On a CPU it is high too: the native kernels of the side branch and the MLP keep only their inputs.
"""

from dataclasses import dataclass

from archsearch.core.numbers import ImageSize, parse_image_size
from archsearch.families.internimage_cost import count, map_pixels
from internimage.config import TOKEN_CHANNELS, ModelConfig

BYTES = 4
NUMBERS_PER_PARAMETER = 4
LAYER_NORM_STATISTICS = 2


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step; only ``kept_bytes`` grow with the batch."""

    parameter_bytes: int
    kept_bytes: int
    batch_size: int

    @property
    def peak_bytes(self) -> int:
        return self.parameter_bytes + self.kept_bytes


def step_memory(config: ModelConfig, batch_size: int, image_size: ImageSize = 224) -> StepMemory:
    """Predicted memory of a step of ``batch_size`` images at its peak, in fp32.

    Raises:
        ValueError: ``batch_size`` or ``image_size`` is less than 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch size must be at least 1 image, got {batch_size}")
    numbers = NUMBERS_PER_PARAMETER * count(config).params + merged_weights(config)
    elements = kept_elements(config, image_size)
    return StepMemory(BYTES * numbers, BYTES * elements * batch_size, batch_size)


def merged_weights(config: ModelConfig) -> int:
    """Elements of the merged offset and mask matrices, which every layer copies into one."""
    if config.operator == "depthwise":
        return 0
    layers = zip(config.channels, config.groups, config.depths, strict=True)
    return sum(depth * c * 3 * g * config.points for c, g, depth in layers)


def kept_elements(config: ModelConfig, image_size: ImageSize = 224) -> int:
    """Elements that the forward pass keeps for the backward pass, for one image."""
    height, width = parse_image_size(image_size)
    inner, *pixels = map_pixels(height, width)
    stages = sum(_stage(config, i, pixels[i]) for i in range(4))
    downsampling = sum(
        (config.channels[i] + LAYER_NORM_STATISTICS) * pixels[i] for i in range(1, 4)
    )
    stem = 3 * height * width + _stem(config.channels[0], inner, pixels[0])
    return stem + stages + downsampling + _head(config, pixels)


def _stem(c1: int, inner: int, pixels: int) -> int:
    """The map of the first convolution, its norm and its GELU; the map of the second."""
    statistics = LAYER_NORM_STATISTICS * (inner + pixels)
    return 3 * (c1 // 2) * inner + c1 * pixels + statistics


def _stage(config: ModelConfig, index: int, pixels: int) -> int:
    """Blocks, extra norms, end norm, and the input of the next convolution."""
    c = config.channels[index]
    norms = int(config.stage_end_norm) + (len(config.extra_norm_blocks) if index == 2 else 0)
    per_pixel = config.depths[index] * _block(config, index)
    return pixels * (per_pixel + norms * (c + LAYER_NORM_STATISTICS) + c)


def _block(config: ModelConfig, index: int) -> int:
    """Elements per pixel of a block: operator and MLP, inputs of norms and of layer scale."""
    c, hidden = config.channels[index], config.hidden[index]
    norms = 4 if config.norm == "res-post" else 2
    branch_inputs = 2 * c  # inputs of the first Linear of the layer and of the MLP
    norm_inputs = norms * c
    scaled = 0 if config.layer_scale is None else 2 * c
    return (
        _operator(config, index) + 2 * hidden + branch_inputs + norm_inputs + scaled
        + norms * LAYER_NORM_STATISTICS
    )  # fmt: skip


def _operator(config: ModelConfig, index: int) -> int:
    """Elements per pixel of the layer without its input."""
    c, g, p = config.channels[index], config.groups[index], config.points
    if config.operator == "depthwise":
        return 2 * c  # projected, convolved
    unshared = config.operator == "dcnv3-unshared"
    elements = c + 3 * g * p + (p * c if unshared else c)  # projected, offsets and mask, aggregated
    if config.operator == "dcnv3-sigmoid":
        elements += g * p  # the sigmoid's result; its logits share memory with the offsets
    if config.operator != "deformable-attention":
        elements += 3 * c + LAYER_NORM_STATISTICS  # depth-wise convolution, norm, GELU
    if config.center_feature_scale:
        elements += c + g  # the blended features, and the gate
    return elements


def _head(config: ModelConfig, pixels: list[int]) -> int:
    """Elements of the head; the attention head's query and later layers, a few thousand elements,
    are not counted."""
    if config.head == "attention":  # tokens, two norms of them, keys and values
        return 5 * TOKEN_CHANNELS * pixels[2]
    return config.plain_head_channels * (2 * pixels[3] + 1)
