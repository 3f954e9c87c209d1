"""The two steps of a detector that are one operator in ONNX: suppression and RoIAlign.

Each is an operator of torch, which `torch.export` keeps whole, and a function that writes ONNX's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from archsearch.heads.nms import nms
from archsearch.heads.roi_align import SAMPLES, roi_align

LOWEST = -3.0e38
"""A score that counts, in float32; ONNX leaves out boxes whose score is not above it."""


@torch.library.custom_op("archsearch::kept", mutates_args=())
def kept(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Which boxes ``(G, R)`` of each group `nms` keeps, of those with a finite score.

    Args:
        boxes: ``(G, R, 4)``.
        scores: ``(G, R)``; minus infinity for a box that does not count.
        threshold: IoU above which a box is suppressed.
    """
    result = torch.zeros_like(scores, dtype=torch.bool)
    for group, finite in enumerate(scores.isfinite()):
        members = finite.nonzero()[:, 0]
        chosen = nms(boxes[group, members], scores[group, members], threshold)
        result[group, members[chosen]] = True
    return result


@kept.register_fake
def _(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:  # noqa: ARG001
    return torch.empty_like(scores, dtype=torch.bool)


@torch.library.custom_op("archsearch::roi_align", mutates_args=())
def pooled(
    maps: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, levels: Tensor, side: int
) -> Tensor:
    """`roi_align` of the boxes ``(R, 4)`` of one image, with the level ``(R,)`` of each."""
    del levels  # for ONNX; `roi_align` finds them again
    return roi_align(maps, strides, [boxes], side)


@pooled.register_fake
def _(
    maps: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, levels: Tensor, side: int
) -> Tensor:
    del strides, levels
    return boxes.new_empty(len(boxes), maps[0].shape[1], side, side)


def _non_max_suppression(boxes: Any, scores: Any, threshold: float) -> Any:
    """`kept` as ONNX: the indices that it selects are scattered into zeros."""
    from onnxscript import opset20 as op

    groups, number = scores.shape
    selected = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(scores, op.Constant(value_ints=[1])),
        op.Constant(value_ints=[number]),
        op.Constant(value_floats=[threshold]),
        op.Constant(value_floats=[LOWEST]),
    )
    index = op.Gather(selected, op.Constant(value_ints=[0, 2]), axis=1)
    ones = op.Expand(op.Constant(value_float=1.0), op.Gather(op.Shape(index), [0]))
    zeros = op.ConstantOfShape(op.Constant(value_ints=[groups, number]))
    return op.Cast(op.ScatterND(zeros, index, ones), to=_BOOL)


def _roi_align(
    maps: Sequence[Any], strides: Sequence[int], boxes: Any, levels: Any, side: int
) -> Any:
    """`pooled` as ONNX: every level pools all boxes, and each box takes its own level."""
    from onnxscript import opset20 as op

    images = op.Constant(value_ints=[0] * boxes.shape[0])
    result = None
    for i, (level, stride) in enumerate(zip(maps, strides, strict=True)):
        bins = op.RoiAlign(
            level, boxes, images,
            coordinate_transformation_mode="half_pixel", mode="avg", sampling_ratio=SAMPLES,
            output_height=side, output_width=side, spatial_scale=1 / stride,
        )  # fmt: skip
        is_here = op.Reshape(op.Equal(levels, op.Constant(value_int=i)), [-1, 1, 1, 1])
        result = bins if result is None else op.Where(is_here, bins, result)
    return result


_BOOL = 9
"""ONNX's number of the type."""

OPERATORS: Mapping[Any, Callable[..., Any]] = {
    torch.ops.archsearch.kept.default: _non_max_suppression,
    torch.ops.archsearch.roi_align.default: _roi_align,
}
"""Operator of torch -> what writes it as ONNX."""
