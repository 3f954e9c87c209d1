"""Operators that are defined by a composition of torch operators, with native kernels for a CPU.

`define` registers an operator and its backward with schema, shapes, derivatives and the torch code
that runs where the native library is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from cuda_ops import native

Composition = Callable[..., Tensor]
Formula = Callable[..., tuple[Tensor, ...]]
_library = torch.library.Library("archsearch", "FRAGMENT")  # type: ignore[no-untyped-call]


def is_transformed() -> bool:
    """Whether a transform of `torch.func` or a tangent may reach the call.

    The native kernels would drop a tangent without an error.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


@dataclass(frozen=True)
class _Operator:
    """An operator of `num_tensors` tensors, followed by numbers."""

    name: str
    num_tensors: int
    composition: Composition

    def call(self, *inputs: Any) -> Tensor:
        out: Tensor = getattr(torch.ops.archsearch, self.name).default(*inputs)
        return out

    def call_backward(self, *inputs: Any) -> tuple[Tensor, ...]:
        """The gradients; `inputs` starts with that of the output."""
        operator = getattr(torch.ops.archsearch, f"{self.name}_backward").default
        grads: tuple[Tensor, ...] = operator(*inputs)
        return grads

    def composed_backward(self, grad: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
        """The gradients by autograd of the composition: they have derivatives in every mode."""
        tensors, numbers = inputs[: self.num_tensors], inputs[self.num_tensors :]
        pullback = torch.func.vjp(lambda *args: self.composition(*args, *numbers), *tensors)[1]
        grads: tuple[Tensor, ...] = pullback(grad)
        return grads

    def differentiable(self, *inputs: Any) -> Tensor:
        """The autograd kernel of the operator."""
        if is_transformed():
            return self.composition(*inputs)
        if _needs_gradient(inputs):
            out: Tensor = _Forward.apply(self, *inputs)  # type: ignore[no-untyped-call]
            return out
        with torch._C._AutoDispatchBelowAutograd():
            return self.call(*inputs)

    def differentiable_backward(self, *inputs: Any) -> tuple[Tensor, ...]:
        """The autograd kernel of the operator's backward."""
        if is_transformed() or _needs_gradient(inputs):
            return self.composed_backward(*inputs)
        with torch._C._AutoDispatchBelowAutograd():
            return self.call_backward(*inputs)


def _needs_gradient(inputs: tuple[Any, ...]) -> bool:
    tensors = (value for value in inputs if isinstance(value, Tensor))
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, operator: _Operator, *inputs: Any) -> Tensor:
        ctx.operator, ctx.numbers = operator, inputs[operator.num_tensors :]
        ctx.save_for_backward(*inputs[: operator.num_tensors])
        with torch._C._AutoDispatchBelowAutograd():
            return operator.call(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = ctx.operator.differentiable_backward(grad, *ctx.saved_tensors, *ctx.numbers)
        return (None, *grads, *(None for _ in ctx.numbers))


def define(
    name: str, signature: str, num_tensors: int, composition: Composition, formula: Formula
) -> None:
    """Defines `archsearch::NAME` and `archsearch::NAME_backward`.

    `composition` computes the operator and `formula` its gradients where there is no native kernel;
    both take the arguments of `signature`, the second after the gradient of the output. Gradients
    have the shapes of the first `num_tensors` arguments, the output that of the first.
    """
    operator = _Operator(name, num_tensors, composition)
    results = ", ".join(["Tensor"] * num_tensors)
    _register(
        f"{name}({signature}) -> Tensor",
        lambda x, *_: x.new_empty(x.shape),
        _native_or(composition, operator.call),
        operator.differentiable,
    )
    _register(
        f"{name}_backward(Tensor grad, {signature}) -> ({results})",
        lambda _grad, *args: tuple(t.new_empty(t.shape) for t in args[:num_tensors]),
        _native_or(formula, operator.call_backward),
        operator.differentiable_backward,
    )


def _register(
    schema: str,
    fake: Callable[..., Any],
    kernel: Callable[..., Any],
    derivative: Callable[..., Any],
) -> None:
    name = schema.partition("(")[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"archsearch::{name}", fake, lib=_library)
    _library.impl(name, kernel, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    _library.impl(name, derivative, "Autograd")  # type: ignore[no-untyped-call]


def _native_or(composition: Callable[..., Any], operator: Callable[..., Any]) -> Callable[..., Any]:
    """Calls the operator again if that loads its native kernel, else the composition."""

    def kernel(*inputs: Any) -> Any:
        return operator(*inputs) if native.load(inputs[0].device) else composition(*inputs)

    return kernel
