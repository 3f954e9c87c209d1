"""Closed-form memory of a training step, without building the network and without torch.

The model: at its peak a step of AdamW in fp32 holds four numbers per parameter (weight, gradient
and two moments) and every tensor that the forward pass keeps for the backward pass, once however
many operations keep it. Left out: what operations use and free again, the allocator's rounding, and
the first copies of a framework. So it is low by the largest passing tensors, and high where
gradients come to be only after the tensors of their layer are gone.
"""

from dataclasses import dataclass

from archsearch.families.internimage_cost import (
    HEAD_TOKEN_CHANNELS,
    count,
    head_channels,
    map_pixels,
)
from internimage.config import ModelConfig

BYTES = 4
NUMBERS_PER_PARAMETER = 4
LAYER_NORM_STATISTICS = 2


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step: what is there for any batch, and what grows with it."""

    parameter_bytes: int
    kept_bytes: int
    batch_size: int

    @property
    def peak_bytes(self) -> int:
        return self.parameter_bytes + self.kept_bytes

    @property
    def per_image(self) -> float:
        """Peak bytes per image of the batch, as Fig. 4 states memory."""
        return self.peak_bytes / self.batch_size


def step_memory(config: ModelConfig, batch_size: int, image_size: int = 224) -> StepMemory:
    """What a step of ``batch_size`` images holds at its peak, in fp32.

    Raises:
        ValueError: when ``batch_size`` or ``image_size`` is less than 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch size wants at least 1 image, got {batch_size}")
    numbers = NUMBERS_PER_PARAMETER * count(config, image_size).params + merged_weights(config)
    kept = kept_elements(config, image_size)
    return StepMemory(BYTES * numbers, BYTES * kept * batch_size, batch_size)


def merged_weights(config: ModelConfig) -> int:
    """Elements of the offset and mask matrices, which every layer lays out anew as one."""
    layers = zip(config.channels, config.groups, config.depths, strict=True)
    return sum(depth * c * 3 * g * config.points for c, g, depth in layers)


def kept_elements(config: ModelConfig, image_size: int = 224) -> int:
    """Elements that the forward pass keeps for the backward pass, for one image."""
    inner, *pixels = map_pixels(image_size)
    stages = sum(_stage(config, i, pixels[i]) for i in range(4))
    downsampling = sum(
        (config.channels[i] + LAYER_NORM_STATISTICS) * pixels[i] for i in range(1, 4)
    )
    stem = 3 * image_size**2 + _stem(config.channels[0], inner, pixels[0])
    return stem + stages + downsampling + _head(config, pixels)


def _stem(c1: int, inner: int, pixels: int) -> int:
    """The first convolution's map, its norm and its GELU; the second's map."""
    statistics = LAYER_NORM_STATISTICS * (inner + pixels)
    return 3 * (c1 // 2) * inner + c1 * pixels + statistics


def _stage(config: ModelConfig, index: int, pixels: int) -> int:
    """Blocks, extra norms and end norm, and what goes on to the next convolution."""
    c = config.channels[index]
    norms = int(config.stage_end_norm) + (len(config.extra_norm_blocks) if index == 2 else 0)
    per_pixel = config.depths[index] * _block(config, index)
    return pixels * (per_pixel + norms * (c + LAYER_NORM_STATISTICS) + c)


def _block(config: ModelConfig, index: int) -> int:
    """Elements per pixel: operator and MLP, with the inputs of their norms and of layer scale."""
    c, hidden = config.channels[index], config.hidden[index]
    norms = 4 if config.norm == "res-post" else 2
    branch_inputs = 2 * c  # of the layer and of the MLP: read by their first Linears
    norm_inputs = norms * c
    scaled = 0 if config.layer_scale is None else 2 * c
    return (
        _operator(config, index) + 2 * hidden + branch_inputs + norm_inputs + scaled
        + norms * LAYER_NORM_STATISTICS
    )  # fmt: skip


def _operator(config: ModelConfig, index: int) -> int:
    """Elements per pixel of the layer, its input not counted."""
    c, g, p = config.channels[index], config.groups[index], config.points
    unshared = config.operator == "dcnv3-unshared"
    kept = c + 3 * g * p + (p * c if unshared else c)  # projected, offsets and mask, aggregated
    if config.operator == "dcnv3-sigmoid":
        kept += g * p  # the sigmoid's result beside the logits' memory, which the offsets share
    if config.operator != "deformable-attention":
        kept += 3 * c + LAYER_NORM_STATISTICS  # depth-wise convolution, norm, GELU
    if config.center_feature_scale:
        kept += c + g  # what is blended, and the gate
    return kept


def _head(config: ModelConfig, pixels: list[int]) -> int:
    """The attention head's query and what follows it are left out: a few thousand elements."""
    if config.head == "attention":  # tokens, two norms of them, keys and values
        return 5 * HEAD_TOKEN_CHANNELS * pixels[2]
    return 2 * head_channels(config) * pixels[3] + head_channels(config)
