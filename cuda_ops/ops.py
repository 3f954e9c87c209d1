"""The public function and its operator: schema, shapes, gradients, cost and choice of kernels.

`archsearch::dcnv3` and `archsearch::dcnv3_backward` exist before anything is compiled. The kernels
registered here have the lowest priority in the dispatcher. The first call per device builds or
loads the native library, which registers its own kernels for that device; later calls run those.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from cuda_ops import autograd, native
from cuda_ops.check import require_valid
from cuda_ops.geometry import MACS_PER_SAMPLED_ELEMENT, ConvArgs
from cuda_ops.reference import dcnv3_loops, dcnv3_torch, vectorized, vectorized_backward

_SCHEMA_ARGS = (
    "int groups, int kernel_size, int stride, int padding, int dilation, float offset_scale, "
    "bool remove_center, bool softmax"
)
_library = torch.library.Library("archsearch", "DEF")  # type: ignore[no-untyped-call]
_library.define(  # type: ignore[no-untyped-call]
    f"dcnv3(Tensor x, Tensor offset, Tensor mask, {_SCHEMA_ARGS}) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_library.define(  # type: ignore[no-untyped-call]
    f"dcnv3_backward(Tensor grad, Tensor x, Tensor offset, Tensor mask, {_SCHEMA_ARGS}, "
    "bool needs_x, bool needs_offset, bool needs_mask) -> (Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def dcnv3(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    *,
    groups: int,
    kernel_size: int = 3,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    offset_scale: float = 1.0,
    remove_center: bool = False,
    softmax: bool = False,
    backend: str | None = None,
) -> Tensor:
    """DCNv3 (Eq. 2 of the InternImage paper): a weighted sum of bilinear samples per group.

    Args:
        x: `(N, H, W, C)`, C in `groups` equal parts; float16, bfloat16, float32 or float64.
        offset: `(N, Ho, Wo, groups * P * 2)` in pixels, last axis ordered [group][point][(x, y)];
            in x's dtype, or float32 for a half-precision x. Ho = (H + 2p - d(K-1) - 1)//s + 1,
            P = K*K, or K*K - 1 with `remove_center`. Point k = i*K + j, i over x and j over y.
        mask: `(N, Ho, Wo, groups * P)`, the weight of each point; dtype as for offset.
        offset_scale: multiplies both the kernel's grid and the offset, as in the released models.
        remove_center: leave out the kernel's center (odd kernel_size only).
        softmax: `mask` holds logits, and the call applies the softmax over the P points.
        backend: None uses the native kernel of x's device and falls back to "torch" with one
            warning; "cpu" and "cuda" require the native kernel; "torch" is plain PyTorch on any
            device; "loops" is the definition in float64, for tests.

    Returns:
        `(N, Ho, Wo, C)` in x's dtype. Arithmetic is float32 for half types, else in x's dtype.

    Offset and mask may be slices of one merged projection along its last axis; they are read
    without a copy. Autocast changes nothing: no input is cast, the result has x's dtype, and
    float32 offsets for a bfloat16 x keep their precision.

    Raises:
        ValueError: every wrong shape, dtype, device or argument, with wanted and got; also a wrong
            value of ARCHSEARCH_CUDA_CHECK.
        RuntimeError: `backend` names a native backend that is not usable here.
    """
    args = ConvArgs(
        groups, kernel_size, stride, padding, dilation, float(offset_scale), remove_center, softmax
    )
    require_valid(x, offset, mask, args, backend)
    if backend == "loops":
        return dcnv3_loops(x, offset, mask, args).to(x.dtype)
    if backend == "torch":
        return dcnv3_torch(x, offset, mask, args)
    if backend is not None and not torch.compiler.is_compiling():
        native.require(backend, x.device)
    if offset.dtype != mask.dtype:
        offset, mask = offset.float(), mask.float()
    out: Tensor = torch.ops.archsearch.dcnv3.default(x, offset, mask, *args)
    return out


def _fake(x: Tensor, _offset: Tensor, _mask: Tensor, *args: Any) -> Tensor:
    height, width = ConvArgs(*args).output_size(x.shape[1], x.shape[2])
    return x.new_empty((x.shape[0], height, width, x.shape[3]))


def _fake_backward(
    _grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, *args: Any
) -> tuple[Tensor, Tensor, Tensor]:
    needs = args[len(ConvArgs._fields) :]
    gx, goffset, gmask = (
        tensor.new_empty(tensor.shape if needed else (0,))
        for tensor, needed in zip((x, offset, mask), needs, strict=True)
    )
    return gx, goffset, gmask


def _forward(x: Tensor, offset: Tensor, mask: Tensor, *args: Any) -> Tensor:
    if native.load(x.device):
        out: Tensor = torch.ops.archsearch.dcnv3.default(x, offset, mask, *args)
        return out
    return vectorized(x, offset, mask, *args)


def _backward(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, *args: Any
) -> tuple[Tensor, Tensor, Tensor]:
    if native.load(x.device):
        grads: tuple[Tensor, Tensor, Tensor] = torch.ops.archsearch.dcnv3_backward.default(
            grad, x, offset, mask, *args
        )
        return grads
    return vectorized_backward(grad, x, offset, mask, *args)


def _forward_flops(
    x_shape: Any, _offset_shape: Any, mask_shape: Any, groups: int, *_: Any, **__: Any
) -> int:
    """FLOPs for FlopCounterMode, which counts a multiply-add as two."""
    pixels, points = mask_shape[:-1].numel(), mask_shape[-1] // groups
    flops: int = 2 * MACS_PER_SAMPLED_ELEMENT * pixels * points * x_shape[-1]
    return flops


def _backward_flops(_grad_shape: Any, *args: Any, **_: Any) -> int:
    """Twice the forward, as torch counts a convolution: gradients of x and of the weights."""
    return 2 * _forward_flops(*args)


def dcnv3_macs_handle(inputs: list[Any], outputs: list[Any]) -> int:
    """Multiply-adds for fvcore: `set_op_handle("archsearch::dcnv3", dcnv3_macs_handle)`."""
    points = inputs[2].type().sizes()[-1] // inputs[3].toIValue()
    return MACS_PER_SAMPLED_ELEMENT * int(points) * int(math.prod(outputs[0].type().sizes()))


def _register() -> None:
    for name, fake, kernel, derivative, vmapped in (
        ("dcnv3", _fake, _forward, autograd.differentiable, autograd.vmapped),
        (
            "dcnv3_backward",
            _fake_backward,
            _backward,
            autograd.differentiable_backward,
            autograd.vmapped_backward,
        ),
    ):
        torch.library.register_fake(f"archsearch::{name}", fake, lib=_library)
        _library.impl(name, kernel, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
        _library.impl(name, derivative, "Autograd")  # type: ignore[no-untyped-call]
        torch.library.register_vmap(f"archsearch::{name}", vmapped, lib=_library)
    register_flop_formula(torch.ops.archsearch.dcnv3)(_forward_flops)
    register_flop_formula(torch.ops.archsearch.dcnv3_backward)(_backward_flops)


_register()
