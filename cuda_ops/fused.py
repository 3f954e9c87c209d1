"""Chains of operations of the network that a CPU computes in one pass: `side_branch`, `bias_gelu`.

Each is defined by a composition of torch operators. The operators `archsearch::side_branch` and
`archsearch::bias_gelu` compute the same with native CPU kernels, forward and backward, and store
nothing but their inputs; results differ from the composition's in the last digits. The functions
run the composition instead where only it is right or faster: on other devices, without the native
library, under autocast, `torch.compile`, `torch.export`, tracing, `torch.func` and forward mode.
Second derivatives (`create_graph=True`) are those of the composition.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from cuda_ops import composed, native


def side_branch(
    x: Tensor, weight: Tensor, bias: Tensor, norm_weight: Tensor, norm_bias: Tensor, eps: float
) -> Tensor:
    """Depth-wise convolution, LayerNorm over the channels and exact GELU of an NHWC map.

    Args:
        x: `(N, H, W, C)`.
        weight: `(C, 1, K, K)` with an odd K; the padding is K // 2, the stride 1.
        bias, norm_weight, norm_bias: `(C,)`.
        eps: is added to the variance.

    Returns:
        `(N, H, W, C)` in x's dtype.

    Raises:
        ValueError: every wrong shape, with wanted and got.
    """
    _require_shapes(x, weight, bias, norm_weight, norm_bias)
    tensors = (x, weight, bias, norm_weight, norm_bias)
    if runs_native(*tensors):
        out: Tensor = torch.ops.archsearch.side_branch.default(*tensors, eps)
        return out
    return composed_side_branch(*tensors, eps)


def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """Exact GELU of `x + bias`: `(..., C)` and `(C,)` to `(..., C)`."""
    if runs_native(x, bias):
        out: Tensor = torch.ops.archsearch.bias_gelu.default(x, bias)
        return out
    return composed_bias_gelu(x, bias)


def composed_side_branch(
    x: Tensor, weight: Tensor, bias: Tensor, norm_weight: Tensor, norm_bias: Tensor, eps: float
) -> Tensor:
    """The definition of `side_branch`."""
    channels, padding = x.shape[-1], weight.shape[-1] // 2
    conv = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=padding, groups=channels)
    return F.gelu(F.layer_norm(conv.permute(0, 2, 3, 1), (channels,), norm_weight, norm_bias, eps))


def composed_bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """The definition of `bias_gelu`."""
    return F.gelu(x + bias)


def runs_native(*tensors: Tensor) -> bool:
    """Whether `side_branch` and `bias_gelu` of these tensors run the native kernels.

    The first call builds or loads the native library.
    """
    return (
        not (torch.compiler.is_compiling() or torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]
        and all(t.device.type == "cpu" and t.dtype == tensors[0].dtype for t in tensors)
        and tensors[0].is_floating_point()
        and not torch.is_autocast_enabled("cpu")
        and not composed.is_transformed()
        and native.load(tensors[0].device)
    )


def _require_shapes(x: Tensor, weight: Tensor, *vectors: Tensor) -> None:
    channels = x.shape[-1] if x.dim() == 4 else weight.shape[0]
    problems = []
    if x.dim() != 4:
        problems.append(f"x: wanted (N, H, W, C), got shape {tuple(x.shape)}")
    kernel = weight.shape[-1] if weight.dim() else 0
    if weight.shape != (channels, 1, kernel, kernel) or kernel % 2 == 0:
        wanted = f"({channels}, 1, K, K) with an odd K"
        problems.append(f"weight: wanted shape {wanted}, got {tuple(weight.shape)}")
    for name, vector in zip(("bias", "norm_weight", "norm_bias"), vectors, strict=True):
        if vector.shape != (channels,):
            problems.append(f"{name}: wanted shape ({channels},), got {tuple(vector.shape)}")
    if problems:
        raise ValueError("invalid call of side_branch:" + "".join(f"\n  - {p}" for p in problems))


def _side_branch_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor, eps: float
) -> tuple[Tensor, ...]:
    """The gradients by torch's own formulas, where there is no native kernel."""
    channels, padding = x.shape[-1], weight.shape[-1] // 2
    images = x.permute(0, 3, 1, 2)
    conv = F.conv2d(images, weight, bias, padding=padding, groups=channels).permute(0, 2, 3, 1)
    normed, mean, rstd = torch.native_layer_norm(conv, [channels], scale, shift, eps)
    to_norm = torch.ops.aten.gelu_backward(grad, normed)
    to_conv, to_scale, to_shift = torch.ops.aten.native_layer_norm_backward(
        to_norm, conv, [channels], mean, rstd, scale, shift, [True] * 3
    )
    sizes = ([1, 1], [padding, padding], [1, 1], False, [0, 0], channels, [True] * 3)
    to_images, to_weight, to_bias = torch.ops.aten.convolution_backward(
        to_conv.permute(0, 3, 1, 2), images, weight, [channels], *sizes
    )
    to_x = to_images.permute(0, 2, 3, 1).contiguous()
    return to_x, to_weight.contiguous(), to_bias, to_scale, to_shift


def _bias_gelu_backward(grad: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    to_x = torch.ops.aten.gelu_backward(grad, x + bias)
    return to_x.contiguous(), to_x.reshape(-1, bias.shape[0]).sum(0)


_CHANNELS = "Tensor x, Tensor weight, Tensor bias, Tensor norm_weight, Tensor norm_bias"
composed.define(
    "side_branch", f"{_CHANNELS}, float eps", 5, composed_side_branch, _side_branch_backward
)
composed.define("bias_gelu", "Tensor x, Tensor bias", 2, composed_bias_gelu, _bias_gelu_backward)


def _side_branch_flops(x_shape: Any, weight_shape: Any, *_: Any, **__: Any) -> int:
    """FLOPs of the convolution, as torch counts them: a multiply-add is two."""
    flops: int = 2 * x_shape.numel() * weight_shape[-1] ** 2
    return flops


def _side_branch_backward_flops(_grad_shape: Any, *args: Any, **_: Any) -> int:
    return 2 * _side_branch_flops(*args)


register_flop_formula(torch.ops.archsearch.side_branch)(_side_branch_flops)
register_flop_formula(torch.ops.archsearch.side_branch_backward)(_side_branch_backward_flops)
