"""Derivatives of the operator in every mode: its kernels for autograd and for vmap.

- First derivatives in reverse mode are native: `dcnv3` calls `dcnv3_backward`.
- The derivatives of `dcnv3_backward` are those of its PyTorch reference.
- In forward mode the PyTorch reference runs, because it propagates tangents.
- vmap merges its dimension with the batch, so that one native call computes all examples.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import TransformType, peek_interpreter_stack
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction

from cuda_ops.reference import vectorized, vectorized_backward


def differentiable(x: Tensor, offset: Tensor, mask: Tensor, *args: Any) -> Tensor:
    """The autograd kernel of `archsearch::dcnv3`."""
    tensors = (x, offset, mask)
    if _in_forward_mode():
        return vectorized(*tensors, *args)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        out: Tensor = _apply(_Forward, *tensors, args)
        return out
    return _below_autograd(*tensors, *args)


def differentiable_backward(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, *args: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """The autograd kernel of `archsearch::dcnv3_backward`; `args` ends with the three needs."""
    tensors = (grad, x, offset, mask)
    if _in_forward_mode():
        return vectorized_backward(*tensors, *args)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        grads: tuple[Tensor, Tensor, Tensor] = _apply(_Backward, *tensors, args)
        return grads
    return _backward_below_autograd(*tensors, *args)


def _in_forward_mode() -> bool:
    """Whether tangents may reach a kernel of the current level of transforms.

    The native kernels would drop them without an error.
    """
    if torch._C._are_functorch_transforms_active():
        return peek_interpreter_stack().key() == TransformType.Jvp
    return forward_ad._current_level >= 0


def _apply(function: type[torch.autograd.Function], *inputs: Any) -> Any:
    """Calls a function at the current level of transforms.

    `Function.apply` itself handles all levels and refuses functions of the older style. A kernel of
    the dispatcher is called once for each level, so a function for one level is right.
    """
    if not torch._C._are_functorch_transforms_active():
        return function.apply(*inputs)  # type: ignore[no-untyped-call]
    with enable_single_level_autograd_function():
        return _for_one_level(function).apply(*inputs)


@functools.cache
def _for_one_level(function: type[torch.autograd.Function]) -> Any:
    methods = {name: staticmethod(getattr(function, name)) for name in ("forward", "backward")}
    return type(function.__name__, (_SingleLevelFunction,), methods)


def _at_next_level(kernel: Callable[..., Any], *inputs: Any) -> Any:
    """Calls a kernel from a function, which has turned derivatives off at every level."""
    if not torch._C._are_functorch_transforms_active():
        return kernel(*inputs)
    with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True):
        return kernel(*inputs)


class _Forward(torch.autograd.Function):
    """The same as `torch.library.register_autograd`, at a quarter of its 50 us per call."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offset: Tensor, mask: Tensor, args: Any) -> Any:
        ctx.save_for_backward(x, offset, mask)
        ctx.args = args
        return _at_next_level(_below_autograd, x, offset, mask, *args)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needs = ctx.needs_input_grad[:3]
        transformed = torch._C._are_functorch_transforms_active()
        # Without a transform there is one level: its kernel is called without the dispatcher.
        call = torch.ops.archsearch.dcnv3_backward if transformed else differentiable_backward
        grads = call(grad, *ctx.saved_tensors, *ctx.args, *needs)
        return (*(g if needed else None for g, needed in zip(grads, needs, strict=True)), None)


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        *tensors, ctx.args = inputs
        ctx.save_for_backward(*tensors)
        return _at_next_level(_backward_below_autograd, *tensors, *ctx.args)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        def reference(*tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return vectorized_backward(*tensors, *ctx.args)

        return (*torch.func.vjp(reference, *ctx.saved_tensors)[1](grads), None)


def _below_autograd(*inputs: Any) -> Tensor:
    with torch._C._AutoDispatchBelowAutograd():
        out: Tensor = torch.ops.archsearch.dcnv3.default(*inputs)
    return out


def _backward_below_autograd(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    with torch._C._AutoDispatchBelowAutograd():
        grads: tuple[Tensor, Tensor, Tensor] = torch.ops.archsearch.dcnv3_backward.default(*inputs)
    return grads


def vmapped(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
    """The vmap rule of `archsearch::dcnv3`."""
    tensors = _merged(info.batch_size, in_dims[:3], inputs[:3])
    out = torch.ops.archsearch.dcnv3.default(*tensors, *inputs[3:])
    return out.unflatten(0, (info.batch_size, -1)), 0


def vmapped_backward(
    info: Any, in_dims: tuple[int | None, ...], *inputs: Any
) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
    """The vmap rule of `archsearch::dcnv3_backward`."""
    tensors = _merged(info.batch_size, in_dims[:4], inputs[:4])
    grads = torch.ops.archsearch.dcnv3_backward.default(*tensors, *inputs[4:])
    needs = inputs[-3:]
    unmerged = (
        gradient.unflatten(0, (info.batch_size, -1)) if needed else gradient
        for gradient, needed in zip(grads, needs, strict=True)
    )
    return tuple(unmerged), tuple(0 if needed else None for needed in needs)


def _merged(
    num_examples: int, in_dims: Sequence[int | None], tensors: Sequence[Tensor]
) -> list[Tensor]:
    """The tensors with vmap's dimension merged into their batch: `(examples * N, ...)`."""
    stacked = (
        tensor.expand(num_examples, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        for tensor, dim in zip(tensors, in_dims, strict=True)
    )
    return [tensor.flatten(0, 1) for tensor in stacked]
